/* The paging engine on a fake machine: what comes in, what goes out, and what happens when something fails. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../shim/pager/compress.h"
#include "../../shim/pager/evict.h"
#include "../../shim/pager/pager.h"
#include "../../shim/tier/pool.h"
#include "../../shim/tier/spill.h"
#include "fake_platform.h"

#ifndef LOGICAL_PAGE
#define LOGICAL_PAGE 4096
#endif

enum { PAGE = LOGICAL_PAGE, ARENA = 4096 * PAGE, BLOCK_PAGES = 64, BLOCK = BLOCK_PAGES * PAGE, MANY = 1 << 20 };

enum content { ZERO, SAME, TEXT, NOISE, CONTENTS };

static struct fake fake;
static struct fake_tier first, second; /* where tests need tiers that fail */
static struct arena arena;
static struct engine engine;
static struct tier *pool, *spill;

/* ---- the world ---- */

static const struct fake_config usual = {.size = ARENA, .page = PAGE, .protects = true};

static void make_engine(const struct fake_config *config)
{
    fake_init(&fake, config);
    cr_assert_eq(arena_init(&arena, &fake.pf), 0);
    cr_assert_eq(engine_init(&engine, &fake.pf, &arena), 0);
    arena.ready = true;
    engine.pager.config.no_thread = true;
    engine.warned_full = true; /* silence */
    engine.take_only = config->take_only;
}

static void arm_with(struct tier *with_pool, struct tier *with_spill)
{
    cr_assert_eq(engine_arm(&engine), 0);
    cr_assert_eq(engine_start_paging(&engine, with_pool, with_spill), 0);
}

static struct tier *real_pool(size_t page)
{
    struct pool_config config = {.reserve = 64 << 20, .capacity = 64 << 20, .page_size = page};
    cr_assert_eq(pool_new(&pool, &config), 0);
    return pool;
}

static struct tier *real_spill(size_t page)
{
    struct spill_config config = {.directory = "/var/tmp", .max_bytes = 64 << 20, .page_size = page};
    cr_assert_eq(spill_new(&spill, &config), 0);
    return spill;
}

static void make_tiers(void)
{
    fake_tier_init(&first, NULL);
    fake_tier_init(&second, NULL);
    first.picks_max = second.picks_max = 1000;
}

static void end_world(void)
{
    if (!engine.pf)
        return;
    engine_fini(&engine);
    ranges_fini(&arena.ranges);
    pool_free(pool);
    spill_free(spill);
    if (first.tier.ops)
        fake_tier_fini(&first);
    if (second.tier.ops)
        fake_tier_fini(&second);
    fake_fini(&fake);
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    pool = spill = NULL;
}

TestSuite(engine, .fini = end_world, .timeout = 60);

static uintptr_t block(size_t size)
{
    uint64_t got;
    uintptr_t start = arena_alloc(&arena, size, 1, true, &got);
    cr_assert_neq(start, 0);
    return start;
}

static void free_block(uintptr_t start)
{
    struct extent extent;
    cr_assert(arena_detach(&arena, start, &extent));
    engine_forget(&engine, &extent);
    arena_return(&arena, &extent, false);
}

/* Takes out what can be; several rounds, for young pages are spared in the first. */
static size_t evict_all(void)
{
    size_t left = 0;
    lock_acquire(&engine.evict_lock);
    for (int round = 0; round < 8; round++)
        left += evict_pages(&engine, MANY);
    lock_release(&engine.evict_lock);
    return left;
}

/* ---- content ---- */

static uint64_t hash_of(uint64_t value)
{
    value *= UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return value ^ value >> 29;
}

static void make_content(unsigned char *page, size_t size, enum content kind, uint64_t seed)
{
    uint64_t *words = (uint64_t *) page;
    for (size_t i = 0; i < size / 8; i++)
        words[i] = kind == ZERO   ? 0
                   : kind == SAME ? hash_of(seed)
                   : kind == TEXT ? seed + i / 32
                                  : hash_of(seed * 8192 + i);
}

static void fill(uintptr_t start, size_t pages, enum content kind, uint64_t seed)
{
    unsigned char page[65536];
    size_t size = engine_page_size(&engine);
    for (size_t i = 0; i < pages; i++) {
        make_content(page, size, kind, seed + i);
        cr_assert_eq(fake_write(&engine, start + i * size, page, size), FAULT_HEALED);
    }
}

static void verify(uintptr_t start, size_t pages, enum content kind, uint64_t seed)
{
    unsigned char page[65536], seen[65536];
    size_t size = engine_page_size(&engine);
    for (size_t i = 0; i < pages; i++) {
        make_content(page, size, kind, seed + i);
        cr_assert_eq(fake_read(&engine, start + i * size, seen, size), FAULT_HEALED);
        cr_assert_eq(memcmp(page, seen, size), 0, "page %zu has other content", i);
    }
}

/* ---- what always holds between operations ---- */

static page_word word_of(uintptr_t address) { return page_load(&engine.pages[engine_page_of(&engine, address)]); }

/* Counters, words and hardware agree, and every record has one word that names it. */
static void check_accounts(void)
{
    uint64_t resident = 0, in_pool = 0, in_spill = 0;
    for (size_t page = 0; page < engine.page_count; page++) {
        page_word word = page_load(&engine.pages[page]);
        enum fake_page state = fake_state(&fake, engine_address_of(&engine, page));
        bool present = state == FAKE_PRESENT || state == FAKE_PROTECTED;
        cr_assert_eq(page_state(word) == PAGE_RESIDENT, present, "page %zu: word %lx, hardware %d", page, word, state);
        if (page_place(word) != PLACE_NONE && present)
            cr_assert_eq(state, FAKE_PROTECTED, "page %zu may be written while its copy is kept", page);
        if (present)
            cr_assert_eq(!!(word & PAGE_PROTECTED), state == FAKE_PROTECTED, "page %zu: word %lx, hardware %d", page,
                         word, state);
        resident += present;
        in_pool += page_place(word) == PLACE_POOL;
        in_spill += page_place(word) == PLACE_SPILL;
    }
    cr_assert_eq(engine.resident, resident);
    struct tier_stats stats = {0};
    if (engine.pool)
        engine.pool->ops->stats(engine.pool, &stats);
    cr_assert_eq(stats.records, in_pool);
    stats.records = 0;
    if (engine.spill)
        engine.spill->ops->stats(engine.spill, &stats);
    cr_assert_eq(stats.records, in_spill);
}

static uint64_t stores(struct tier *tier)
{
    struct tier_stats stats;
    tier->ops->stats(tier, &stats);
    return stats.stores;
}

static uint64_t loads(struct tier *tier)
{
    struct tier_stats stats;
    tier->ops->stats(tier, &stats);
    return stats.loads;
}

/* ---- arming ---- */

Test(engine, unarmed_memory_is_none_of_its_business)
{
    make_engine(&usual);
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    cr_assert_eq(engine.counters.faults, 0);
    cr_assert_eq(engine.resident, 0);
    struct trap trap = {.address = at};
    cr_assert_eq(fault_serve(&engine, &trap), FAULT_FOREIGN);
}

static void adopts_what_is_there(const struct fake_config *config)
{
    make_engine(config);
    uintptr_t at = block(4 * BLOCK), other = block(BLOCK);
    for (size_t i = 0; i < 4 * BLOCK_PAGES; i += 3)
        fill(at + i * PAGE, 1, NOISE, i);
    fake.calls[FAKE_ARM] = 0;
    cr_assert_eq(engine_arm(&engine), 0);
    cr_assert_eq(fake.calls[FAKE_ARM], 1);
    cr_assert_eq(engine.resident, (4 * BLOCK_PAGES + 2) / 3);
    for (size_t i = 0; i < 4 * BLOCK_PAGES; i++)
        cr_assert_eq(page_state(word_of(at + i * PAGE)), i % 3 ? PAGE_FRESH : PAGE_RESIDENT);
    cr_assert_eq(word_of(other), (page_word) PAGE_FRESH);
    for (size_t i = 0; i < 4 * BLOCK_PAGES; i += 3)
        verify(at + i * PAGE, 1, NOISE, i);
    cr_assert_eq(engine.counters.faults, 0, "a page that was there had to trap");
    check_accounts();
}

Test(engine, arming_adopts_what_is_there) { adopts_what_is_there(&usual); }

Test(engine, arming_adopts_what_is_there_and_heals_it)
{
    adopts_what_is_there(&(struct fake_config){.size = ARENA, .page = PAGE, .protects = false});
}

static bool residency_was_asked, asked_before_arming;

static void watch_order(void *context, int op, uintptr_t address, int64_t result)
{
    (void) context, (void) address, (void) result;
    if (op == FAKE_RESIDENCY)
        residency_was_asked = true;
    if (op == (FAKE_ARM | FAKE_RETURNED))
        asked_before_arming = residency_was_asked;
}

Test(engine, arming_registers_first_and_looks_second)
{
    make_engine(&usual);
    fill(block(BLOCK), 3, TEXT, 1);
    fake.step = watch_order;
    cr_assert_eq(engine_arm(&engine), 0);
    cr_assert(residency_was_asked && !asked_before_arming);
}

Test(engine, a_platform_that_will_not_arm_changes_nothing)
{
    make_engine(&usual);
    fake.arm_error = -EPERM;
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    cr_assert_eq(engine_arm(&engine), -EPERM);
    cr_assert_not(engine.trapping);
    verify(at, BLOCK_PAGES, TEXT, 1);
    fake.arm_error = 0;
    cr_assert_eq(engine_arm(&engine), 0);
    verify(at, BLOCK_PAGES, TEXT, 1);
}

/* Memory kept from before arming may not stay outside the account. */
Test(engine, what_was_kept_for_reuse_is_counted_after_arming)
{
    make_engine(&usual);
    fake.zeros_over_content = true;
    uint64_t got;
    struct extent extent;
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    cr_assert(arena_detach(&arena, at, &extent));
    arena_return(&arena, &extent, true);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t again = arena_alloc(&arena, BLOCK, 1, false, &got);
    fill(again, BLOCK_PAGES, TEXT, 2);
    check_accounts();
    cr_assert_eq(engine.resident, fake_present(&fake, fake.pf.base, ARENA));
}

/* ---- first touch ---- */

#define AHEAD ((64u << 10) / PAGE) /* pages that a touch in order may bring */

Test(engine, first_touch_gives_zeros_and_nothing_beyond_the_block)
{
    make_engine(&usual);
    arm_with(NULL, NULL);
    uintptr_t at = block(BLOCK), next = block(BLOCK);
    verify(at, BLOCK_PAGES, ZERO, 0);
    cr_assert_eq(engine.resident, BLOCK_PAGES);
    cr_assert_eq(engine.counters.zero_fills, BLOCK_PAGES);
    cr_assert_lt(engine.counters.faults, 2 * BLOCK_PAGES / AHEAD, "memory filled in order traps too often");
    cr_assert_eq(fake_present(&fake, next, BLOCK), 0);
    check_accounts();
}

Test(engine, a_single_touch_brings_a_single_page)
{
    make_engine(&usual);
    arm_with(NULL, NULL);
    fill(block(BLOCK) + 7 * PAGE, 1, TEXT, 1);
    cr_assert_eq(engine.resident, 1);
}

Test(engine, a_granule_comes_as_a_whole_within_the_block)
{
    make_engine(&(struct fake_config){.size = ARENA, .page = 65536, .granule = 4 * 65536});
    arm_with(NULL, NULL);
    uintptr_t at = block(6 * 65536); /* not a multiple of the granule */
    fill(at + 5 * 65536, 1, TEXT, 1);
    cr_assert_eq(engine.resident, 2);
    fill(at, 1, TEXT, 1);
    cr_assert_eq(engine.resident, 6);
    check_accounts();
}

Test(engine, accesses_outside_blocks_are_not_ours)
{
    make_engine(&usual);
    arm_with(NULL, NULL);
    uintptr_t at = block(BLOCK);
    free_block(at);
    unsigned char byte = 0;
    cr_assert_eq(fake_read(&engine, at, &byte, 1), FAULT_FOREIGN);
    cr_assert_eq(fake_write(&engine, at + ARENA - PAGE, &byte, 1), FAULT_FOREIGN);
    struct trap trap = {.address = fake.pf.base - 1};
    cr_assert_eq(fault_serve(&engine, &trap), FAULT_FOREIGN);
}

Test(engine, shortage_is_waited_out_and_what_was_placed_stays)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(BLOCK);
    fake.place_fails = 20;
    fill(at, 4, TEXT, 1);
    cr_assert_eq(evict_all(), 1 + AHEAD, "the second touch in a row brings 64 KiB");
    fake.place_fails = 20;
    fake.place_most = PAGE;
    verify(at, 4, TEXT, 1);
    verify(at + 4 * PAGE, BLOCK_PAGES - 4, ZERO, 0);
    check_accounts();
}

Test(engine, memory_that_never_comes_is_a_signal_and_may_come_later)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(BLOCK);
    unsigned char byte = 1;
    fake.place_fails = UINT32_MAX;
    cr_assert_eq(fake_write(&engine, at, &byte, 1), FAULT_POISONED);
    cr_assert_eq(word_of(at), (page_word) PAGE_FRESH);
    fake.place_fails = 0;
    fill(at, 1, TEXT, 1);
    evict_all();
    fake.place_fails = UINT32_MAX;
    cr_assert_eq(fake_read(&engine, at, &byte, 1), FAULT_POISONED);
    fake.place_fails = 0;
    verify(at, 1, TEXT, 1);
    check_accounts();
}

/* ---- out and in again ---- */

struct machine {
    struct fake_config config;
    bool pool, spill;
};

static struct machine machines[] = {
    {{.size = ARENA, .page = 4096, .protects = true}, true, true},
    {{.size = ARENA, .page = 4096, .protects = true}, true, false},
    {{.size = ARENA, .page = 4096, .protects = true}, false, true},
    {{.size = ARENA, .page = 4096, .protects = true, .takes = true}, true, true},
    {{.size = ARENA, .page = 4096, .protects = true, .takes = true, .take_only = true}, true, true},
    {{.size = ARENA, .page = 4096, .protects = true, .takes = true}, false, true},
    {{.size = ARENA, .page = 4096}, true, true},
    {{.size = ARENA, .page = 16384, .protects = true}, true, true},
    {{.size = ARENA, .page = 65536}, true, true},
    {{.size = ARENA, .page = 65536, .granule = 262144}, true, true},
};

ParameterizedTestParameters(engine, content_survives)
{
    return cr_make_param_array(struct machine, machines, sizeof machines / sizeof *machines);
}

/* Whether this machine can store such a page at all: what does not compress needs a spill. */
static bool can_leave(const struct machine *machine, enum content kind)
{
    return kind == ZERO || kind == SAME || machine->spill || (machine->pool && kind == TEXT);
}

static size_t pages_of(uintptr_t at, size_t length, enum page_state state)
{
    size_t n = 0;
    for (size_t done = 0; done < length; done += engine_page_size(&engine))
        n += page_state(word_of(at + done)) == state;
    return n;
}

ParameterizedTest(struct machine *machine, engine, content_survives)
{
    size_t page = machine->config.page, n = 16;
    make_engine(&machine->config);
    arm_with(machine->pool ? real_pool(page) : NULL, machine->spill ? real_spill(page) : NULL);
    uintptr_t at[CONTENTS];
    for (int kind = 0; kind < CONTENTS; kind++) {
        at[kind] = block(n * page);
        fill(at[kind], n, (enum content) kind, 100);
    }
    for (int round = 0; round < 4; round++) {
        evict_all();
        check_accounts();
        for (int kind = 0; kind < CONTENTS; kind++) {
            size_t stored = pages_of(at[kind], n * page, PAGE_STORED);
            cr_assert_eq(stored, can_leave(machine, (enum content) kind) ? n : 0, "content %d: %zu", kind, stored);
        }
        for (int kind = 0; kind < CONTENTS; kind++) {
            verify(at[kind], n, (enum content) kind, 100 + (round == 3));
            fill(at[kind], n / 2, (enum content) kind, 100 + (round >= 2)); /* some are clean afterwards, some not */
            if (round == 2)
                fill(at[kind], n, (enum content) kind, 101);
        }
        check_accounts();
    }
    for (int kind = 0; kind < CONTENTS; kind++)
        free_block(at[kind]);
    check_accounts();
    cr_assert_eq(engine.resident, 0);
}

Test(engine, zeros_and_repeated_words_store_nothing)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t zero = block(BLOCK), same = block(BLOCK);
    fill(zero, BLOCK_PAGES, ZERO, 0);
    fill(same, BLOCK_PAGES, SAME, 5);
    evict_all();
    cr_assert_eq(stores(pool) + stores(spill), 0);
    cr_assert_eq(engine.resident, 0);
    cr_assert_eq(engine.counters.same_pages, 2 * BLOCK_PAGES);
    verify(same, BLOCK_PAGES, SAME, 5);
    verify(zero, BLOCK_PAGES, ZERO, 0);
}

Test(engine, a_page_that_was_only_read_is_not_stored_again)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t text = block(BLOCK), noise = block(BLOCK);
    fill(text, BLOCK_PAGES, TEXT, 1);
    fill(noise, BLOCK_PAGES, NOISE, 1);
    evict_all();
    uint64_t before = stores(pool) + stores(spill);
    cr_assert_eq(before, 2 * BLOCK_PAGES);
    for (int round = 0; round < 5; round++) {
        verify(text, BLOCK_PAGES, TEXT, 1);
        verify(noise, BLOCK_PAGES, NOISE, 1);
        check_accounts();
        evict_all();
        cr_assert_eq(engine.resident, 0);
    }
    cr_assert_eq(stores(pool) + stores(spill), before);
}

Test(engine, the_first_write_releases_the_copy)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t at = block(BLOCK);
    fill(at, 1, TEXT, 1);
    evict_all();
    verify(at, 1, TEXT, 1);
    cr_assert_eq(page_place(word_of(at)), PLACE_POOL);
    fill(at, 1, TEXT, 2);
    cr_assert_eq(page_place(word_of(at)), PLACE_NONE);
    check_accounts();
    evict_all();
    verify(at, 1, TEXT, 2);
}

Test(engine, new_pages_are_spared_and_a_soon_return_is_a_proof)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(BLOCK);
    fill(at, 1, TEXT, 1);
    cr_assert(word_of(at) & PAGE_YOUNG);
    cr_assert_eq(page_age(word_of(at)), POLICY_GRACE);
    evict_all();
    fill(at, 1, TEXT, 1);
    cr_assert(word_of(at) & PAGE_YOUNG);
    cr_assert_eq(page_heat(word_of(at)), 1);
    /* An older, colder page goes first. */
    uintptr_t cold = block(BLOCK);
    engine.pages[engine_page_of(&engine, cold)] = PAGE_FRESH;
    fill(cold, 1, TEXT, 2);
    engine.pages[engine_page_of(&engine, cold)] &= ~(PAGE_YOUNG | PAGE_HEAT_MASK | PAGE_AGE_MASK);
    lock_acquire(&engine.evict_lock);
    cr_assert_eq(evict_pages(&engine, 1), 1);
    lock_release(&engine.evict_lock);
    cr_assert_eq(page_state(word_of(cold)), PAGE_STORED);
    cr_assert_eq(page_state(word_of(at)), PAGE_RESIDENT);
}

/* A scan of twelve blocks, of which room is made for all but one: every page of `hot` is read between its parts. */
static void scan_past(uintptr_t hot, size_t hot_pages, uintptr_t scanned, size_t blocks)
{
    for (size_t i = 0; i < blocks; i++) {
        verify(scanned + i * BLOCK, BLOCK_PAGES, TEXT, i * BLOCK_PAGES);
        verify(hot, hot_pages, TEXT, 5000);
        lock_acquire(&engine.evict_lock);
        size_t most = 2 * BLOCK_PAGES, resident = (size_t) engine.resident;
        if (resident > most)
            evict_pages(&engine, resident - most);
        lock_release(&engine.evict_lock);
    }
}

Test(engine, hot_pages_stay_while_a_scan_goes_by)
{
    enum { HOT = 16, BLOCKS = 12 };
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    engine.limit = 2 * BLOCK_PAGES;
    uintptr_t hot = block(BLOCK), scanned = block(BLOCKS * BLOCK);
    fill(hot, HOT, TEXT, 5000);
    fill(scanned, BLOCKS * BLOCK_PAGES, TEXT, 0);
    evict_all();
    scan_past(hot, HOT, scanned, BLOCKS); /* learns */
    scan_past(hot, HOT, scanned, BLOCKS);
    uint64_t before = engine.counters.refills;
    scan_past(hot, HOT, scanned, BLOCKS);
    uint64_t again = engine.counters.refills - before;
    cr_assert_leq(again, BLOCKS * BLOCK_PAGES + 2 * HOT, "%zu pages came back", (size_t) again);
    check_accounts();
}

/* ---- pins ---- */

Test(engine, pins_bring_in_and_hold)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(2 * BLOCK);
    fill(at, 2 * BLOCK_PAGES, TEXT, 1);
    evict_all();
    cr_assert(engine_pin(&engine, at + 10 * PAGE + 5, 3 * PAGE, true));
    evict_all();
    for (int i = 10; i <= 13; i++) {
        cr_assert(fake_kernel_access(&fake, at + (uintptr_t) i * PAGE, true));
        cr_assert_eq(page_place(word_of(at + (uintptr_t) i * PAGE)), PLACE_NONE);
    }
    cr_assert_geq(engine.resident, 4);
    engine_unpin(&engine, at + 10 * PAGE + 5, 3 * PAGE);
    evict_all();
    cr_assert_eq(engine.resident, 0);
    cr_assert(engine_pin(&engine, at, 1, false));
    cr_assert(fake_kernel_access(&fake, at, false));
    cr_assert(engine_pin(&engine, at, 1, true), "a page that was pinned for reading can be pinned for writing");
    cr_assert(fake_kernel_access(&fake, at, true));
    check_accounts();
}

Test(engine, what_is_given_up_stays_where_a_system_call_may_use_it)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(2 * BLOCK), used = at + 4 * PAGE;
    struct extent all = {at, 2 * BLOCK};
    fill(at, 2 * BLOCK_PAGES, TEXT, 1);
    evict_all();
    verify(at, 8, TEXT, 1); /* clean, their copies kept */
    for (unsigned failures = 0; failures < 3; failures++) {
        cr_assert(engine_pin(&engine, used, 1, true));
        fake.zero_fails = failures; /* what cannot be emptied goes all the same */
        if (!failures)
            fake_hold(&fake, used);
        engine_discard(&engine, &all, true);
        if (!failures) {
            cr_assert(fake_kernel_access(&fake, used, true));
            fake_let_go(&fake, used);
        }
        check_accounts();
        engine_unpin(&engine, used, 1);
        verify(at, 2 * BLOCK_PAGES, ZERO, 0);
        fill(at, 2 * BLOCK_PAGES, TEXT, 1);
    }
    cr_assert(engine_pin(&engine, used, 1, true));
    engine_discard(&engine, &all, false);
    cr_assert_eq(engine.resident, 0);
    engine_unpin(&engine, used, 1);
    verify(at, 2 * BLOCK_PAGES, ZERO, 0);
    check_accounts();
}

Test(engine, pins_taken_before_arming_hold_after_it)
{
    make_engine(&usual);
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    cr_assert(engine_pin(&engine, at, PAGE, true));
    arm_with(real_pool(PAGE), NULL);
    evict_all();
    cr_assert_eq(engine.resident, BLOCK_PAGES);
    engine_unpin(&engine, at, PAGE);
    evict_all();
    cr_assert_eq(engine.resident, 0);
}

Test(engine, a_pin_of_a_lost_page_holds_nothing)
{
    make_tiers();
    make_engine(&usual);
    arm_with(NULL, &first.tier);
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, NOISE, 1);
    evict_all();
    first.load_error = -EIO;
    cr_assert_not(engine_pin(&engine, at, 2 * PAGE, true));
    for (size_t region = 0; region < 4; region++)
        cr_assert_eq(engine.regions[region].pins, 0);
}

/* ---- freeing and moving ---- */

Test(engine, freeing_releases_every_record_at_once)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t text = block(BLOCK), noise = block(BLOCK), kept = block(BLOCK);
    fill(text, BLOCK_PAGES, TEXT, 1);
    fill(noise, BLOCK_PAGES, NOISE, 1);
    fill(kept, BLOCK_PAGES, TEXT, 7);
    evict_all();
    verify(text, BLOCK_PAGES / 2, TEXT, 1); /* half of them clean, in memory */
    free_block(text);
    free_block(noise);
    check_accounts();
    struct tier_stats stats;
    pool->ops->stats(pool, &stats);
    cr_assert_eq(stats.records, BLOCK_PAGES);
    spill->ops->stats(spill, &stats);
    cr_assert_eq(stats.records, 0);
    uintptr_t again = block(BLOCK);
    verify(again, BLOCK_PAGES, ZERO, 0);
    verify(kept, BLOCK_PAGES, TEXT, 7);
}

static uintptr_t move_block(uintptr_t from, size_t size)
{
    struct extent extent;
    uintptr_t to = block(size);
    cr_assert(arena_detach(&arena, from, &extent));
    engine_move(&engine, &extent, to);
    engine_forget(&engine, &extent);
    arena_return(&arena, &extent, false);
    return to;
}

static void moves_by_handle(enum content kind)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t at = block(BLOCK), between;
    fill(at, BLOCK_PAGES, kind, 1);
    evict_all();
    verify(at, BLOCK_PAGES / 4, kind, 1);                       /* clean */
    fill(at + PAGE, 2, kind, 2);                                /* dirty */
    uint64_t before = loads(pool) + loads(spill);
    at = move_block(at, 2 * BLOCK);
    between = block(BLOCK); /* where it was: other content under the old page numbers */
    fill(between, BLOCK_PAGES, kind, 500);
    at = move_block(at, 4 * BLOCK);
    cr_assert_eq(loads(pool) + loads(spill), before, "moving a block read it in");
    check_accounts();
    evict_all();
    verify(at, 1, kind, 1);
    verify(at + PAGE, 2, kind, 2);
    verify(at + 3 * PAGE, BLOCK_PAGES - 3, kind, 4);
    verify(at + BLOCK, 3 * BLOCK_PAGES, ZERO, 0);
    verify(between, BLOCK_PAGES, kind, 500);
    evict_all(); /* clean copies of moved records leave again, and come again */
    verify(at + 3 * PAGE, BLOCK_PAGES - 3, kind, 4);
    check_accounts();
    free_block(at);
    free_block(between);
    check_accounts();
}

Test(engine, blocks_in_the_pool_move_by_handle) { moves_by_handle(TEXT); }
Test(engine, blocks_in_the_spill_move_by_handle) { moves_by_handle(NOISE); }
Test(engine, blocks_of_one_word_move_by_handle) { moves_by_handle(SAME); }

Test(engine, moved_pages_survive_demotion_and_cleaning)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    size_t n = 16 * BLOCK_PAGES;
    uintptr_t at = block(n * PAGE);
    fill(at, n, TEXT, 1);
    evict_all();
    at = move_block(at, n * PAGE);
    lock_acquire(&engine.evict_lock);
    evict_shrink_pool(&engine, 0); /* everything goes on to the spill */
    lock_release(&engine.evict_lock);
    check_accounts();
    cr_assert_eq(page_place(word_of(at)), PLACE_SPILL);
    at = move_block(at, n * PAGE);
    verify(at, n, TEXT, 1);
    check_accounts();
}

/* What a peek of absent memory leaves in it: an empty page. */
static void peek_at(uintptr_t address)
{
    unsigned char scratch[PAGE];
    cr_assert_null(fake.pf.ops->peek(&fake.pf, address, scratch));
}

static void moves_past_residue(bool at_source)
{
    make_engine(&(struct fake_config){.size = ARENA, .page = PAGE});
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t at = block(BLOCK), to = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    evict_all();
    verify(at, 1, TEXT, 1);
    for (size_t page = 0; page < BLOCK_PAGES; page += 3)
        if (!at_source)
            peek_at(to + page * PAGE);
        else if (page_state(word_of(at + page * PAGE)) == PAGE_STORED)
            peek_at(at + page * PAGE);
    struct extent extent;
    cr_assert(arena_detach(&arena, at, &extent));
    engine_move(&engine, &extent, to);
    verify(to, BLOCK_PAGES, TEXT, 1);
    check_accounts();
}

/* An evictor may read at an address whose block has just been freed. */
Test(engine, a_stored_page_moves_to_where_somebody_peeked) { moves_past_residue(false); }
Test(engine, a_stored_page_moves_from_where_somebody_peeked) { moves_past_residue(true); }

Test(engine, a_page_that_did_not_arrive_is_lost_and_not_empty)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    fake.move_fails = 1;
    at = move_block(at, 2 * BLOCK);
    verify(at, BLOCK_PAGES - 1, TEXT, 1);
    unsigned char byte;
    cr_assert_eq(fake_read(&engine, at + BLOCK - 1, &byte, 1), FAULT_POISONED);
    verify(at + BLOCK, BLOCK_PAGES, ZERO, 0);
    check_accounts();
}

/* With the kernel's own swap beneath. */
Test(engine, a_block_with_protected_pages_arrives_writable)
{
    make_engine(&usual);
    fake.swaps = true;
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    evict_all();
    verify(at, BLOCK_PAGES / 2, TEXT, 1); /* clean: protected, their copies kept */
    cr_assert_eq(fake_state(&fake, at), FAKE_PROTECTED);
    at = move_block(at, 2 * BLOCK);
    check_accounts();
    cr_assert(fake_kernel_access(&fake, at, true));
    verify(at, BLOCK_PAGES, TEXT, 1);
}

Test(engine, a_protected_page_that_finds_no_room_comes_back_writable)
{
    make_engine(&(struct fake_config){.size = ARENA, .page = PAGE, .protects = true, .takes = true, .take_only = true});
    fake.swaps = true;
    make_tiers();
    first.capacity = 0;
    arm_with(&first.tier, NULL);
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    engine.pages[engine_page_of(&engine, at)] |= PAGE_PROTECTED; /* as between victims */
    cr_assert_eq(fake.pf.ops->protect(&fake.pf, at, PAGE), 0);
    check_accounts();
    cr_assert_eq(evict_all(), 0);
    cr_assert_gt(fake.calls[FAKE_TAKE], 0);
    check_accounts();
    verify(at, BLOCK_PAGES, TEXT, 1);
}

Test(engine, unarmed_blocks_move_too)
{
    make_engine(&usual);
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, NOISE, 1);
    at = move_block(at, 2 * BLOCK);
    verify(at, BLOCK_PAGES, NOISE, 1);
}

/* ---- failing tiers ---- */

static void loses_only_what_is_lost(int error)
{
    make_tiers();
    make_engine(&usual);
    arm_with(NULL, &first.tier);
    uintptr_t at = block(BLOCK);
    unsigned char byte;
    fill(at, BLOCK_PAGES, NOISE, 1);
    evict_all();
    first.load_error = error;
    cr_assert_eq(fake_read(&engine, at + PAGE, &byte, 1), FAULT_POISONED);
    first.load_error = 0;
    cr_assert_eq(fake_read(&engine, at + PAGE, &byte, 1), FAULT_POISONED, "a lost page came back");
    cr_assert_eq(fake_write(&engine, at + PAGE, &byte, 1), FAULT_POISONED);
    verify(at, 1, NOISE, 1);
    verify(at + 2 * PAGE, BLOCK_PAGES - 2, NOISE, 3);
    cr_assert_eq(engine.counters.poisoned, 1);
    check_accounts();
    at = move_block(at, BLOCK);
    cr_assert_eq(fake_read(&engine, at + PAGE, &byte, 1), FAULT_POISONED, "a lost page came back by moving");
    free_block(at);
    cr_assert_eq(first.live, 0);
    at = block(BLOCK);
    verify(at, BLOCK_PAGES, ZERO, 0);
}

Test(engine, a_read_error_costs_one_page) { loses_only_what_is_lost(-EIO); }
Test(engine, a_forged_record_costs_one_page) { loses_only_what_is_lost(-EBADMSG); }

/* The same scenario with the store failing at each index, for good or once. */
static void full_at(uint64_t index, bool for_good, const struct fake_config *config, size_t most)
{
    enum { N = 24 };
    make_tiers();
    make_engine(config);
    first.fail_store_at = index;
    second.fail_store_at = index;
    first.most_a_store = second.most_a_store = most;
    arm_with(&first.tier, &second.tier);
    uintptr_t text = block(N * PAGE), noise = block(N * PAGE);
    fill(text, N, TEXT, 1);
    fill(noise, N, NOISE, 1);
    evict_all();
    check_accounts();
    if (!for_good)
        first.fail_store_at = second.fail_store_at = UINT64_MAX;
    fill(text, N / 2, TEXT, 3);
    verify(noise, N, NOISE, 1);
    evict_all();
    check_accounts();
    verify(text, N / 2, TEXT, 3);
    verify(text + N / 2 * PAGE, N - N / 2, TEXT, 1 + N / 2);
    verify(noise, N, NOISE, 1);
    check_accounts();
    end_world();
}

Test(engine, a_full_tier_loses_nothing_wherever_it_is_full)
{
    static const struct fake_config configs[] = {
        {.size = ARENA, .page = PAGE, .protects = true},
        {.size = ARENA, .page = PAGE, .protects = true, .takes = true},
        {.size = ARENA, .page = PAGE, .protects = true, .takes = true, .take_only = true},
        {.size = ARENA, .page = PAGE},
    };
    for (size_t c = 0; c < 4; c++)
        for (uint64_t index = 1; index <= 50; index++)
            for (int for_good = 0; for_good < 2; for_good++)
                full_at(index, for_good, &configs[c], index % 3 ? SIZE_MAX : 5);
}

/* Records whose pages have moved cannot be cleaned (their old page number no longer names them): the evictor must
 * notice that it gets nowhere. */
Test(engine, a_full_spill_of_moved_records_is_not_cleaned_for_ever)
{
    make_tiers();
    make_engine(&usual);
    first.segment = 16;
    first.capacity = 4;
    arm_with(NULL, &first.tier);
    uintptr_t at = block(BLOCK);
    first.capacity = 16;
    fill(at, 16, NOISE, 1);
    evict_all();
    fill(at + 4 * PAGE, 12, NOISE, 5); /* a quarter of the segment stays live */
    at = move_block(at, BLOCK);
    first.capacity = 4;
    evict_all();
    verify(at, 16, NOISE, 1);
    check_accounts();
}

/* Clean victims of the batch are in motion: their records cannot be moved now. */
Test(engine, a_full_spill_of_pages_that_leave_is_not_cleaned_for_ever)
{
    make_tiers();
    make_engine(&usual);
    first.segment = 16;
    first.capacity = 16;
    arm_with(NULL, &first.tier);
    uintptr_t at = block(BLOCK);
    fill(at, 16, NOISE, 1);
    evict_all();
    fill(at + 4 * PAGE, 12, NOISE, 5);
    verify(at, 4, NOISE, 1); /* clean copies, the whole live content of the segment */
    first.capacity = 4;
    evict_all();
    verify(at, 16, NOISE, 1);
    check_accounts();
}

Test(engine, a_platform_that_refuses_costs_nothing)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    fake.protect_fails = 1;
    evict_all();
    check_accounts();
    verify(at, BLOCK_PAGES, TEXT, 1);
    fill(at, BLOCK_PAGES, TEXT, 2);
    fake.peek_fails = 10;
    evict_all();
    check_accounts();
    verify(at, BLOCK_PAGES, TEXT, 2);
    fill(at, BLOCK_PAGES, TEXT, 3);
    fake.drop_fails = 1;
    evict_all();
    check_accounts();
    verify(at, BLOCK_PAGES, TEXT, 3);
}

/* The hand passes a region more than once a batch: the first group's protection reaches across pages of the second. */
Test(engine, a_refused_victim_between_others_can_be_written_to)
{
    make_engine(&(struct fake_config){.size = ARENA, .page = PAGE, .protects = true, .takes = true});
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    size_t first_page = engine_page_of(&engine, at);
    for (size_t i = 0; i < BLOCK_PAGES; i++)
        engine.pages[first_page + i] = policy_stay(PAGE_RESIDENT, i >= 5 && i < 11 ? 1 : i % 21 == 0 ? 0 : 31);
    fake.busy[first_page + 7] = true;
    lock_acquire(&engine.evict_lock);
    evict_pages(&engine, 200);
    lock_release(&engine.evict_lock);
    cr_assert(engine_pin(&engine, at + 7 * PAGE, PAGE, true));
    cr_assert(fake_kernel_access(&fake, at + 7 * PAGE, true));
    engine_unpin(&engine, at + 7 * PAGE, PAGE);
}

Test(engine, a_fork_long_ago_does_not_give_up_what_a_device_writes_to)
{
    make_engine(&(struct fake_config){.size = ARENA, .page = PAGE, .protects = true, .takes = true, .take_only = true});
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    engine.evict_shared = true;
    fake.busy[engine_page_of(&engine, at) + 7] = true;
    evict_all();
    cr_assert_eq(page_state(word_of(at + 7 * PAGE)), PAGE_RESIDENT);
    cr_assert_eq(page_state(word_of(at + 8 * PAGE)), PAGE_STORED);
}

Test(engine, a_fault_at_the_limit_ends_though_nothing_can_leave, .timeout = 20)
{
    make_engine(&(struct fake_config){.size = ARENA, .page = PAGE, .protects = true, .takes = true, .take_only = true});
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t at = block(BLOCK), more = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    for (size_t i = 0; i < BLOCK_PAGES; i++)
        fake.busy[engine_page_of(&engine, at) + i] = true;
    engine.limit = 32;
    fill(more, 1, TEXT, 1);
}

Test(engine, pages_in_the_kernels_hands_are_not_taken)
{
    make_engine(&(struct fake_config){.size = ARENA, .page = PAGE, .protects = true, .takes = true, .take_only = true});
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    for (size_t i = 0; i < BLOCK_PAGES; i += 5)
        fake.busy[engine_page_of(&engine, at) + i] = true;
    evict_all();
    for (size_t i = 0; i < BLOCK_PAGES; i++)
        cr_assert_eq(page_state(word_of(at + i * PAGE)), i % 5 ? PAGE_STORED : PAGE_RESIDENT);
    check_accounts();
    verify(at, BLOCK_PAGES, TEXT, 1);
}

Test(engine, pages_that_resist_are_not_a_full_spill)
{
    make_engine(&(struct fake_config){.size = ARENA, .page = PAGE, .protects = true, .takes = true});
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t at = block(BLOCK);
    fill(at, 3, TEXT, 1);
    for (size_t i = 0; i < BLOCK_PAGES; i++)
        fake.busy[engine_page_of(&engine, at) + i] = true;
    evict_all();
    cr_assert_not(engine.spill_full);
}

/* ---- taken or held ---- */

static const struct fake_config taking = {.size = ARENA, .page = PAGE, .protects = true, .takes = true};

/* A span of pages in memory: the largest number of pages among which victims are blocked together. */
enum { SPAN = 4 * REGION_PAGES, RUN_ALWAYS = 6 };

static uintptr_t make_spans(const struct fake_config *config, size_t spans)
{
    make_engine(config);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(spans * SPAN * PAGE);
    cr_assert_eq(engine_page_of(&engine, at) % SPAN, 0);
    fill(at, spans * SPAN, TEXT, 1);
    for (size_t i = 0; i < spans * SPAN; i++)
        engine.pages[engine_page_of(&engine, at) + i] = policy_stay(word_of(at + i * PAGE), PAGE_AGE_MAX);
    memset(fake.calls, 0, sizeof fake.calls);
    return at;
}

static void make_due(uintptr_t at, size_t pages)
{
    for (size_t i = 0; i < pages; i++)
        engine.pages[engine_page_of(&engine, at) + i] = policy_stay(word_of(at + i * PAGE), 0);
}

static size_t evict_due(size_t pages)
{
    lock_acquire(&engine.evict_lock);
    size_t left = evict_pages(&engine, pages);
    lock_release(&engine.evict_lock);
    return left;
}

/* n runs of so many pages each, with a page between them, leave, by so many calls. */
static uintptr_t evict_runs(const struct fake_config *config, size_t n, size_t run, uint64_t takes, uint64_t protects)
{
    uintptr_t at = make_spans(config, 1);
    for (size_t i = 0; i < n; i++)
        make_due(at + i * (run + 1) * PAGE, run);
    cr_assert_eq(evict_due(n * run), n * run);
    cr_assert_eq(fake.calls[FAKE_TAKE], takes, "%zu runs of %zu: %lu taken", n, run, fake.calls[FAKE_TAKE]);
    cr_assert_eq(fake.calls[FAKE_PROTECT], protects, "%zu runs of %zu: %lu held", n, run, fake.calls[FAKE_PROTECT]);
    cr_assert_eq(fake.calls[FAKE_PEEK], takes ? 0 : n * run, "what is taken is not copied, what is held is");
    cr_assert_eq(engine.resident, SPAN - n * run);
    check_accounts();
    return at;
}

Test(engine, neighbours_are_taken)
{
    uintptr_t at = evict_runs(&taking, 1, 40, 1, 0);
    verify(at, SPAN, TEXT, 1);
    check_accounts();
}

Test(engine, a_lone_victim_is_taken) { evict_runs(&taking, 1, 1, 1, 0); }

Test(engine, scattered_victims_are_held_by_one_call)
{
    uintptr_t at = evict_runs(&taking, 20, 1, 0, 1);
    for (size_t i = 1; i < 39; i += 2) {
        cr_assert_eq(page_state(word_of(at + i * PAGE)), PAGE_RESIDENT);
        cr_assert_eq(fake_state(&fake, at + i * PAGE), FAKE_PRESENT, "page %zu lay between victims", i);
        cr_assert_not(word_of(at + i * PAGE) & PAGE_PROTECTED);
    }
    cr_assert_eq(fake.calls[FAKE_UNPROTECT], 1);
    uint64_t before = engine.counters.faults;
    for (size_t i = 1; i < 39; i += 2)
        fill(at + i * PAGE, 1, TEXT, 1 + i);
    cr_assert_eq(engine.counters.faults, before, "writing to what lay between victims costs a trap");
    verify(at, SPAN, TEXT, 1);
    fill(at, SPAN, TEXT, 2);
    verify(at, SPAN, TEXT, 2);
    check_accounts();
}

/* Two runs pay for two interrupts when they are long enough. */
Test(engine, two_short_runs_are_held) { evict_runs(&taking, 2, RUN_ALWAYS / 2 - 1, 0, 1); }
Test(engine, two_longer_runs_are_taken) { evict_runs(&taking, 2, RUN_ALWAYS / 2, 2, 0); }
Test(engine, many_long_runs_are_taken) { evict_runs(&taking, 5, RUN_ALWAYS, 5, 0); }

Test(engine, who_takes_only_takes_scattered_victims_too)
{
    struct fake_config config = taking;
    config.take_only = true;
    uintptr_t at = evict_runs(&config, 20, 1, 20, 0);
    for (size_t i = 1; i < 39; i += 2)
        cr_assert_eq(fake_state(&fake, at + i * PAGE), FAKE_PRESENT, "page %zu was protected", i);
    verify(at, SPAN, TEXT, 1);
}

Test(engine, where_memory_is_locked_scattered_victims_are_taken)
{
    uintptr_t at = make_spans(&taking, 1);
    engine.locked = true;
    for (size_t i = 0; i < 40; i += 2)
        make_due(at + i * PAGE, 1);
    cr_assert_eq(evict_due(20), 20);
    cr_assert_eq(fake.calls[FAKE_TAKE], 20);
    cr_assert_eq(fake.calls[FAKE_PROTECT], 0);
    check_accounts();
}

Test(engine, who_cannot_take_holds_neighbours)
{
    evict_runs(&(struct fake_config){.size = ARENA, .page = PAGE, .protects = true}, 1, 40, 0, 1);
}

Test(engine, each_span_decides_for_itself)
{
    uintptr_t at = make_spans(&taking, 2);
    make_due(at + (SPAN - 10) * PAGE, 20); /* neighbours across the end of the first */
    for (size_t i = 40; i < 60; i += 2)
        make_due(at + (SPAN + i) * PAGE, 1);
    cr_assert_eq(evict_due(30), 30);
    cr_assert_eq(fake.calls[FAKE_TAKE], 1);
    cr_assert_eq(fake.calls[FAKE_PROTECT], 1);
    cr_assert_eq(fake.calls[FAKE_PEEK], 20);
    verify(at, 2 * SPAN, TEXT, 1);
    check_accounts();
}

/* What came back with its copy kept lies between victims: it stays protected, what lies around it does not. */
Test(engine, bystanders_with_a_copy_stay_protected)
{
    uintptr_t at = evict_runs(&taking, 20, 1, 0, 1), kept = at + 20 * PAGE;
    verify(kept, 1, TEXT, 21);
    cr_assert_eq(fake_state(&fake, kept), FAKE_PROTECTED);
    engine.pages[engine_page_of(&engine, kept)] = policy_stay(word_of(kept), PAGE_AGE_MAX);
    for (size_t i = 1; i < 38; i += 6)
        make_due(at + i * PAGE, 1);
    cr_assert_eq(evict_due(7), 7);
    cr_assert_eq(fake.calls[FAKE_UNPROTECT], 3);
    cr_assert_eq(fake_state(&fake, kept), FAKE_PROTECTED);
    for (size_t i = 3; i < 37; i += 6)
        cr_assert_eq(fake_state(&fake, at + i * PAGE), FAKE_PRESENT, "page %zu", i);
    fill(kept, 1, TEXT, 3);
    evict_all();
    verify(kept, 1, TEXT, 3);
    verify(at, 20, TEXT, 1);
    check_accounts();
}

/* Something else has come between the victims since: each of the others is made writable by itself. */
Test(engine, bystanders_that_cannot_be_unprotected_together_are_one_by_one)
{
    uintptr_t at = make_spans(&taking, 1);
    for (size_t i = 0; i < 40; i += 2)
        make_due(at + i * PAGE, 1);
    fake.unprotect_fails = 1;
    cr_assert_eq(evict_due(20), 20);
    cr_assert_eq(fake.calls[FAKE_UNPROTECT], 1 + 19);
    for (size_t i = 1; i < 39; i += 2) {
        cr_assert_eq(fake_state(&fake, at + i * PAGE), FAKE_PRESENT, "page %zu", i);
        cr_assert_not(word_of(at + i * PAGE) & PAGE_PROTECTED);
    }
    check_accounts();
    verify(at, SPAN, TEXT, 1);
}

/* A pin between the victims, in a region without one: they are protected one by one. */
Test(engine, pinned_bystanders_stay_writable)
{
    uintptr_t at = make_spans(&taking, 1), pinned = at + (REGION_PAGES + 5) * PAGE;
    make_due(at, 1);
    make_due(at + 2 * REGION_PAGES * PAGE, 1);
    make_due(at + (2 * REGION_PAGES + 9) * PAGE, 1);
    cr_assert(engine_pin(&engine, pinned, 1, true));
    fake_hold(&fake, pinned);
    cr_assert_eq(evict_due(3), 3);
    cr_assert_eq(fake.calls[FAKE_PROTECT], 3);
    cr_assert_eq(fake_present(&fake, at, SPAN * PAGE), SPAN - 3);
    fake_let_go(&fake, pinned);
    engine_unpin(&engine, pinned, 1);
    check_accounts();
    verify(at, SPAN, TEXT, 1);
}

static void cannot_be_protected(unsigned fails, size_t partly)
{
    enum { VICTIMS = 5 };
    uintptr_t at = make_spans(&usual, 1);
    for (size_t i = 0; i < VICTIMS; i++)
        make_due(at + 2 * i * PAGE, 1);
    fake.protect_fails = fails;
    fake.protect_partly = partly;
    cr_assert_eq(evict_due(1), VICTIMS + 1 - fails); /* a region goes as a whole */
    cr_assert_eq(fake.calls[FAKE_PROTECT], 1 + VICTIMS);
    check_accounts();
    verify(at, SPAN, TEXT, 1);
    end_world();
}

/* The first call is for the span, then there is one for each victim. */
Test(engine, a_span_that_cannot_be_protected_leaves_bystanders_writable)
{
    for (unsigned fails = 1; fails <= 4; fails++)
        for (size_t partly = 0; partly < 9; partly++)
            cannot_be_protected(fails, partly);
}

/* ---- a dense pool ---- */

enum { DENSE_BLOCKS = 48, DENSE_ROOM = 64 << 20 };

static struct tier_stats pool_now(void)
{
    struct tier_stats stats;
    pool->ops->stats(pool, &stats);
    return stats;
}

/* Two thirds of each page cannot be compressed. */
static void fill_coarse(uintptr_t at, uint64_t seed)
{
    unsigned char page[PAGE];
    for (size_t i = 0; i < BLOCK_PAGES; i++) {
        make_content(page, PAGE, NOISE, seed + i);
        memset(page, 0, PAGE / 3);
        cr_assert_eq(fake_write(&engine, at + i * PAGE, page, PAGE), FAULT_HEALED);
    }
}

static void make_dense(uintptr_t *blocks)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    for (size_t i = 0; i < DENSE_BLOCKS; i++)
        fill_coarse(blocks[i] = block(BLOCK), i * BLOCK_PAGES);
    evict_all();
}

static void touch(uintptr_t page, uint64_t value) { fake_write(&engine, page, (unsigned char *) &value, sizeof value); }

/* Where most of what was stored is gone, its memory is given back, and cleaning comes to an end. */
Test(engine, a_pool_that_shrinks_is_cleaned_once)
{
    uintptr_t blocks[DENSE_BLOCKS];
    make_dense(blocks);
    for (size_t i = 0; i < DENSE_BLOCKS; i++)
        if (i % 4)
            free_block(blocks[i]);
    uint64_t stores = 0;
    size_t left = 0;
    for (uint64_t round = 0; round < 40; round++) {
        if (round == 20) {
            left = 0;
            stores = pool_now().stores;
        }
        for (size_t i = 0; i < 32; i++)
            touch(blocks[round % 12 * 4] + (i + round) % BLOCK_PAGES * PAGE, round + 1);
        left += evict_all();
        lock_acquire(&engine.evict_lock);
        evict_shrink_pool(&engine, DENSE_ROOM);
        lock_release(&engine.evict_lock);
    }
    struct tier_stats stats = pool_now();
    cr_assert_leq(stats.held_bytes, stats.bytes + stats.bytes / 8 + (4 << 20), "%lu of %lu", stats.held_bytes, stats.bytes);
    cr_assert_leq(stats.stores - stores, 2 * left, "%lu moves for %zu pages that left", stats.stores - stores, left);
    for (size_t i = 0; i < DENSE_BLOCKS; i += 4)
        free_block(blocks[i]);
    check_accounts();
}

/* Cleaning moves the copies of pages that are in memory, too: they need not be compressed again. */
Test(engine, cleaning_keeps_copies)
{
    uintptr_t blocks[DENSE_BLOCKS];
    page_word words[DENSE_BLOCKS];
    unsigned char byte, page[PAGE], seen[PAGE];
    size_t moved = 0;
    make_dense(blocks);
    for (size_t i = 0; i < DENSE_BLOCKS; i += 4) {
        cr_assert_eq(fake_read(&engine, blocks[i], &byte, 1), FAULT_HEALED);
        words[i] = word_of(blocks[i]);
        for (size_t k = 1; k < 4; k++)
            free_block(blocks[i + k]);
    }
    for (uint64_t round = 0; round < 8; round++) {
        size_t other = engine_page_of(&engine, blocks[0]) + 32;
        touch(engine_address_of(&engine, other), round);
        lock_acquire(&engine.evict_lock);
        cr_assert_eq(evict_range(&engine, other, other + 1), 1);
        lock_release(&engine.evict_lock);
    }
    for (size_t i = 0; i < DENSE_BLOCKS; i += 4) {
        page_word word = word_of(blocks[i]);
        cr_assert_eq(page_state(word), PAGE_RESIDENT);
        cr_assert_eq(page_place(word), PLACE_POOL, "the copy of block %zu is gone", i);
        moved += page_handle(word) != page_handle(words[i]);
    }
    cr_assert_gt(moved, 0);
    evict_all();
    for (size_t i = 0; i < DENSE_BLOCKS; i += 4) {
        make_content(page, PAGE, NOISE, i * BLOCK_PAGES);
        memset(page, 0, PAGE / 3);
        cr_assert_eq(fake_read(&engine, blocks[i], seen, PAGE), FAULT_HEALED);
        cr_assert_eq(memcmp(page, seen, PAGE), 0, "block %zu", i);
    }
    check_accounts();
}

/* ---- compressing together ---- */

static bool helping;

static void *help(void *unused)
{
    while (__atomic_load_n(&helping, __ATOMIC_ACQUIRE))
        compress_help(&engine);
    return unused;
}

/* More of them than may help. Each round is other content: what is stored late, or of another page, is noticed. */
Test(engine, who_waits_compresses_a_part, .timeout = 60)
{
    enum { HELPING = COMPRESS_HELPERS + 2, ROUNDS = 3000, ENOUGH = 1000 };
    pthread_t threads[HELPING];
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(BLOCK);
    helping = true;
    for (size_t i = 0; i < HELPING; i++)
        pthread_create(&threads[i], NULL, help, NULL);
    for (uint64_t round = 1; round <= ROUNDS || engine.counters.helped < ENOUGH; round++) {
        fill(at, BLOCK / PAGE, TEXT, round * 1000);
        evict_all();
        verify(at, BLOCK / PAGE, TEXT, round * 1000);
    }
    __atomic_store_n(&helping, false, __ATOMIC_RELEASE);
    for (size_t i = 0; i < HELPING; i++)
        pthread_join(threads[i], NULL);
    cr_assert_lt(engine.counters.helped, engine.counters.evictions);
    check_accounts();
}

Test(engine, there_is_nothing_to_help_with_between_batches)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    cr_assert_not(compress_help(&engine));
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK / PAGE, TEXT, 1);
    cr_assert_gt(evict_all(), 0);
    cr_assert_not(compress_help(&engine));
    cr_assert_eq(engine.counters.helped, 0);
}

/* ---- freeing while the evictor reads ---- */

static struct {
    struct extent extent;
    pthread_t thread;
} free_race;

static void *free_it(void *unused)
{
    engine_forget(&engine, &free_race.extent);
    return unused;
}

/* The evictor has just got the content that it is going to store. */
static void free_at_peek(void *context, int op, uintptr_t address, int64_t result)
{
    (void) context, (void) address, (void) result;
    if (op != (FAKE_PEEK | FAKE_RETURNED) || free_race.thread)
        return;
    pthread_create(&free_race.thread, NULL, free_it, NULL);
    usleep(100000);
}

Test(engine, a_block_may_be_freed_under_the_evictors_eyes)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(BLOCK);
    fill(at, 1, TEXT, 1);
    cr_assert(arena_detach(&arena, at, &free_race.extent));
    fake.step = free_at_peek;
    evict_all();
    pthread_join(free_race.thread, NULL);
    arena_return(&arena, &free_race.extent, false);
    check_accounts();
}

/* ---- the budget ---- */

static uint64_t resident_bytes(void)
{
    struct tier_stats stats;
    pool->ops->stats(pool, &stats);
    return fake_present(&fake, fake.pf.base, ARENA) * fake.pf.page + stats.held_bytes;
}

Test(engine, the_budget_holds_without_a_thread)
{
    enum { BUDGET = 1536 * PAGE };
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    struct pager_config config = {.budget = BUDGET, .resident = resident_bytes, .no_thread = true};
    cr_assert_eq(pager_start(&engine, &config), 0);
    size_t n = 2 * BUDGET / PAGE;
    uintptr_t at = block(n * PAGE);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < n; i++) {
            fill(at + i * PAGE, 1, i % 2 ? NOISE : TEXT, i);
            if (i % 64)
                continue;
            pager_step(&engine);
            cr_assert_leq(engine.resident, engine.limit);
            cr_assert_leq(resident_bytes(), BUDGET, "%lu bytes of %d", resident_bytes(), BUDGET);
        }
        check_accounts();
    }
    for (size_t i = 0; i < n; i++)
        verify(at + i * PAGE, 1, i % 2 ? NOISE : TEXT, i);
    cr_assert_leq(engine.resident, engine.limit + AHEAD, "a fault brings 64 KiB at the most");
    check_accounts();
}

static uint64_t part;
static struct claim claimed;

static uint64_t allot_part(const struct claim *mine)
{
    claimed = *mine;
    return part;
}

Test(engine, the_budget_may_be_a_part_that_changes)
{
    enum { BUDGET = 16 << 20 };
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    struct pager_config config = {.budget = BUDGET, .resident = resident_bytes, .allot = allot_part, .no_thread = true};
    part = BUDGET;
    cr_assert_eq(pager_start(&engine, &config), 0);
    size_t n = (12 << 20) / PAGE;
    uintptr_t at = block(n * PAGE);
    for (size_t i = 0; i < n; i++)
        fill(at + i * PAGE, 1, i % 2 ? NOISE : TEXT, i);
    pager_step(&engine);
    cr_assert_eq(engine.counters.evictions, 0);
    cr_assert_geq(claimed.use, n * PAGE);
    cr_assert_gt(claimed.demand, claimed.use, "room to grow");
    part = 6 << 20;
    while (pager_step(&engine))
        ;
    cr_assert_leq(resident_bytes(), part);
    cr_assert_geq(claimed.demand, n * PAGE, "what has just left is wanted");
    cr_assert_lt(claimed.firm, 4 << 20);
    for (size_t i = 0; i < n; i++)
        verify(at + i * PAGE, 1, i % 2 ? NOISE : TEXT, i);
    check_accounts();
}

/* Another thread may fault just after pages could leave and before the budget is known. */
Test(engine, a_fault_before_the_pager_has_started_does_not_start_it)
{
    make_engine(&usual);
    engine.pager = (struct pager){0};
    arm_with(real_pool(PAGE), NULL);
    fill(block(BLOCK), 2, TEXT, 1);
    usleep(20000);
    cr_assert_eq(engine.pager.running, 0);
    check_accounts();
}

/* ---- fork ---- */

static void fork_leaves_all_in_order(enum platform_fork side)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), real_spill(PAGE));
    uintptr_t text = block(BLOCK), noise = block(BLOCK);
    fill(text, BLOCK_PAGES, TEXT, 1);
    fill(noise, BLOCK_PAGES, NOISE, 1);
    evict_all();
    verify(text, 4, TEXT, 1); /* kept copies */
    cr_assert(engine_pin(&engine, noise, PAGE, false));
    engine_fork(&engine, FORK_BEFORE);
    cr_assert(lock_held_by_me(&arena.lock) && lock_held_by_me(&engine.evict_lock));
    engine_fork(&engine, side);
    cr_assert_not(lock_held_by_me(&arena.lock) || lock_held_by_me(&engine.evict_lock));
    cr_assert_eq(fake.forks[FORK_BEFORE], 1);
    cr_assert_eq(fake.forks[side], 1);
    cr_assert_eq(engine.gate, 0);
    if (side == FORK_PARENT)
        engine_unpin(&engine, noise, PAGE);
    fill(text, 8, TEXT, 50);
    evict_all();
    verify(text, 8, TEXT, 50);
    verify(text + 8 * PAGE, BLOCK_PAGES - 8, TEXT, 9);
    verify(noise, BLOCK_PAGES, NOISE, 1);
    if (side == FORK_PARENT)
        check_accounts();
}

Test(engine, a_fork_leaves_the_parent_in_order) { fork_leaves_all_in_order(FORK_PARENT); }

/* The child keeps no copies of pages in memory, whose writes it could not see; and holds none of its parent's pins. */
Test(engine, a_child_keeps_no_copies_and_no_pins)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(BLOCK);
    fill(at, BLOCK_PAGES, TEXT, 1);
    evict_all();
    verify(at, BLOCK_PAGES, TEXT, 1);
    cr_assert(engine_pin(&engine, at, PAGE, false));
    engine_fork(&engine, FORK_BEFORE);
    for (size_t i = 0; i < BLOCK_PAGES; i++) /* what fork does to them */
        fake.pf.ops->unprotect(&fake.pf, at + i * PAGE, PAGE);
    engine_fork(&engine, FORK_CHILD);
    check_accounts();
    fill(at, 4, TEXT, 9);
    evict_all();
    cr_assert_eq(engine.resident, 0);
    verify(at, 4, TEXT, 9);
    verify(at + 4 * PAGE, BLOCK_PAGES - 4, TEXT, 5);
}

static void *fault_during_fork(void *address)
{
    unsigned char byte = 7;
    cr_assert_eq(fake_write(&engine, (uintptr_t) address, &byte, 1), FAULT_HEALED);
    return NULL;
}

Test(engine, faults_wait_while_a_fork_is_on)
{
    make_engine(&usual);
    arm_with(real_pool(PAGE), NULL);
    uintptr_t at = block(BLOCK);
    pthread_t thread;
    engine_fork(&engine, FORK_BEFORE);
    pthread_create(&thread, NULL, fault_during_fork, (void *) at);
    usleep(50000);
    cr_assert_eq(fake_present(&fake, at, BLOCK), 0, "a page came in while the process was being copied");
    engine_fork(&engine, FORK_PARENT);
    pthread_join(thread, NULL);
    cr_assert_eq(engine.resident, 1);
    check_accounts();
}
