/* Pages of an armed arena, one thread: trapping, filling, protecting, dropping, taking. */
#include "contract.h"

#include <pthread.h>
#include <sys/mman.h>

/* ---- arming ---- */

/* Present pages may trap once more after arming; absent ones have to. */
static bool heal_by_residency(const struct trap *trap)
{
    uintptr_t page = trap->address & ~(pf.page - 1);
    unsigned char present = 0;
    pf.ops->residency(&pf, page, pf.page, &present);
    return present ? heal_unprotect(trap) : heal_zero(trap);
}

static void arming_keeps_content(void)
{
    start(GIB(4));
    struct extent live[] = {{page_at(0), 20 * pf.page}, {page_at(40), 20 * pf.page}};
    for (size_t i = 0; i < 2; i++)
        CHECK_EQ(OP(open, live[i].start, live[i].length), 0);
    for (size_t i = 0; i < 60; i += i == 19 ? 21 : 1)
        if (i % 2 == 0)
            pattern_fill((void *) page_at(i), pf.page, i);
    CHECK_EQ(OP(arm, live, 2), 0);
    for (size_t i = 0; i < 60; i += i == 19 ? 21 : 1) {
        CHECK_EQ(is_resident(page_at(i)), i % 2 == 0);
        heal_with(heal_by_residency);
        unsigned before = trap_count();
        CHECK(i % 2 ? all_zero((void *) page_at(i), pf.page) : pattern_is((void *) page_at(i), pf.page, i));
        CHECK(i % 2 ? trap_count() - before == 1 : trap_count() - before <= 1);
    }
    check_closed(page_at(30));
}

static void unprotected_pages_do_not_trap_after_arming(void)
{
    start(GIB(4));
    CHECK_EQ(OP(open, pf.base, 4 * pf.page), 0);
    pattern_fill((void *) page_at(1), pf.page, 1);
    CHECK_EQ(OP(arm, &(struct extent){pf.base, 4 * pf.page}, 1), 0);
    CHECK_EQ(OP(unprotect, page_at(1), pf.page), 0);
    CHECK(pattern_is((void *) page_at(1), pf.page, 1));
    store(page_at(1), 5);
    CHECK_EQ(trap_count(), 0);
}

static void ranges_opened_later_trap_too(void)
{
    start_armed(1);
    CHECK_EQ(OP(open, page_at(100), 4 * pf.page), 0);
    check_read_traps(page_at(100), heal_zero);
    check_write_traps(page_at(103) + 8, heal_zero);
    CHECK_EQ(count_resident(page_at(100), 4 * pf.page), 2);
}

/* ---- traps ---- */

static void a_trap_is_exact(void)
{
    static const size_t offsets[] = {0, 8, 1234, 4088};
    start_armed(64);
    for (size_t i = 0; i < 4; i++) {
        check_read_traps(page_at(2 * i) + offsets[i], heal_zero);
        CHECK_EQ(last_trap.address, page_at(2 * i) + offsets[i]);
        check_write_traps(page_at(2 * i + 1) + offsets[i], heal_zero);
        CHECK_EQ(last_trap.address, page_at(2 * i + 1) + offsets[i]);
        check_write_traps(page_at(20 + i) + pf.page - 8 - offsets[i], heal_zero);
        CHECK_EQ(last_trap.address, page_at(20 + i) + pf.page - 8 - offsets[i]);
    }
    CHECK(!last_trap.present);
}

static void a_healed_page_traps_no_more(void)
{
    start_armed(4);
    check_read_traps(page_at(0), heal_zero);
    CHECK(all_zero((void *) page_at(0), pf.page));
    store(page_at(0) + 16, 3);
    CHECK_EQ(load(page_at(0) + 16), 3);
    CHECK_EQ(trap_count(), 1);
    CHECK_EQ(count_resident(page_at(0), 4 * pf.page), 1);
}

static void an_access_over_two_pages_reports_the_missing_one(void)
{
    uint64_t value;
    start_armed(8);
    fill_page(page_at(0), 1, true);
    heal_with(heal_zero);
    CHECK(try_read(page_at(1) - 4, &value));
    CHECK_EQ(trap_count(), 1);
    CHECK_EQ(last_trap.address, page_at(1));
    fill_page(page_at(3), 1, true);
    heal_with(heal_zero);
    CHECK(try_write(page_at(3) - 4, 77)); /* the first is missing */
    CHECK_EQ(trap_count(), 2);
    CHECK_EQ(last_trap.address & ~(pf.page - 1), page_at(2));
    CHECK(last_trap.write);
    CHECK(try_write(page_at(5) - 4, UINT64_C(0x1122334455667788))); /* both are */
    CHECK_EQ(trap_count(), 4);
    CHECK(try_read(page_at(5) - 4, &value));
    CHECK_EQ(value, UINT64_C(0x1122334455667788));
    CHECK_EQ(trap_count(), 4);
}

static uint64_t next_seed;
static bool next_writable;
static uint64_t next_content[KIB(64) / 8];

static bool heal_content(const struct trap *trap)
{
    return pf.ops->place(&pf, trap->address & ~(pf.page - 1), pf.page, next_content, next_writable) > 0;
}

static void prepare(uint64_t seed, bool writable)
{
    next_seed = seed;
    next_writable = writable;
    pattern_fill(next_content, pf.page, seed);
}

static void a_trap_heals_with_content(void)
{
    start_armed(4);
    prepare(11, true);
    check_read_traps(page_at(0) + 40, heal_content);
    CHECK(pattern_is((void *) page_at(0), pf.page, 11));
    store(page_at(0), 1);
    prepare(12, true);
    check_write_traps(page_at(1), heal_content);
    CHECK(memcmp((char *) page_at(1) + 8, (char *) next_content + 8, pf.page - 8) == 0);
    CHECK_EQ(trap_count(), 2);
}

static void a_page_can_be_filled_protected(void)
{
    if (!pf.caps.protects)
        skip("protection stops readers too");
    start_armed(4);
    prepare(13, false);
    check_read_traps(page_at(0), heal_content);
    CHECK(pattern_is((void *) page_at(0), pf.page, 13));
    CHECK_EQ(trap_count(), 1);
    check_write_traps(page_at(0) + 80, heal_unprotect);
    CHECK(last_trap.present);
    store(page_at(0) + 88, 1);
    CHECK_EQ(trap_count(), 2);
}

/* With threads of our own serving: nobody waits for ever for content that is not to be had. */
static void a_refused_trap_reaches_the_toucher(void)
{
    uint64_t value;
    start_armed(4);
    heal_with(NULL);
    CHECK(!try_read(page_at(1) + 8, &value));
    check_read_traps(page_at(2), heal_zero);
}

/* ---- placing ---- */

static void a_run_is_placed_in_order(void)
{
    static uint64_t content[16 * KIB(64) / 8];
    start_armed(32);
    pattern_fill(content, 16 * pf.page, 21);
    CHECK_EQ(OP(place, page_at(4), 16 * pf.page, content, true), 16 * pf.page);
    CHECK(pattern_is((void *) page_at(4), 16 * pf.page, 21));
    CHECK_EQ(count_resident(page_at(0), 32 * pf.page), 16);
    CHECK_EQ(OP(place, page_at(20), 12 * pf.page, NULL, true), 12 * pf.page);
    CHECK(all_zero((void *) page_at(20), 12 * pf.page));
    CHECK_EQ(trap_count(), 0);
}

static void placing_loses_nothing_that_is_present(void)
{
    static uint64_t content[3 * KIB(64) / 8];
    start_armed(8);
    fill_page(page_at(1), 1, true);
    pattern_fill(content, 3 * pf.page, 2);
    CHECK_EQ(OP(place, page_at(1), 2 * pf.page, content, true), -EEXIST);
    CHECK(pattern_is((void *) page_at(1), pf.page, 1));
    CHECK_EQ(OP(place, page_at(0), 3 * pf.page, content, true), pf.page); /* up to it */
    CHECK(pattern_is((void *) page_at(0), pf.page, 2));
    CHECK(pattern_is((void *) page_at(1), pf.page, 1));
    CHECK(!is_resident(page_at(2)));
}

static void placing_zeros_keeps_what_is_present(void)
{
    start_armed(8);
    fill_page(page_at(1), 1, true);
    CHECK_EQ(OP(place, page_at(0), 3 * pf.page, NULL, true), 3 * pf.page);
    CHECK(pattern_is((void *) page_at(1), pf.page, 1));
    CHECK(all_zero((void *) page_at(0), pf.page));
    CHECK(all_zero((void *) page_at(2), pf.page));
    CHECK_EQ(trap_count(), 0);
}

/* ---- protecting ---- */

static void protection_stops_writers(void)
{
    start_armed(8);
    fill_page(page_at(1), 1, true);
    fill_page(page_at(2), 2, true);
    CHECK_EQ(OP(protect, page_at(0), 4 * pf.page), 0);
    CHECK_EQ(count_resident(page_at(0), 4 * pf.page), 2); /* absent ones are left alone */
    if (pf.caps.protects)
        CHECK(pattern_is((void *) page_at(1), pf.page, 1));
    else
        check_read_traps(page_at(1) + 8, heal_unprotect);
    CHECK_EQ(OP(protect, page_at(1), pf.page), 0);
    check_write_traps(page_at(1), heal_unprotect);
    store(page_at(1) + 8, 1);
    check_write_traps(page_at(2) + 8, heal_unprotect);
    CHECK(pattern_is((void *) page_at(2), 8, 2));
    check_read_traps(page_at(0), heal_zero);
    check_write_traps(page_at(3), heal_zero);
}

/* A freed block may lie between pages that are protected together. */
static void closed_pages_are_not_protected(void)
{
    start_armed(8);
    if (!pf.caps.protects)
        skip("needs protection that lets readers go on");
    fill_page(page_at(1), 1, true);
    fill_page(page_at(3), 3, true);
    fill_page(page_at(6), 6, true);
    CHECK_EQ(OP(close, page_at(3), 2 * pf.page), 0);
    CHECK_EQ(OP(protect, page_at(1), 6 * pf.page), 0);
    check_write_traps(page_at(1), heal_unprotect);
    check_write_traps(page_at(6), heal_unprotect);
    CHECK_EQ(OP(open, page_at(3), 2 * pf.page), 0);
    check_write_traps(page_at(3), heal_zero);
    check_read_traps(page_at(4), heal_zero);
    store(page_at(4), 1);
}

static void unprotecting_undoes_it(void)
{
    start_armed(8);
    fill_page(page_at(1), 1, true);
    CHECK_EQ(OP(protect, page_at(1), pf.page), 0);
    CHECK_EQ(OP(unprotect, page_at(1), pf.page), 0);
    CHECK(pattern_is((void *) page_at(1), pf.page, 1));
    store(page_at(1), 1);
    CHECK_EQ(trap_count(), 0);
}

/* Every second page is absent: a run that is unprotected may lead across such pages, where the platform can tell. */
static void unprotecting_leaves_absent_pages_alone(void)
{
    if (!pf.caps.protects)
        skip("needs protection that lets readers go on");
    start_armed(8);
    for (size_t i = 0; i < 8; i += 2)
        fill_page(page_at(i), i, true);
    CHECK_EQ(OP(protect, page_at(0), 7 * pf.page), 0);
    CHECK_EQ(OP(unprotect, page_at(0), 7 * pf.page), 0);
    for (size_t i = 0; i < 8; i += 2)
        *(volatile char *) page_at(i) = 1;
    CHECK_EQ(trap_count(), 0);
    for (size_t i = 1; i < 8; i += 2)
        CHECK_EQ(OP(place, page_at(i), pf.page, NULL, true), (int64_t) pf.page);
}

static void a_protected_page_can_be_peeked_at(void)
{
    static unsigned char scratch[KIB(64)];
    start_armed(8);
    for (size_t i = 0; i < 8; i++)
        fill_page(page_at(i), i, true);
    CHECK_EQ(OP(protect, page_at(0), 8 * pf.page), 0);
    for (size_t i = 0; i < 8; i++) {
        const void *content = OP(peek, page_at(i), scratch);
        CHECK(content && pattern_is(content, pf.page, i));
    }
    CHECK_EQ(trap_count(), 0);
}

/* ---- dropping ---- */

static void fill_and_protect(size_t pages)
{
    for (size_t i = 0; i < pages; i++)
        fill_page(page_at(i), i, true);
    CHECK_EQ(OP(protect, page_at(0), pages * pf.page), 0);
}

static void dropping_makes_absent(void)
{
    start_armed(8);
    fill_and_protect(8);
    CHECK_EQ(OP(drop, &(struct extent){page_at(2), 4 * pf.page}, 1), 0);
    CHECK_EQ(count_resident(page_at(2), 4 * pf.page), 0);
    check_read_traps(page_at(2), heal_zero);
    CHECK(all_zero((void *) page_at(2), pf.page));
    prepare(9, true);
    check_read_traps(page_at(5) + 8, heal_content);
    CHECK(pattern_is((void *) page_at(5), pf.page, 9));
}

static void dropping_returns_memory(void)
{
    enum { PAGES = 4096 };
    start_armed(PAGES);
    fill_and_protect(PAGES);
    size_t before = resident_bytes();
    CHECK_EQ(OP(drop, &(struct extent){page_at(0), PAGES * pf.page}, 1), 0);
    CHECK(resident_bytes() + PAGES * pf.page < before + MIB(2));
}

/* More extents than the kernel takes in one call. */
static void scattered_extents_are_dropped_exactly(void)
{
    enum { PAGES = 2600 };
    static struct extent extents[PAGES];
    size_t n = 0;
    start_armed(PAGES);
    fill_and_protect(PAGES);
    for (size_t i = 0; i < PAGES; i++)
        if (i % 2 == 0 || i % 7 == 0)
            extents[n++] = (struct extent){page_at(i), pf.page};
    CHECK(n > 1024);
    CHECK_EQ(OP(drop, extents, n), 0);
    CHECK_EQ(OP(unprotect, page_at(1), pf.page), 0);
    for (size_t i = 0; i < PAGES; i++) {
        bool dropped = i % 2 == 0 || i % 7 == 0;
        CHECK_EQ(is_resident(page_at(i)), !dropped);
        if (!dropped) {
            CHECK_EQ(OP(unprotect, page_at(i), pf.page), 0);
            CHECK(pattern_is((void *) page_at(i), pf.page, i));
        }
    }
    CHECK_EQ(trap_count(), 0);
    check_read_traps(page_at(14), heal_zero);
}

/* Somebody reads it all the time, and is never refused. */
static volatile bool reading;

static void *read_all_the_time(void *unused)
{
    while (reading)
        load(page_at(1) + pf.page - 8);
    return unused;
}

static void zeroing_empties_what_stays(void)
{
    pthread_t reader;
    start_armed(3);
    for (size_t i = 0; i < 3; i++)
        fill_page(page_at(i), i + 1, true);
    reading = true;
    CHECK_EQ(pthread_create(&reader, NULL, read_all_the_time, NULL), 0);
    for (int i = 0; i < 200; i++)
        CHECK_EQ(OP(zero, page_at(1), pf.page), 0);
    reading = false;
    CHECK_EQ(pthread_join(reader, NULL), 0);
    CHECK_EQ(trap_count(), 0);
    CHECK(pattern_is((void *) page_at(0), pf.page, 1));
    CHECK(all_zero((void *) page_at(1), pf.page));
    CHECK(pattern_is((void *) page_at(2), pf.page, 3));
}

/* By the program: it may advise on what it has made read-only. */
static void zeroing_passes_protections(void)
{
    start_armed(2);
    if (!pf.caps.mappings)
        skip("no mappings");
    fill_page(page_at(0), 1, true);
    CHECK_EQ(mprotect((void *) page_at(0), pf.page, PROT_READ), 0);
    CHECK_EQ(OP(zero, page_at(0), pf.page), 0);
    CHECK(all_zero((void *) page_at(0), pf.page));
    CHECK_EQ(trap_count(), 0);
}

static void dropping_nothing_is_fine(void)
{
    start_armed(2);
    CHECK_EQ(OP(drop, NULL, 0), 0);
}

/* ---- taking ---- */

static void need_take(void)
{
    if (!pf.caps.takes)
        skip("cannot take pages");
}

static void taking_moves_content_to_staging(void)
{
    need_take();
    start_armed(32);
    CHECK(pf.staging && pf.staging_size >= 16 * pf.page);
    for (size_t i = 0; i < 8; i++)
        fill_page(page_at(i), i, true);
    CHECK_EQ(OP(protect, page_at(4), pf.page), 0);
    CHECK_EQ(OP(take, page_at(0), 8 * pf.page, 2 * pf.page), 8 * pf.page);
    CHECK_EQ(count_resident(page_at(0), 8 * pf.page), 0);
    for (size_t i = 0; i < 8; i++)
        CHECK(pattern_is(pf.staging + (2 + i) * pf.page, pf.page, i));
    CHECK_EQ(trap_count(), 0);
    check_read_traps(page_at(3), heal_zero);
}

static void taking_stops_at_an_absent_page(void)
{
    need_take();
    start_armed(8);
    for (size_t i = 0; i < 3; i++)
        fill_page(page_at(i), i, true);
    CHECK_EQ(OP(take, page_at(3), 2 * pf.page, 0), -ENOENT);
    CHECK_EQ(OP(take, page_at(0), 8 * pf.page, 0), 3 * pf.page);
    CHECK(pattern_is(pf.staging + 2 * pf.page, pf.page, 2));
}

static void staging_is_used_again_and_again(void)
{
    need_take();
    start_armed(4);
    for (uint64_t i = 0; i < 100; i++) {
        fill_page(page_at(0), i, true);
        fill_page(page_at(1), i + 1000, true);
        CHECK_EQ(OP(take, page_at(0), 2 * pf.page, 0), 2 * pf.page);
        CHECK(pattern_is(pf.staging, pf.page, i));
        CHECK(pattern_is(pf.staging + pf.page, pf.page, i + 1000));
        pf.ops->staging_clear(&pf, 2 * pf.page);
        unsigned char present[2] = {9, 9};
        CHECK_EQ(mincore((void *) pf.staging, 2 * pf.page, present), 0);
        CHECK_EQ(present[0] | present[1], 0);
    }
}

static void taken_pages_go_back(void)
{
    need_take();
    start_armed(8);
    for (size_t i = 0; i < 4; i++)
        fill_page(page_at(i), i, true);
    CHECK_EQ(OP(take, page_at(0), 4 * pf.page, 0), 4 * pf.page);
    CHECK_EQ(OP(place, page_at(2), 2 * pf.page, pf.staging + 2 * pf.page, true), 2 * pf.page);
    CHECK_EQ(OP(place, page_at(0), pf.page, pf.staging, true), pf.page);
    CHECK(pattern_is((void *) page_at(0), pf.page, 0));
    CHECK(pattern_is((void *) page_at(2), pf.page, 2));
    CHECK(pattern_is((void *) page_at(3), pf.page, 3));
    CHECK(pattern_is(pf.staging + pf.page, pf.page, 1));
    store(page_at(3), 5);
    CHECK_EQ(trap_count(), 0);
    check_read_traps(page_at(1), heal_zero);
}

static void a_taken_page_goes_back_protected(void)
{
    need_take();
    start_armed(8);
    fill_page(page_at(0), 1, true);
    CHECK_EQ(OP(take, page_at(0), pf.page, 0), pf.page);
    CHECK_EQ(OP(place, page_at(0), pf.page, pf.staging, false), pf.page);
    CHECK(pattern_is((void *) page_at(0), pf.page, 1));
    check_write_traps(page_at(0) + 8, heal_unprotect);
}

static void a_taken_page_stays_out_of_the_way_of_a_new_one(void)
{
    need_take();
    start_armed(8);
    fill_page(page_at(0), 1, true);
    CHECK_EQ(OP(take, page_at(0), pf.page, 0), pf.page);
    fill_page(page_at(0), 2, true);
    CHECK_EQ(OP(place, page_at(0), pf.page, pf.staging, true), -EEXIST);
    CHECK(pattern_is((void *) page_at(0), pf.page, 2));
    CHECK(pattern_is(pf.staging, pf.page, 1));
}

/* ---- huge pages ---- */

static void start_huge(void)
{
    start(GIB(4));
    CHECK_EQ(OP(open, pf.base, MIB(8)), 0);
    CHECK_EQ(madvise((void *) pf.base, MIB(8), MADV_HUGEPAGE), 0);
    pattern_fill((void *) pf.base, MIB(4), 8);
    CHECK_EQ(OP(arm, &(struct extent){pf.base, MIB(8)}, 1), 0);
    CHECK_EQ(OP(unprotect, pf.base, MIB(4)), 0);
}

static void parts_of_huge_pages_can_be_dropped(void)
{
    start_huge();
    uintptr_t page = pf.base + MIB(1);
    CHECK_EQ(OP(protect, page, 2 * pf.page), 0);
    CHECK_EQ(OP(drop, &(struct extent){page, pf.page}, 1), 0);
    CHECK(!is_resident(page));
    CHECK(is_resident(page + pf.page));
    CHECK_EQ(OP(unprotect, page + pf.page, pf.page), 0);
    CHECK(pattern_is((void *) pf.base, MIB(1), 8));
    fill_page(page, 77, true);
    CHECK(pattern_is((void *) page, pf.page, 77));
    check_read_traps(pf.base + MIB(6), heal_zero);
    CHECK(!is_resident(pf.base + MIB(7)));
}

static void parts_of_huge_pages_can_be_taken(void)
{
    need_take();
    start_huge();
    uintptr_t page = pf.base + MIB(1);
    static unsigned char before[KIB(64)];
    memcpy(before, (void *) page, pf.page);
    CHECK_EQ(OP(take, page, pf.page, 0), pf.page);
    CHECK(memcmp(pf.staging, before, pf.page) == 0);
    CHECK(!is_resident(page));
    CHECK_EQ(OP(place, page, pf.page, pf.staging, true), pf.page);
    CHECK(pattern_is((void *) pf.base, MIB(4), 8));
}

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(arming_keeps_content),
        CASE(unprotected_pages_do_not_trap_after_arming),
        CASE(ranges_opened_later_trap_too),
        CASE(a_trap_is_exact),
        CASE(a_healed_page_traps_no_more),
        CASE(an_access_over_two_pages_reports_the_missing_one),
        CASE(a_trap_heals_with_content),
        CASE(a_page_can_be_filled_protected),
        CASE(a_refused_trap_reaches_the_toucher),
        CASE(a_run_is_placed_in_order),
        CASE(placing_loses_nothing_that_is_present),
        CASE(placing_zeros_keeps_what_is_present),
        CASE(protection_stops_writers),
        CASE(closed_pages_are_not_protected),
        CASE(unprotecting_undoes_it),
        CASE(unprotecting_leaves_absent_pages_alone),
        CASE(a_protected_page_can_be_peeked_at),
        CASE(dropping_makes_absent),
        CASE(dropping_returns_memory),
        CASE(scattered_extents_are_dropped_exactly),
        CASE(zeroing_empties_what_stays),
        CASE(zeroing_passes_protections),
        CASE(dropping_nothing_is_fine),
        CASE(taking_moves_content_to_staging),
        CASE(taking_stops_at_an_absent_page),
        CASE(staging_is_used_again_and_again),
        CASE(taken_pages_go_back),
        CASE(a_taken_page_goes_back_protected),
        CASE(a_taken_page_stays_out_of_the_way_of_a_new_one),
        CASE(parts_of_huge_pages_can_be_dropped),
        CASE(parts_of_huge_pages_can_be_taken),
        CASES_END,
    };
    return contract_main(argc, argv, cases);
}
