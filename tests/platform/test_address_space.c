/* Probing, reserving, opening and closing: the arena before it is armed. */
#include "contract.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static void probing_leaves_nothing_behind(void)
{
    struct platform_caps caps;
    char why[200] = "";
    size_t mappings = count_mappings(), descriptors = count_descriptors();
    for (int i = 0; i < 20; i++)
        CHECK_EQ(pf.ops->probe(&caps, why, sizeof why), 0);
    CHECK_EQ(count_mappings(), mappings);
    CHECK_EQ(count_descriptors(), descriptors);
}

/* The reason has to end, and to stay inside the buffer, also where the buffer is too small for it. */
static void a_failed_probe_says_why(void)
{
    if (strncmp(pf.ops->name, "uffd", 4) != 0)
        skip("always works");
    refuse_system_call(SYS_userfaultfd, EPERM);
    refuse_system_call(SYS_openat, EACCES); /* /dev/userfaultfd */
    struct platform_caps caps;
    char why[200];
    for (size_t size = sizeof why; size >= 8; size /= 2) {
        memset(why, 'x', sizeof why);
        CHECK(pf.ops->probe(&caps, why, size) < 0);
        CHECK(memchr(why, 0, size));
        CHECK(strncmp(why, "userfau", 7) == 0);
        for (size_t i = size; i < sizeof why; i++)
            CHECK_EQ(why[i], 'x');
    }
}

/* An arena too small for it is aligned to huge pages only. */
static size_t alignment_of(size_t size) { return size < GIB(2) ? MIB(2) : GIB(1); }

static void everything_is_closed_after_reserve(void)
{
    static const size_t sizes[] = {MIB(256), GIB(1), GIB(64), GIB(1024)};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        start(sizes[i]);
        CHECK_EQ(pf.size, sizes[i]);
        CHECK_EQ(pf.base % alignment_of(pf.size), 0);
        CHECK(pf.page >= os_page_size() && (pf.page & (pf.page - 1)) == 0);
        check_closed(pf.base);
        check_closed(pf.base + pf.size / 2 + 4321);
        check_closed(pf.base + pf.size - 8);
        size_t granule = pf.ops->granule(&pf);
        CHECK(granule >= pf.page && (granule & (granule - 1)) == 0);
        pf.ops->release(&pf);
    }
}

static void limit_address_space(size_t bytes)
{
    CHECK_EQ(setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes}), 0);
}

static void a_limit_on_address_space_shrinks_the_arena(void)
{
    limit_address_space(GIB(12));
    start(GIB(1024));
    CHECK(pf.size <= GIB(6) && pf.size >= GIB(1)); /* half is the program's */
    CHECK_EQ(pf.size & (pf.size - 1), 0);
    check_closed(pf.base + pf.size - 8);
    CHECK(mmap(NULL, GIB(5), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

static void no_room_for_an_arena_is_said(void)
{
    limit_address_space(virtual_bytes() + MIB(100));
    pf.size = GIB(1024);
    errno = 4242;
    CHECK_EQ(pf.ops->reserve(&pf), -ENOMEM);
    CHECK_EQ(errno, 4242);
}

static void release_gives_everything_back(void)
{
    size_t virtual = virtual_bytes(), descriptors = count_descriptors();
    for (int i = 0; i < 3; i++) {
        start_armed(16);
        pf.ops->release(&pf);
    }
    CHECK_EQ(count_descriptors(), descriptors);
    CHECK(virtual_bytes() < virtual + MIB(64));
}

static void open_memory_is_zero_and_writable(void)
{
    start(GIB(4));
    size_t length = 40 * pf.page;
    CHECK_EQ(OP(open, page_at(10), length), 0);
    CHECK_EQ(count_resident(page_at(10), length), 0);
    CHECK(all_zero((void *) page_at(10), length));
    pattern_fill((void *) page_at(10), length, 3);
    CHECK(pattern_is((void *) page_at(10), length, 3));
    CHECK_EQ(trap_count(), 0);
    check_closed(page_at(10) - 8);
    check_closed(page_at(50));
}

static void check_residency_of_every_third(void)
{
    unsigned char vec[100];
    memset(vec, 9, sizeof vec);
    CHECK_EQ(OP(residency, page_at(0), 99 * pf.page, vec), 0);
    for (size_t i = 0; i < 99; i++)
        CHECK_EQ(vec[i], i % 3 == 0);
    CHECK_EQ(vec[99], 9);
    for (size_t i = 0; i < 99; i++) { /* exact, or not known at all */
        uintptr_t found = OP(present_from, page_at(i), (99 - i) * pf.page);
        CHECK(found == page_at(i) || found == page_at((i + 2) / 3 * 3));
    }
}

static void residency_is_what_was_touched(void)
{
    start(GIB(4));
    CHECK_EQ(OP(open, pf.base, 200 * pf.page), 0);
    for (size_t i = 0; i < 99; i += 3)
        store(page_at(i) + pf.page - 8, i); /* the last system page of a larger one */
    check_residency_of_every_third();
    /* A process that may not look at its own page map. */
    CHECK_EQ(prctl(PR_SET_DUMPABLE, 0), 0);
    check_residency_of_every_third();
    refuse_system_call(SYS_openat, ENOENT);
    check_residency_of_every_third();
}

static void populating_gives_every_page_memory(void)
{
    start(GIB(4));
    CHECK_EQ(OP(open, pf.base, 32 * pf.page), 0);
    pattern_fill((void *) page_at(9), pf.page, 9);
    int result = OP(populate, page_at(8), 16 * pf.page);
    if (result == -EINVAL)
        skip("this kernel cannot populate");
    CHECK_EQ(result, 0);
    CHECK_EQ(count_resident(page_at(0), 32 * pf.page), 16);
    CHECK(pattern_is((void *) page_at(9), pf.page, 9));
    CHECK(all_zero((void *) page_at(10), 14 * pf.page));
}

static void residency_sees_huge_pages(void)
{
    start(GIB(4));
    CHECK_EQ(OP(open, pf.base, MIB(8)), 0);
    CHECK_EQ(madvise((void *) pf.base, MIB(8), MADV_HUGEPAGE), 0);
    store(pf.base + MIB(2), 1);
    size_t seen = count_resident(pf.base, MIB(8));
    CHECK(seen == 1 || seen == MIB(2) / pf.page);
}

static void closing_traps_and_returns_memory(void)
{
    start(GIB(4));
    size_t length = MIB(64);
    CHECK_EQ(OP(open, pf.base, 3 * length), 0);
    pattern_fill((void *) pf.base, 3 * length, 5);
    size_t before = resident_bytes();
    CHECK_EQ(OP(close, pf.base + length, length), 0);
    CHECK(resident_bytes() + length - MIB(2) < before);
    check_closed(pf.base + length);
    check_closed(pf.base + 2 * length - 8);
    load(pf.base + length - 8);
    load(pf.base + 2 * length);
    CHECK_EQ(OP(open, pf.base + length, length), 0);
    CHECK_EQ(count_resident(pf.base + length, length), 0);
    CHECK(all_zero((void *) (pf.base + length), length));
    CHECK(pattern_is((void *) pf.base, length, 5));
}

static void closing_works_when_armed(void)
{
    start_armed(64);
    for (size_t i = 0; i < 64; i += 2)
        fill_page(page_at(i), i, true);
    CHECK_EQ(OP(close, page_at(0), 32 * pf.page), 0);
    check_closed(page_at(0));
    check_closed(page_at(1) + 24);
    CHECK(pattern_is((void *) page_at(32), pf.page, 32));
    CHECK_EQ(OP(open, page_at(0), 32 * pf.page), 0);
    CHECK_EQ(count_resident(page_at(0), 32 * pf.page), 0);
    check_read_traps(page_at(0) + 8, heal_zero);
    CHECK(all_zero((void *) page_at(0), pf.page));
}

static void locked_memory_can_be_closed(void)
{
    start(GIB(4));
    CHECK_EQ(OP(open, pf.base, 8 * pf.page), 0);
    pattern_fill((void *) pf.base, 8 * pf.page, 6);
    if (mlock((void *) page_at(2), 2 * pf.page) < 0)
        skip("memory cannot be locked");
    CHECK_EQ(OP(close, page_at(1), 4 * pf.page), 0);
    check_closed(page_at(2));
    CHECK_EQ(OP(open, page_at(1), 4 * pf.page), 0);
    CHECK_EQ(count_resident(page_at(1), 4 * pf.page), 0);
    CHECK(all_zero((void *) page_at(1), 4 * pf.page));
}

/* Each closed range may be a mapping of its own: a program that frees every other block must not run out of them. */
static void closing_scattered_ranges_spares_mappings(void)
{
    start(GIB(64));
    CHECK_EQ(OP(open, pf.base, GIB(16)), 0);
    for (size_t at = 0; at < GIB(16); at += KIB(128)) {
        store(pf.base + at, 7);
        CHECK_EQ(OP(close, pf.base + at, KIB(64)), 0);
    }
    CHECK(count_mappings() < 32000);
    CHECK(mmap(NULL, MIB(1), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    CHECK_EQ(count_resident(pf.base, GIB(16)), 0);
    heal_with(NULL);
    uint64_t value = 0;
    CHECK(!try_read(pf.base + GIB(16) - KIB(128), &value) || value == 0);
}

/* ---- arming that fails ---- */

/* The program goes on without paging: its memory has to work as before. */
static void check_failed_arm(int number)
{
    start(GIB(4));
    CHECK_EQ(OP(open, pf.base, 8 * pf.page), 0);
    store(page_at(0), 5);
    size_t descriptors = count_descriptors();
    refuse_system_call(number, EAGAIN);
    if (OP(arm, &(struct extent){pf.base, 8 * pf.page}, 1) == 0)
        skip("arms without it");
    alarm(5);
    CHECK_EQ(load(page_at(0)), 5);
    store(page_at(1), 6);
    CHECK_EQ(trap_count(), 0);
    CHECK_EQ(count_descriptors(), descriptors);
}

static void no_trap_is_left_where_threads_are_refused(void) { check_failed_arm(SYS_clone); }

static void no_trap_is_left_where_userfaultfd_is_refused(void) { check_failed_arm(SYS_userfaultfd); }

static void no_trap_is_left_where_files_are_refused(void) { check_failed_arm(SYS_openat); }

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(probing_leaves_nothing_behind),
        CASE(a_failed_probe_says_why),
        CASE(everything_is_closed_after_reserve),
        CASE(a_limit_on_address_space_shrinks_the_arena),
        CASE(no_room_for_an_arena_is_said),
        CASE(release_gives_everything_back),
        CASE(open_memory_is_zero_and_writable),
        CASE(residency_is_what_was_touched),
        CASE(populating_gives_every_page_memory),
        CASE(residency_sees_huge_pages),
        CASE(closing_traps_and_returns_memory),
        CASE(closing_works_when_armed),
        CASE(locked_memory_can_be_closed),
        CASE(closing_scattered_ranges_spares_mappings),
        CASE(no_trap_is_left_where_threads_are_refused),
        CASE(no_trap_is_left_where_userfaultfd_is_refused),
        CASE(no_trap_is_left_where_files_are_refused),
        CASES_END,
    };
    return contract_main(argc, argv, cases);
}
