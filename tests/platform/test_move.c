/* Moving ranges to other addresses. */
#include "contract.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGES 32

/* Every third page of the range at `first` has content. */
static void fill_thirds(size_t first, size_t pages)
{
    for (size_t i = 0; i < pages; i += 3)
        fill_page(page_at(first + i), i, true);
}

static void touch_thirds(size_t first, size_t pages)
{
    for (size_t i = 0; i < pages; i += 3)
        pattern_fill((void *) page_at(first + i), pf.page, i);
}

/* Those pages are there, untrapped, and no others. */
static void check_thirds(size_t first, size_t pages)
{
    unsigned before = trap_count();
    for (size_t i = 0; i < pages; i++) {
        CHECK_EQ(is_resident(page_at(first + i)), i % 3 == 0);
        if (i % 3 != 0)
            continue;
        CHECK(pattern_is((void *) page_at(first + i), pf.page, i));
        store(page_at(first + i) + 8, load(page_at(first + i) + 8)); /* unprotected */
    }
    CHECK_EQ(trap_count(), before);
}

static void check_watched(size_t first)
{
    check_read_traps(page_at(first + 1), heal_zero);
    check_write_traps(page_at(first + 2) + 16, heal_zero);
    CHECK_EQ(OP(protect, page_at(first), pf.page), 0);
    check_write_traps(page_at(first) + 64, heal_unprotect);
    CHECK_EQ(OP(protect, page_at(first), pf.page), 0);
    CHECK_EQ(OP(drop, &(struct extent){page_at(first), pf.page}, 1), 0);
    check_read_traps(page_at(first), heal_zero);
    CHECK(all_zero((void *) page_at(first), pf.page));
}

static void check_source_can_be_used_again(size_t first, size_t pages, bool armed)
{
    CHECK_EQ(OP(close, page_at(first), pages * pf.page), 0);
    check_closed(page_at(first));
    check_closed(page_at(first + pages) - 8);
    CHECK_EQ(OP(open, page_at(first), pages * pf.page), 0);
    CHECK_EQ(count_resident(page_at(first), pages * pf.page), 0);
    if (armed)
        check_read_traps(page_at(first), heal_zero);
    CHECK(all_zero((void *) page_at(first), pf.page));
}

static void move_pages(size_t from, size_t to, size_t pages)
{
    CHECK_EQ(OP(open, page_at(to), pages * pf.page), 0);
    CHECK_EQ(OP(move, page_at(from), page_at(to), pages * pf.page), 0);
}

static void unarmed_pages_move(void)
{
    start(GIB(16));
    CHECK_EQ(OP(open, pf.base, PAGES * pf.page), 0);
    touch_thirds(0, PAGES);
    move_pages(0, 1000, PAGES);
    check_thirds(1000, PAGES);
    check_source_can_be_used_again(0, PAGES, false);
    check_thirds(1000, PAGES);
}

static void armed_pages_move(void)
{
    start_armed(PAGES);
    fill_thirds(0, PAGES);
    move_pages(0, 1000, PAGES);
    check_thirds(1000, PAGES);
    check_watched(1000);
    check_source_can_be_used_again(0, PAGES, true);
}

static void protected_pages_arrive_unprotected(void)
{
    start_armed(PAGES);
    fill_thirds(0, PAGES);
    CHECK_EQ(OP(protect, page_at(0), PAGES * pf.page), 0);
    move_pages(0, 1000, PAGES);
    check_thirds(1000, PAGES);
    check_watched(1000);
}

/* Present since before arming, and not touched after it. */
static void pages_from_before_arming_move(void)
{
    start(GIB(16));
    CHECK_EQ(OP(open, pf.base, PAGES * pf.page), 0);
    touch_thirds(0, PAGES);
    CHECK_EQ(OP(arm, &(struct extent){pf.base, PAGES * pf.page}, 1), 0);
    move_pages(0, 1000, PAGES);
    check_thirds(1000, PAGES);
    check_watched(1000);
}

static void a_moved_range_moves_again(void)
{
    start_armed(PAGES);
    fill_thirds(0, PAGES);
    for (size_t i = 0; i < 50; i++) {
        size_t from = i % 2 ? 1000 : 0, to = 1000 - from;
        move_pages(from, to, PAGES);
        CHECK_EQ(OP(close, page_at(from), PAGES * pf.page), 0);
    }
    check_thirds(0, PAGES);
    check_watched(0);
}

/* The middle of a mapping moves into the middle of another one: what is around them stays, and stays watched. */
static void neighbours_stay(void)
{
    start_armed(3 * PAGES);
    fill_thirds(0, 3 * PAGES);
    CHECK_EQ(OP(open, page_at(1000), 3 * PAGES * pf.page), 0);
    fill_page(page_at(1000), 1000, true);
    CHECK_EQ(OP(move, page_at(PAGES), page_at(1000 + PAGES), PAGES * pf.page), 0);
    for (size_t i = 0; i < 3 * PAGES; i += 3) {
        uintptr_t page = i / PAGES == 1 ? page_at(1000 + i) : page_at(i);
        CHECK(pattern_is((void *) page, pf.page, i));
    }
    CHECK(pattern_is((void *) page_at(1000), pf.page, 1000));
    CHECK_EQ(trap_count(), 0);
    CHECK_EQ(OP(close, page_at(PAGES), PAGES * pf.page), 0);
    check_read_traps(page_at(1), heal_zero);
    check_read_traps(page_at(3 * PAGES - 1), heal_zero);
    check_read_traps(page_at(1001), heal_zero);
    check_read_traps(page_at(1000 + 2 * PAGES), heal_zero);
    check_read_traps(page_at(1000 + 3 * PAGES - 1), heal_zero);
}

static void check_around(size_t first)
{
    check_read_traps(page_at(first - 1), heal_zero);
    check_read_traps(page_at(first - PAGES), heal_zero);
    check_read_traps(page_at(first + PAGES), heal_zero);
    check_write_traps(page_at(first + 2 * PAGES - 1), heal_zero);
}

/* Where the kernel joins what arrives with its neighbours, these have to stay watched. */
static void neighbours_of_an_empty_range_stay_watched(void)
{
    start_armed(PAGES);
    CHECK_EQ(OP(open, page_at(1000 - PAGES), 3 * PAGES * pf.page), 0);
    CHECK_EQ(OP(move, page_at(0), page_at(1000), PAGES * pf.page), 0);
    check_around(1000);
    check_read_traps(page_at(1000), heal_zero);
}

static void neighbours_stay_watched_when_a_range_comes_back(void)
{
    start_armed(3 * PAGES);
    fill_thirds(PAGES, PAGES);
    move_pages(PAGES, 1000, PAGES);
    CHECK_EQ(OP(close, page_at(PAGES), PAGES * pf.page), 0);
    move_pages(1000, PAGES, PAGES);
    check_thirds(PAGES, PAGES);
    check_around(PAGES);
}

/* ---- large and sparse ---- */

static void check_sparse_move(bool armed)
{
    start(GIB(16));
    size_t pages = GIB(1) / pf.page, step = pages / 128;
    CHECK_EQ(OP(open, page_at(0), GIB(1)), 0);
    CHECK_EQ(OP(open, page_at(2 * pages), GIB(1)), 0);
    if (armed)
        CHECK_EQ(OP(arm, &(struct extent){pf.base, GIB(1)}, 1), 0);
    for (size_t i = 0; i < pages; i += step) {
        if (armed)
            fill_page(page_at(i), i, true);
        else
            pattern_fill((void *) page_at(i), pf.page, i);
    }
    uint64_t before = milliseconds();
    CHECK_EQ(OP(move, page_at(0), page_at(2 * pages), GIB(1)), 0);
    CHECK(milliseconds() - before < 10000); /* page by page it would be minutes; the machine may be busy */
    CHECK_EQ(count_resident(page_at(2 * pages), GIB(1)), 128);
    for (size_t i = 0; i < pages; i += step)
        CHECK(pattern_is((void *) page_at(2 * pages + i), pf.page, i));
    CHECK_EQ(trap_count(), 0);
}

static void a_sparse_gigabyte_moves_at_once(void) { check_sparse_move(false); }

static void an_armed_sparse_gigabyte_moves_at_once(void) { check_sparse_move(true); }

/* ---- ranges of several mappings ---- */

static size_t mappings_between(uintptr_t start, uintptr_t end)
{
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps);
    for (unsigned long from, to; fscanf(maps, "%lx-%lx%*[^\n]", &from, &to) == 2;)
        count += from < end && to > start;
    fclose(maps);
    return count;
}

/* The kernel joins neighbours only if they are alike, and if their pages have a common history: here both ends are
 * touched before the middle, and the middle differs in a flag, as after any madvise() of the program's. */
static void open_in_pieces(size_t pages)
{
    CHECK_EQ(OP(open, page_at(0), pages * pf.page), 0);
    CHECK_EQ(OP(open, page_at(2 * pages), pages * pf.page), 0);
    touch_thirds(0, pages);
    for (size_t i = (3 - 2 * pages % 3) % 3; i < pages; i += 3)
        pattern_fill((void *) page_at(2 * pages + i), pf.page, 2 * pages + i);
    CHECK_EQ(OP(open, page_at(pages), pages * pf.page), 0);
    CHECK_EQ(madvise((void *) page_at(pages), pages * pf.page, MADV_DONTDUMP), 0);
    for (size_t i = (3 - pages % 3) % 3; i < pages; i += 3)
        pattern_fill((void *) page_at(pages + i), pf.page, pages + i);
    CHECK(mappings_between(page_at(0), page_at(3 * pages)) > 1);
}

static void several_unarmed_mappings_move(void)
{
    start(GIB(16));
    open_in_pieces(PAGES);
    move_pages(0, 1000, 3 * PAGES);
    check_thirds(1000, 3 * PAGES);
}

static void several_armed_mappings_move(void)
{
    start(GIB(16));
    open_in_pieces(PAGES);
    CHECK_EQ(OP(arm, &(struct extent){pf.base, 3 * PAGES * pf.page}, 1), 0);
    CHECK_EQ(OP(unprotect, page_at(0), 3 * PAGES * pf.page), 0);
    size_t resident = count_resident(page_at(0), 3 * PAGES * pf.page);
    move_pages(0, 1000, 3 * PAGES);
    CHECK_EQ(count_resident(page_at(1000), 3 * PAGES * pf.page), resident);
    for (size_t i = 0; i < 3 * PAGES; i += 3)
        CHECK(pattern_is((void *) page_at(1000 + i), pf.page, i));
    CHECK_EQ(trap_count(), 0);
}

/* Targets of several mappings are as common as sources. */
static void several_mappings_are_moved_into(void)
{
    start(GIB(16));
    open_in_pieces(PAGES);
    CHECK_EQ(OP(open, page_at(1000), 3 * PAGES * pf.page), 0);
    struct extent live[] = {{page_at(0), 3 * PAGES * pf.page}, {page_at(1000), 3 * PAGES * pf.page}};
    CHECK_EQ(OP(arm, live, 2), 0);
    CHECK_EQ(OP(unprotect, page_at(0), 3 * PAGES * pf.page), 0);
    CHECK_EQ(OP(drop, &(struct extent){page_at(0), 3 * PAGES * pf.page}, 1), 0);
    CHECK_EQ(OP(protect, page_at(0), 3 * PAGES * pf.page), 0);
    fill_thirds(1000, 3 * PAGES);
    CHECK_EQ(OP(move, page_at(1000), page_at(0), 3 * PAGES * pf.page), 0);
    check_thirds(0, 3 * PAGES);
}

/* Open granules among absent ones: with one protection each, they are mappings of their own. */
static void scattered_protections_move(void)
{
    start_armed(PAGES);
    fill_thirds(0, PAGES);
    CHECK_EQ(OP(protect, page_at(3), 4 * pf.page), 0);
    CHECK_EQ(OP(protect, page_at(15), pf.page), 0);
    CHECK_EQ(OP(unprotect, page_at(3), pf.page), 0);
    move_pages(0, 1000, PAGES);
    check_thirds(1000, PAGES);
}

static void check_sparse_mappings(void)
{
    start(GIB(16));
    size_t pages = MIB(256) / pf.page;
    CHECK_EQ(OP(open, page_at(0), pages * pf.page), 0);
    CHECK_EQ(OP(open, page_at(2 * pages), pages * pf.page), 0);
    store(page_at(0), 1);
    store(page_at(2 * pages), 3);
    CHECK_EQ(OP(open, page_at(pages), pages * pf.page), 0);
    CHECK_EQ(madvise((void *) page_at(pages), pages * pf.page, MADV_DONTDUMP), 0);
    store(page_at(pages), 2);
    size_t resident = resident_bytes();
    move_pages(0, 4 * pages, 3 * pages);
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(load(page_at((4 + i) * pages)), i + 1);
    CHECK(resident_bytes() < resident + MIB(8));
    CHECK_EQ(count_resident(page_at(4 * pages), 3 * pages * pf.page), 3);
}

static void a_sparse_range_of_several_mappings_stays_sparse(void) { check_sparse_mappings(); }

/* Kernels before 6.17 move one mapping a call. */
static void it_stays_sparse_where_mappings_cannot_be_moved(void)
{
    refuse_system_call(SYS_mremap, EFAULT);
    check_sparse_mappings();
}

static void armed_pages_move_where_they_have_to_be_copied(void)
{
    refuse_system_call(SYS_mremap, EFAULT);
    pf.caps.takes = false;
    start_armed(PAGES);
    fill_thirds(0, PAGES);
    move_pages(0, 1000, PAGES);
    check_thirds(1000, PAGES);
    check_watched(1000);
}

/* Close to the limit on mappings, a move of several of them may fail half-way: nothing may be lost then. */
static void nothing_is_lost_when_mappings_run_out(void)
{
    size_t limit = 65530, filler = 0;
    char text[32];
    if (os_read_file("/proc/sys/vm/max_map_count", text, sizeof text) > 0)
        limit = (size_t) atol(text);
    if (limit > 100000)
        skip("too many mappings allowed");
    start(GIB(16));
    open_in_pieces(PAGES);
    CHECK_EQ(OP(open, page_at(1000), 3 * PAGES * pf.page), 0);
    CHECK_EQ(OP(open, page_at(2000), 3 * PAGES * pf.page), 0);
    char *fill = mmap(NULL, GIB(1), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t left = limit - count_mappings(); left > 40; left -= 2, filler += KIB(8))
        CHECK_EQ(mprotect(fill + filler, KIB(4), PROT_READ), 0);
    for (size_t left = 20; left > 0; left--, filler += KIB(8)) {
        size_t from = left % 2 ? 1000 : 0, to = 1000 - from;
        if (pf.ops->move(&pf, page_at(from), page_at(to), 3 * PAGES * pf.page) < 0)
            break; /* said, and nothing lost, is fine */
        for (size_t i = 0; i < 3 * PAGES; i += 3)
            CHECK(pattern_is((void *) page_at(to + i), pf.page, i));
        mprotect(fill + filler, KIB(4), PROT_READ);
    }
}

/* ---- after fork ---- */

static void check_move_after_fork(bool several)
{
    int go[2];
    CHECK_EQ(pipe(go), 0);
    start(GIB(16));
    if (several) {
        open_in_pieces(PAGES);
    } else {
        CHECK_EQ(OP(open, pf.base, 3 * PAGES * pf.page), 0);
        touch_thirds(0, 3 * PAGES);
    }
    CHECK_EQ(OP(arm, &(struct extent){pf.base, 3 * PAGES * pf.page}, 1), 0);
    CHECK_EQ(OP(unprotect, page_at(0), 3 * PAGES * pf.page), 0);
    pid_t child = fork_arena();
    if (child == 0) {
        char byte;
        CHECK_EQ(read(go[0], &byte, 1), 1);
        for (size_t i = 0; i < 3 * PAGES; i += 3)
            CHECK(pattern_is((void *) page_at(i), pf.page, i));
        move_pages(0, 2000, 3 * PAGES);
        for (size_t i = 0; i < 3 * PAGES; i += 3)
            CHECK(pattern_is((void *) page_at(2000 + i), pf.page, i));
        _exit(0);
    }
    move_pages(0, 1000, 3 * PAGES);
    for (size_t i = 0; i < 3 * PAGES; i += 3)
        CHECK(pattern_is((void *) page_at(1000 + i), pf.page, i));
    store(page_at(1000), 99);
    CHECK_EQ(write(go[1], "", 1), 1);
    check_child(child);
    CHECK_EQ(trap_count(), 0);
}

static void pages_shared_with_a_child_move(void) { check_move_after_fork(false); }

static void several_mappings_shared_with_a_child_move(void) { check_move_after_fork(true); }

/* ---- mappings are not used up ---- */

/* What has moved does not join its new neighbours: the kernel remembers where it came from. */
static void many_moves_spare_mappings(void)
{
    enum { RANGES = 40000 };
    size_t length = KIB(64);
    start(GIB(16));
    CHECK_EQ(OP(open, pf.base, RANGES * length), 0);
    uintptr_t target = pf.base + GIB(8);
    CHECK_EQ(OP(open, target, RANGES * length), 0);
    for (size_t i = 0; i < RANGES; i++)
        store(pf.base + i * length, i + 1);
    for (size_t i = 0; i < RANGES; i++)
        CHECK_EQ(OP(move, pf.base + i * length, target + (RANGES - 1 - i) * length, length), 0);
    for (size_t i = 0; i < RANGES; i++)
        CHECK_EQ(load(target + (RANGES - 1 - i) * length), i + 1);
    printf("  %zu mappings\n", count_mappings());
    CHECK(mmap(NULL, MIB(1), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    CHECK(count_mappings() < 32000);
}

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(unarmed_pages_move),
        CASE(armed_pages_move),
        CASE(protected_pages_arrive_unprotected),
        CASE(pages_from_before_arming_move),
        CASE(a_moved_range_moves_again),
        CASE(neighbours_stay),
        CASE(neighbours_of_an_empty_range_stay_watched),
        CASE(neighbours_stay_watched_when_a_range_comes_back),
        CASE(a_sparse_gigabyte_moves_at_once),
        CASE(an_armed_sparse_gigabyte_moves_at_once),
        CASE(several_unarmed_mappings_move),
        CASE(several_armed_mappings_move),
        CASE(several_mappings_are_moved_into),
        CASE(scattered_protections_move),
        CASE(a_sparse_range_of_several_mappings_stays_sparse),
        CASE(it_stays_sparse_where_mappings_cannot_be_moved),
        CASE(armed_pages_move_where_they_have_to_be_copied),
        CASE(nothing_is_lost_when_mappings_run_out),
        CASE(pages_shared_with_a_child_move),
        CASE(several_mappings_shared_with_a_child_move),
        CASE(many_moves_spare_mappings),
        CASES_END,
    };
    return contract_main(argc, argv, cases);
}
