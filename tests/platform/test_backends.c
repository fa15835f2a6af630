/* The list of backends: what the build gives to the other tests is what there is. */
#include "contract.h"

/* As in meson.build. */
static const char *const names[] = {"uffd-signal", "mprotect", "uffd-thread"};

#define COUNT (sizeof names / sizeof *names)

static void every_backend_is_tested(void)
{
    size_t count = 0;
    while (platform_backends[count])
        count++;
    CHECK_EQ(count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        const struct platform_ops *ops = platform_find(names[i]);
        CHECK(ops && strcmp(ops->name, names[i]) == 0);
    }
    CHECK(!platform_find("auto"));
    CHECK(!platform_find(""));
}

static void some_backend_is_for_everybody(void)
{
    struct platform_caps caps;
    char why[200];
    for (size_t i = 0; i < COUNT; i++)
        if (!platform_backends[i]->on_request && platform_backends[i]->probe(&caps, why, sizeof why) == 0 &&
            caps.evicts)
            return;
    CHECK(!"a backend that pages out");
}

static void abilities_come_with_their_functions(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        struct platform_caps caps = {0};
        char why[200] = "";
        const struct platform_ops *ops = platform_backends[i];
        CHECK(ops->reserve && ops->release && ops->open && ops->close && ops->arm && ops->residency && ops->place);
        CHECK(ops->protect && ops->unprotect && ops->peek && ops->drop && ops->move && ops->decode && ops->granule);
        CHECK(ops->fork && ops->populate);
        if (ops->probe(&caps, why, sizeof why) < 0) {
            CHECK(why[0]);
            continue;
        }
        CHECK(!caps.takes || (ops->take && ops->staging_clear));
        printf("  %s:%s%s%s%s%s%s\n", ops->name, caps.evicts ? " evicts" : "", caps.protects ? " protects" : "",
               caps.takes ? " takes" : "", caps.batch_drop ? " batch-drop" : "",
               caps.kernel_faults ? " kernel-faults" : "", caps.move ? " move" : "");
    }
}

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(every_backend_is_tested),
        CASE(some_backend_is_for_everybody),
        CASE(abilities_come_with_their_functions),
        CASES_END,
    };
    return services_main(argc, argv, cases);
}
