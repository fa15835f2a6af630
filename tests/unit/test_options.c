/* The option table, its parser and sizes (shim/options.h). */
#include "../../shim/options.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define GIB (1ull << 30)

/* ---- a made-up environment and machine ---- */

static const char *environment[16]; /* name, value, ..., NULL */
static char complaints[4096];

static const char *fake_getenv(const char *name)
{
    for (const char **p = environment; *p; p += 2)
        if (strcmp(*p, name) == 0)
            return p[1];
    return NULL;
}

static bool fake_backend(const char *name)
{
    return strcmp(name, "mprotect") == 0;
}

static void fake_complain(const char *sentence)
{
    strncat(complaints, sentence, sizeof complaints - strlen(complaints) - 1);
    strncat(complaints, "\n", sizeof complaints - strlen(complaints) - 1);
}

static const struct option_machine machine = {8 * GIB, fake_backend};

static const struct option *option_named(const char *flag)
{
    for (size_t i = 0; i < option_count; i++)
        if (strcmp(option_table[i].flag, flag) == 0)
            return &option_table[i];
    cr_assert_fail("no option %s", flag);
    return NULL;
}

static char why[512];
static struct options options;

static bool set(const char *flag, const char *text)
{
    why[0] = '\0';
    return option_set(&options, option_named(flag), text, &machine, why, sizeof why);
}

static void defaults(void)
{
    options_defaults(&options, fake_getenv);
}

static void read_environment(void)
{
    options_from_environment(&options, fake_getenv, &machine, fake_complain);
}

/* ---- sizes ---- */

Test(size, parses)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } rows[] = {
        {"0", 0},           {"1", 1},
        {"4096", 4096},     {"1k", 1024},
        {"1K", 1024},       {"512M", 512ull << 20},
        {"2g", 2 * GIB},    {"2GiB", 2 * GIB},
        {"2GB", 2 * GIB},   {"3Tib", 3ull << 40},
        {"50%", 4 * GIB},   {"0%", 0},
        {"150%", 12 * GIB}, {"18446744073709551615", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t bytes = 1;
        cr_expect(size_parse(rows[i].text, 8 * GIB, &bytes), "%s", rows[i].text);
        cr_expect_eq(bytes, rows[i].bytes, "%s", rows[i].text);
    }
}

Test(size, refuses)
{
    static const char *const rows[] = {"",          " 1",    "1 ",
                                       "-1",        "+1",    "M",
                                       "1Q",        "1KK",   "1Ki",
                                       "%",         "1%M",   "1M%",
                                       "0x10",      "1.5G",  "18446744073709551616",
                                       "16777216T", "1KiBs", "99999999999999%"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t bytes = 77;
        cr_expect_not(size_parse(rows[i], 8 * GIB, &bytes), "%s", rows[i]);
        cr_expect_eq(bytes, 77, "%s", rows[i]);
    }
}

Test(size, percentages_round_down_without_overflow)
{
    uint64_t bytes;
    cr_assert(size_parse("33%", 1001, &bytes));
    cr_expect_eq(bytes, 330);
    cr_assert(size_parse("100%", UINT64_MAX, &bytes));
    cr_expect_eq(bytes, UINT64_MAX);
    cr_expect_not(size_parse("101%", UINT64_MAX, &bytes));
}

Test(size, formats)
{
    char text[16];
    size_format(3ull << 29, text, sizeof text);
    cr_expect_str_eq(text, "1.5G");
    size_format(3ull << 29, text, 3);
    cr_expect_str_eq(text, "1.");
}

/* ---- the table ---- */

Test(option_table, is_consistent)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        cr_expect_eq(strncmp(o->flag, "--", 2), 0, "%s", o->flag);
        cr_expect_eq(strncmp(o->variable, "VP_", 3), 0, "%s", o->variable);
        cr_expect(*o->help && *o->default_text, "%s", o->flag);
        cr_expect(o->kind != OPTION_SIZE || o->minimum < o->maximum, "%s", o->flag);
        bool in_range = o->default_value >= o->minimum && o->default_value <= o->maximum;
        cr_expect(o->kind != OPTION_SIZE || in_range || o->default_value == 0, "%s", o->flag);
        for (size_t j = 0; j < i; j++) {
            cr_expect_str_neq(o->flag, option_table[j].flag);
            cr_expect_str_neq(o->variable, option_table[j].variable);
        }
    }
}

/* ---- defaults ---- */

Test(options, defaults_without_environment)
{
    defaults();
    cr_expect_eq(options.ram, 0);
    cr_expect_eq(options.threshold, 1ull << 20);
    cr_expect_eq(options.arena, 1ull << 40);
    cr_expect_str_eq(options.spill, "/var/tmp");
    cr_expect_str_eq(options.trap, "auto");
    cr_expect_str_empty(options.stats);
    cr_expect_not(options.lazy || options.summary || options.verbose);
}

Test(options, spill_follows_tmpdir)
{
    environment[0] = "TMPDIR";
    environment[1] = "/scratch/me";
    defaults();
    cr_expect_str_eq(options.spill, "/scratch/me");
    environment[1] = "";
    defaults();
    cr_expect_str_eq(options.spill, "/var/tmp");
}

Test(options, overlong_tmpdir_is_not_cut_into_another_directory)
{
    static char path[2 * OPTION_TEXT_MAX];
    memset(path, 'a', sizeof path - 1);
    environment[0] = "TMPDIR";
    environment[1] = path;
    defaults();
    cr_expect_str_eq(options.spill, "/var/tmp");
}

/* ---- single options ---- */

Test(options, sets_every_kind)
{
    defaults();
    cr_expect(set("--ram", "25%"), "%s", why);
    cr_expect(set("--spill", "/data"), "%s", why);
    cr_expect(set("--trap", "mprotect"), "%s", why);
    cr_expect(set("--lazy", "1"), "%s", why);
    cr_expect(set("--stats", "/tmp/s.%p.json"), "%s", why);
    cr_expect_eq(options.ram, 2 * GIB);
    cr_expect_str_eq(options.spill, "/data");
    cr_expect_str_eq(options.trap, "mprotect");
    cr_expect(options.lazy);
    cr_expect_str_eq(options.stats, "/tmp/s.%p.json");
    cr_expect(set("--lazy", "0"));
    cr_expect(set("--trap", "auto"));
    cr_expect_not(options.lazy);
}

Test(options, refusal_names_option_value_and_what_is_allowed)
{
    defaults();
    cr_expect_not(set("--ram", "12Q"));
    cr_expect_str_eq(why, "--ram: '12Q' is not a size; allowed: a whole number with K, M, G or T, or a percentage, "
                          "from 32M to 128T");
    cr_expect_not(set("--ram", "1M"));
    cr_expect_str_eq(why, "--ram: '1M' is out of range; allowed: 32M to 128T");
    cr_expect_not(set("--trap", "magic"));
    cr_expect_str_eq(why, "--trap: 'magic' is no trap backend of this build; allowed: auto, or a name that "
                          "vprun --doctor lists");
    cr_expect_not(set("--lazy", "yes"));
    cr_expect_str_eq(why, "--lazy: 'yes' is not a switch; allowed: 1 or 0");
    cr_expect_not(set("--spill", ""));
    cr_expect_str_eq(why, "--spill: '' is empty; allowed: a directory");
}

Test(options, refusal_changes_nothing)
{
    struct options before;
    defaults();
    before = options;
    set("--ram", "1");
    set("--trap", "magic");
    set("--spill", "");
    set("--verbose", "2");
    cr_expect_eq(memcmp(&before, &options, sizeof options), 0);
}

Test(options, overlong_text_is_refused)
{
    static char path[OPTION_TEXT_MAX + 1];
    memset(path, 'a', OPTION_TEXT_MAX);
    defaults();
    cr_expect_not(set("--stats", path));
    cr_expect_str_eq(why, "--stats: 1024 bytes are too long; allowed, at most 1023 bytes: a file, or - for stderr");
    path[OPTION_TEXT_MAX - 1] = '\0';
    cr_expect(set("--stats", path));
}

Test(options, errno_is_untouched)
{
    defaults();
    errno = E2BIG;
    set("--ram", "99999999999999999999999");
    set("--ram", "1G");
    cr_expect_eq(errno, E2BIG);
}

/* ---- the environment ---- */

Test(options, environment_is_read)
{
    const char *const given[] = {"VP_RAM", "1G", "VP_LAZY", "1", "VP_STATS", "-", "VP_SPILL", "/data", NULL};
    memcpy(environment, given, sizeof given);
    read_environment();
    cr_expect_eq(options.ram, GIB);
    cr_expect(options.lazy);
    cr_expect_str_eq(options.stats, "-");
    cr_expect_str_eq(options.spill, "/data");
    cr_expect_str_empty(complaints);
}

Test(options, bad_variable_is_named_and_keeps_its_default)
{
    const char *const given[] = {"VP_THRESHOLD", "lots", "VP_RAM", "1G", "VP_TRAP", "", NULL};
    memcpy(environment, given, sizeof given);
    read_environment();
    cr_expect_eq(options.threshold, 1ull << 20);
    cr_expect_eq(options.ram, GIB);
    cr_expect_str_eq(complaints, "VP_THRESHOLD: 'lots' is not a size; allowed: a whole number with K, M, G or T, "
                                 "or a percentage, from 64K to 1T\n");
}

Test(options, percentages_are_noticed)
{
    const char *const given[] = {"VP_RAM", "1G", "VP_STATS", "s.%p.json", NULL};
    memcpy(environment, given, sizeof given);
    cr_expect_not(options_use_percentage(fake_getenv));
    environment[1] = "50%";
    cr_expect(options_use_percentage(fake_getenv));
}
