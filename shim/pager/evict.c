/*
 * evict.c: taking pages out.
 *
 * One evictor at a time (evict_lock), a batch at a time:
 *   choose   a hand goes round the regions; pages that may not stay (policy.h) and are not pinned are victims
 *   block    their writers: protected, or taken away into staging in one step
 *   store    their content: one repeated word, compressed (compress.c) into the pool, or raw into the spill
 *   free     all of them in one call; what a write has rescued meanwhile stays
 *
 * Source of the hand: Corbató, "A Paging Experiment with the Multics System" (1969).
 *
 * Runs on the pager's thread, which has no thread-local storage, or inside a fault: the rules of fault.c hold.
 */
#include "evict.h"
#include "evictor.h"

#include <errno.h>
#include <limits.h>

#include "../../platform/os.h"
#include "../base/log.h"
#include "../tier/pool.h"
#include "compress.h"
#include "pager.h"

/* After this many rounds of the hand without a victim there is none for now: the next attempt ages on. */
#define ROUNDS_MAX 5

int evictor_new(struct engine *engine)
{
    struct evictor *evictor = os_map_now(sizeof *evictor); /* counted before the budget gets tight */
    if (!evictor)
        return -ENOMEM;
    if (codec_encoder_init(&evictor->encoder) < 0) {
        os_unmap(evictor, sizeof *evictor);
        return -ENOMEM;
    }
    evictor->capacity = BATCH_BYTES >> engine->page_shift;
    if (evictor->capacity > BATCH_MAX)
        evictor->capacity = BATCH_MAX;
    engine->evictor = evictor;
    compress_reset(engine);
    return 0;
}

void evictor_free(struct engine *engine)
{
    if (!engine->evictor)
        return;
    codec_encoder_fini(&engine->evictor->encoder);
    os_unmap(engine->evictor, sizeof *engine->evictor);
    engine->evictor = NULL;
}

uint64_t evict_same_word(const struct engine *engine, tier_handle handle)
{
    return same_word(&engine->evictor->same, handle);
}

static bool has_copy(page_word word) { return (word & PAGE_PROTECTED) && page_place(word) != PLACE_NONE; }

/* ---- choosing ---- */

/* Ages one page. Returns whether it is due. */
static bool age(page_word *word, page_word seen)
{
    page_word next = seen;
    bool due = policy_age(&next);
    if (next != seen)
        page_swap(word, &seen, next);
    return due;
}

/* The pages of a region that are in memory. */
static uint64_t resident_pages(struct engine *engine, size_t first)
{
    uint64_t resident = 0;
    for (unsigned i = 0; i < REGION_PAGES; i++)
        resident |= (uint64_t) (page_state(page_load(&engine->pages[first + i])) == PAGE_RESIDENT) << i;
    return resident;
}

/* Where protection comes in granules: only those of which all resident pages are due. */
static uint64_t whole_granules(struct engine *engine, uint64_t resident, uint64_t due)
{
    size_t granule = engine->pf->ops->granule(engine->pf) >> engine->page_shift;
    if (granule > REGION_PAGES)
        granule = REGION_PAGES;
    for (unsigned i = 0; granule > 1 && i < REGION_PAGES; i += granule) {
        uint64_t mask = (granule == 64 ? ~UINT64_C(0) : (UINT64_C(1) << granule) - 1) << i;
        if ((due & mask) != (resident & mask))
            due &= ~mask;
    }
    return due;
}

static uint64_t due_pages(struct engine *engine, size_t first)
{
    uint64_t resident = 0, due = 0;
    for (unsigned i = 0; i < REGION_PAGES; i++) {
        page_word seen = page_load(&engine->pages[first + i]);
        if (page_state(seen) != PAGE_RESIDENT)
            continue;
        resident |= UINT64_C(1) << i;
        due |= (uint64_t) age(&engine->pages[first + i], seen) << i;
    }
    return whole_granules(engine, resident, due);
}

/* Makes the page a victim if nobody was faster. */
static void claim(struct engine *engine, size_t page)
{
    struct evictor *evictor = engine->evictor;
    page_word seen = page_load(&engine->pages[page]);
    if (page_state(seen) != PAGE_RESIDENT)
        return;
    enum how how = has_copy(seen) ? CLEAN : HELD;
    if (page_swap(&engine->pages[page], &seen, page_in_state(seen, PAGE_LEAVING)))
        evictor->victims[evictor->count++] = (struct victim){.page = page, .was = seen & ~PAGE_WAITERS, .how = how};
}

void evictor_give_back(struct engine *engine, struct victim *victim, bool unprotect, unsigned rounds)
{
    page_word next = policy_stay(victim->was, rounds);
    if (unprotect) {
        engine->pf->ops->unprotect(engine->pf, engine_address_of(engine, victim->page), engine_page_size(engine));
        next &= ~PAGE_PROTECTED;
    }
    page_finish(&engine->pages[victim->page], next);
    victim->how = GONE;
}

/* Ends the time in which a write can rescue the page: it is LEAVING again. Returns false when it was rescued. */
static bool close_rescue(struct engine *engine, struct victim *victim)
{
    page_word seen = page_in_state(victim->was, PAGE_EVICTING);
    if (page_swap(&engine->pages[victim->page], &seen, page_in_state(victim->was, PAGE_LEAVING)))
        return true;
    victim->how = GONE;
    return false;
}

/* Claims the due pages of one region. A pin set meanwhile wins: the states were set first, the pins are read second. */
static void claim_region(struct engine *engine, size_t region, uint64_t due)
{
    struct evictor *evictor = engine->evictor;
    size_t first = region * REGION_PAGES, before = evictor->count;
    for (; due && evictor->count < evictor->capacity; due &= due - 1)
        claim(engine, first + (unsigned) __builtin_ctzll(due));
    if (!region_is_pinned(&engine->regions[region]))
        return;
    while (evictor->count > before)
        evictor_give_back(engine, &evictor->victims[--evictor->count], false, 0);
}

static void choose(struct engine *engine, size_t want)
{
    struct evictor *evictor = engine->evictor;
    size_t regions = (engine_pages_used(engine) + REGION_PAGES - 1) / REGION_PAGES;
    evictor->count = 0;
    for (size_t steps = 0; steps < regions * ROUNDS_MAX && evictor->count < want; steps++) {
        if (evictor->hand >= regions)
            evictor->hand = 0;
        size_t hand = evictor->hand;
        if (__atomic_load_n(&engine->regions[hand].resident, __ATOMIC_RELAXED) && !region_is_pinned(&engine->regions[hand]))
            claim_region(engine, hand, due_pages(engine, hand * REGION_PAGES));
        if (evictor->count < evictor->capacity)
            evictor->hand++;
    }
}

/* ---- storing ---- */

/* A stored copy that is not needed after all. */
static void discard_copy(struct engine *engine, struct victim *victim)
{
    engine_release_copy(engine, victim->stored);
    victim->stored = 0;
}

/* Whether the item is still what its page's word names. */
static bool is_live(struct engine *engine, const struct tier_item *item, enum page_place place, page_word *word)
{
    *word = page_load(&engine->pages[item->record.page]);
    enum page_state state = page_state(*word);
    return (state == PAGE_STORED || state == PAGE_RESIDENT) && page_place(*word) == place &&
           page_handle(*word) == item->handle;
}

/* Where room is short, a page that is in memory anyway gives up its copy. Its protection stays: harmless. */
static void drop_kept_copy(struct engine *engine, const struct tier_item *item, page_word word)
{
    if (page_swap(&engine->pages[item->record.page], &word, word & ~PAGE_STORE_MASK))
        engine_release_copy(engine, word);
}

/* Points the page's word from its old record to the new one; whoever loses is released. In whatever state the page is: who
 * owns it has changed the word. */
static void swing(struct engine *engine, size_t page, enum page_place from, tier_handle old, enum page_place to,
                  tier_handle fresh)
{
    struct tier_item item = {.record = {.page = page}, .handle = old};
    page_word word, moved;
    bool done = false;
    while (!done && is_live(engine, &item, from, &word)) {
        moved = (word & ~PAGE_STORE_MASK) | page_store_bits(to, fresh);
        done = page_swap(&engine->pages[page], &word, moved & ~PAGE_WAITERS);
    }
    engine_release_copy(engine, done ? page_store_bits(from, old) : page_store_bits(to, fresh));
}

static struct tier *tier_of(struct engine *engine, enum page_place place)
{
    return place == PLACE_POOL ? engine->pool : engine->spill;
}

/* Moves the live records of one segment of `from` to `to`. Returns whether that made room:
 * there was something to move, and it could be. (Records of blocks that realloc has moved are not found: page.h.) */
static bool move_segment(struct engine *engine, enum page_place from, enum tier_pick which, unsigned live_percent,
                         enum page_place to)
{
    struct evictor *evictor = engine->evictor;
    struct tier *source = tier_of(engine, from), *target = tier_of(engine, to);
    int offered = source->ops->pick(source, which, live_percent, evictor->items, SPILL_SEGMENT_RECORDS);
    if (offered <= 0)
        return false;
    size_t n = 0, dropped = 0;
    bool keeps = to == PLACE_POOL && !__atomic_load_n(&engine->pool_tight, __ATOMIC_RELAXED);
    for (int i = 0; i < offered; i++) {
        page_word word;
        struct tier_item *item = &evictor->items[i];
        if (item->record.page >= engine->page_count || !is_live(engine, item, from, &word))
            continue;
        if (page_state(word) == PAGE_RESIDENT && !keeps) {
            drop_kept_copy(engine, item, word);
            dropped++;
            continue;
        }
        evictor->items[n] = *item;
        evictor->moving[n++] = item->record;
    }
    size_t done = 0;
    while (done < n) {
        int stored = target->ops->store(target, evictor->moving + done, n - done, evictor->handles);
        if (stored <= 0)
            break;
        for (int i = 0; i < stored; i++)
            swing(engine, evictor->items[done + i].record.page, from, evictor->items[done + i].handle, to,
                  evictor->handles[i]);
        done += (size_t) stored;
    }
    source->ops->pick_done(source);
    if (from == PLACE_POOL && to == PLACE_SPILL && n > 0)
        __atomic_store_n(&engine->pool_tight, true, __ATOMIC_RELAXED);
    return done == n && n + dropped > 0;
}

/* So much may be dead however little is alive: some segments are always partly filled. */
#define SPARSE_BYTES (UINT64_C(2) << 20)

/* Whether so much of what the tier holds is dead that cleaning is cheaper than doing without that memory: moving what lives
 * in a segment costs a copy, and each page more in memory saves some faults. */
static bool sparse(struct tier *tier)
{
    struct tier_stats stats;
    tier->ops->stats(tier, &stats);
    return stats.held_bytes - stats.idle_bytes > stats.bytes + stats.bytes / 8 + SPARSE_BYTES;
}

/* Frees room in the pool: cleaning where much of it is dead, else what has been there longest goes to the spill. */
static bool pool_make_room(struct engine *engine)
{
    bool moved = (sparse(engine->pool) && move_segment(engine, PLACE_POOL, PICK_EMPTIEST, 90, PLACE_POOL)) ||
                 (engine->spill && move_segment(engine, PLACE_POOL, PICK_OLDEST, 100, PLACE_SPILL));
    engine->pool->ops->trim(engine->pool);
    return moved;
}

/* How many segments are cleaned after each batch, at most. */
#define TIDY_SEGMENTS 8

/* Keeps the pool dense. What this empties is used again by the next batch, or given back by the next look at the budget
 * (evict_shrink_pool). */
static void tidy_pool(struct engine *engine)
{
    for (int i = 0; i < TIDY_SEGMENTS && engine->pool && sparse(engine->pool); i++)
        if (!move_segment(engine, PLACE_POOL, PICK_EMPTIEST, 90, PLACE_POOL))
            break;
}

void evict_shrink_pool(struct engine *engine, uint64_t capacity)
{
    struct tier_stats stats;
    pool_set_capacity(engine->pool, capacity);
    do
        engine->pool->ops->stats(engine->pool, &stats);
    while (stats.held_bytes > capacity && pool_make_room(engine));
    engine->pool->ops->trim(engine->pool);
    if (stats.held_bytes < capacity - capacity / 16)
        __atomic_store_n(&engine->pool_tight, false, __ATOMIC_RELAXED);
}

static int store_one(struct engine *engine, const struct record *record, tier_handle *handle)
{
    struct tier *pool = engine->pool;
    int stored = pool->ops->store(pool, record, 1, handle);
    for (int tries = 0; stored == -ENOSPC && tries < 4 && pool_make_room(engine); tries++)
        stored = pool->ops->store(pool, record, 1, handle);
    return stored;
}

/* Stores the victim in the pool. false: it did not shrink, or there is no room. */
static bool store_compressed(struct engine *engine, struct victim *victim, struct record *record)
{
    tier_handle handle;
    record->page = victim->page;
    pager_note_ratio(engine, record->size);
    if (!engine->pool || record->codec == CODEC_RAW || store_one(engine, record, &handle) != 1)
        return false;
    victim->stored = page_store_bits(PLACE_POOL, handle);
    return true;
}

static bool store_same(struct engine *engine, struct victim *victim)
{
    uint64_t word;
    tier_handle handle;
    if (!codec_same_filled(victim->content, engine_page_size(engine), &word) ||
        !(handle = same_handle(&engine->evictor->same, word)))
        return false;
    victim->stored = page_store_bits(PLACE_SAME, handle);
    count(&engine->counters.same_pages, 1);
    return true;
}

/* What does not compress, or found no room, goes to the spill as it is, all in one write. */
static void store_raw(struct engine *engine, size_t n)
{
    struct evictor *evictor = engine->evictor;
    for (size_t done = 0; engine->spill && done < n;) {
        int stored = engine->spill->ops->store(engine->spill, evictor->records + done, n - done, evictor->handles);
        if (stored == -ENOSPC && move_segment(engine, PLACE_SPILL, PICK_EMPTIEST, 75, PLACE_SPILL))
            continue;
        if (stored <= 0)
            return;
        for (int i = 0; i < stored; i++)
            evictor->victims[evictor->record_of[done + i]].stored = page_store_bits(PLACE_SPILL, evictor->handles[i]);
        done += (size_t) stored;
    }
}

/* Only what is owned is read: a page that was rescued may be freed by now, and where the kernel's own faults are served,
 * reading it would wait for whoever frees it, who may wait for this batch. */
static const void *read_held(struct engine *engine, struct victim *victim, void *buffer)
{
    if (!close_rescue(engine, victim))
        return NULL;
    uintptr_t address = engine_address_of(engine, victim->page);
    const void *content = engine->pf->ops->peek(engine->pf, address, buffer);
    unsigned char present = 1;
    if (!content)
        engine->pf->ops->residency(engine->pf, address, engine_page_size(engine), &present);
    if (!present) { /* the program has dropped its memory behind our back */
        engine_account(engine, victim->page, -1);
        victim->how = GONE;
    }
    page_finish(&engine->pages[victim->page], present ? page_in_state(victim->was, PAGE_EVICTING) : PAGE_FRESH);
    return content;
}

/* Gets hold of the contents. What is stored with that is; the others are to be compressed: record_of lists them. */
static size_t read_contents(struct engine *engine)
{
    struct evictor *evictor = engine->evictor;
    size_t n = 0;
    for (size_t i = 0; i < evictor->count; i++) {
        struct victim *victim = &evictor->victims[i];
        if (victim->how == CLEAN)
            victim->stored = victim->was & PAGE_STORE_MASK;
        if (victim->how == HELD)
            victim->content = read_held(engine, victim, evictor->contents + (i << engine->page_shift));
        if ((victim->how == HELD || victim->how == TAKEN) && victim->content && !store_same(engine, victim))
            evictor->record_of[n++] = i;
    }
    return n;
}

static void store(struct engine *engine)
{
    struct evictor *evictor = engine->evictor;
    size_t n = read_contents(engine), raw = 0;
    compress_batch(engine, n);
    for (size_t i = 0; i < n; i++) {
        struct victim *victim = &evictor->victims[evictor->record_of[i]];
        if (store_compressed(engine, victim, &evictor->records[i]))
            continue;
        evictor->records[raw] = (struct record){.page = victim->page, .bytes = victim->content, .codec = CODEC_RAW,
                                                .size = (uint32_t) engine_page_size(engine)};
        evictor->record_of[raw++] = evictor->record_of[i];
    }
    store_raw(engine, raw);
    evictor->refused = false;
    for (size_t i = 0; i < evictor->count; i++)
        evictor->refused |= evictor->victims[i].how != GONE && !evictor->victims[i].stored;
}

/* ---- freeing ---- */

/* A taken page that could not be stored goes back to where it was. */
static void put_back(struct engine *engine, struct victim *victim)
{
    while (engine->pf->ops->place(engine->pf, engine_address_of(engine, victim->page), engine_page_size(engine),
                                  victim->content, true) < 0)
        os_yield(); /* the memory is there: it is the page itself that moves */
    if (victim->was & PAGE_PROTECTED) /* it may be again */
        engine->pf->ops->unprotect(engine->pf, engine_address_of(engine, victim->page), engine_page_size(engine));
    victim->was &= ~PAGE_PROTECTED;
    evictor_give_back(engine, victim, false, RESIST_ROUNDS);
}

/* The last moment at which a write can rescue a page has passed when this returns true. */
static bool settle(struct engine *engine, struct victim *victim)
{
    if (victim->how == GONE)
        return false;
    if (victim->how == HELD && !close_rescue(engine, victim)) {
        discard_copy(engine, victim);
        return false;
    }
    if (victim->stored)
        return true;
    if (victim->how == TAKEN)
        put_back(engine, victim);
    else
        evictor_give_back(engine, victim, true, RESIST_ROUNDS);
    return false;
}

static void append_extent(struct engine *engine, size_t *n, size_t page)
{
    struct extent *extents = engine->evictor->extents;
    uintptr_t start = engine_address_of(engine, page);
    if (*n > 0 && extents[*n - 1].start + extents[*n - 1].length == start)
        extents[*n - 1].length += engine_page_size(engine);
    else
        extents[(*n)++] = (struct extent){start, engine_page_size(engine)};
}

/* Settles what leaves and frees its memory. Returns 0, or a negative errno when not all of it could be. */
static int free_memory(struct engine *engine)
{
    struct evictor *evictor = engine->evictor;
    size_t extents = 0;
    bool staged = false;
    for (size_t i = 0; i < evictor->count; i++) {
        struct victim *victim = &evictor->victims[i];
        staged |= victim->how == TAKEN;
        if (!settle(engine, victim))
            victim->how = GONE;
        else if (victim->how != TAKEN)
            append_extent(engine, &extents, victim->page);
    }
    int result = extents ? engine->pf->ops->drop(engine->pf, evictor->extents, extents) : 0;
    if (staged)
        engine->pf->ops->staging_clear(engine->pf, evictor->count << engine->page_shift);
    return result;
}

/* Some memory could not be freed. Whether this page's was decides: a page must never be both there and stored. */
static bool is_still_there(struct engine *engine, const struct victim *victim)
{
    unsigned char present;
    uintptr_t address = engine_address_of(engine, victim->page);
    if (victim->how == TAKEN)
        return false;
    return engine->pf->ops->residency(engine->pf, address, engine_page_size(engine), &present) < 0 || present;
}

/* The page stays after all, without the copy. It is LEAVING. */
static void keep(struct engine *engine, struct victim *victim)
{
    engine->pf->ops->unprotect(engine->pf, engine_address_of(engine, victim->page), engine_page_size(engine));
    discard_copy(engine, victim);
    page_finish(&engine->pages[victim->page], policy_stay(PAGE_RESIDENT, RESIST_ROUNDS));
}

/* The clock by which absences are told goes on. */
static void pass_time(struct engine *engine, size_t left)
{
    uint64_t room = __atomic_load_n(&engine->limit, __ATOMIC_RELAXED);
    struct policy_clock clock = policy_tick(engine->clock, left, room > POLICY_TICKS ? room : POLICY_TICKS);
    engine->clock.left = clock.left;
    __atomic_store_n(&engine->clock.now, clock.now, __ATOMIC_RELAXED);
}

/* What else is known of a page that leaves with the copy that it came with. */
static page_word kept_by_copy(struct engine *engine, const struct victim *victim)
{
    if (victim->how != CLEAN)
        return 0;
    engine_note_copy(engine, false);
    return (victim->was & PAGE_MOVED) | PAGE_READ;
}

static size_t release(struct engine *engine)
{
    struct evictor *evictor = engine->evictor;
    bool failed = free_memory(engine) < 0;
    size_t left = 0;
    for (size_t i = 0; i < evictor->count; i++) {
        struct victim *victim = &evictor->victims[i];
        if (victim->how == GONE)
            continue;
        if (failed && is_still_there(engine, victim)) {
            keep(engine, victim);
            continue;
        }
        engine_account(engine, victim->page, -1);
        page_finish(&engine->pages[victim->page],
                    PAGE_STORED | victim->stored | kept_by_copy(engine, victim) |
                        policy_left(victim->was, engine->clock.now));
        left++;
    }
    count(&engine->counters.evictions, left);
    pass_time(engine, left);
    return left;
}

static void announce(struct engine *engine)
{
    __atomic_fetch_add(&engine->rounds, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&engine->progress, 1, __ATOMIC_SEQ_CST);
    os_futex_wake(&engine->progress, INT_MAX, false);
}

/* Says once when content finds no room any more; a later success ends that state. */
static void note_room(struct engine *engine, size_t left)
{
    if (left > 0)
        __atomic_store_n(&engine->spill_full, false, __ATOMIC_RELAXED);
    else if (engine->evictor->refused && !__atomic_exchange_n(&engine->spill_full, true, __ATOMIC_RELAXED) &&
             !__atomic_exchange_n(&engine->warned_full, true, __ATOMIC_RELAXED))
        log_warn("nothing more can be paged out: the spill is %s; the program goes on above its limit",
                 engine->spill ? "full or failing" : "not there");
}

/* What was chosen goes. Returns how many pages left. */
static size_t evict_batch(struct engine *engine)
{
    evictor_block(engine);
    store(engine);
    size_t left = release(engine);
    note_room(engine, left);
    announce(engine);
    evictor_unblock(engine);
    tidy_pool(engine);
    return left;
}

size_t evict_pages(struct engine *engine, size_t want)
{
    size_t total = 0;
    while (total < want) {
        size_t batch = want - total < engine->evictor->capacity ? want - total : engine->evictor->capacity;
        choose(engine, batch);
        if (engine->evictor->count == 0) {
            announce(engine); /* nothing can leave: who waits for it need not */
            break;
        }
        size_t left = evict_batch(engine);
        total += left;
        if (left == 0)
            break;
    }
    return total;
}

/* Pages [from, to) of a region, as a mask. to: at most REGION_PAGES, more than `from`. */
static uint64_t pages_between(size_t from, size_t to)
{
    return (~UINT64_C(0) >> (REGION_PAGES - (to - from))) << from;
}

size_t evict_range(struct engine *engine, size_t first, size_t end)
{
    size_t total = 0;
    while (first < end) {
        engine->evictor->count = 0;
        for (size_t room; first < end && (room = engine->evictor->capacity - engine->evictor->count) > 0;) {
            size_t region = first / REGION_PAGES, start = region * REGION_PAGES, stop = start + REGION_PAGES;
            stop = stop < end ? stop : end;
            stop = stop < first + room ? stop : first + room;
            uint64_t resident = resident_pages(engine, start), due = resident & pages_between(first - start, stop - start);
            if (due && !region_is_pinned(&engine->regions[region]))
                claim_region(engine, region, whole_granules(engine, resident, due));
            first = stop;
        }
        if (engine->evictor->count)
            total += evict_batch(engine);
    }
    return total;
}

/* ---- what faults call ---- */

/* Without a thread: how much a fault takes out that finds memory full. */
#define DIRECT_PAGES 32

/* How long a fault waits for the evictor before it looks again; twice. */
#define WAIT_NS (UINT64_C(5) * 1000000)

/* Waits for the end of the evictor's round, and helps with it: it is woken once when there is something to do. */
static void attend(struct engine *engine, uint32_t round)
{
    for (int looks = 0; looks < 2;) {
        uint32_t seen = __atomic_load_n(&engine->progress, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&engine->rounds, __ATOMIC_SEQ_CST) != round)
            return;
        if (compress_help(engine))
            continue;
        os_futex_wait(&engine->progress, seen, WAIT_NS, false);
        looks++;
    }
}

/* One attempt to get something freed. Returns whether something was: a round of the evictor may find nothing that can leave.
 * While there is a thread, a fault does not evict: the program's stack, on which it runs, may be a small one. */
static bool press(struct engine *engine)
{
    uint32_t round = __atomic_load_n(&engine->rounds, __ATOMIC_SEQ_CST);
    uint64_t left = __atomic_load_n(&engine->counters.evictions, __ATOMIC_RELAXED);
    if (!pager_ring(engine) && lock_try(&engine->evict_lock)) {
        pager_relieve(engine, DIRECT_PAGES);
        lock_release(&engine->evict_lock);
    } else {
        attend(engine, round);
    }
    return __atomic_load_n(&engine->counters.evictions, __ATOMIC_RELAXED) != left;
}

static bool over_limit(const struct engine *engine)
{
    return __atomic_load_n(&engine->resident, __ATOMIC_RELAXED) >= __atomic_load_n(&engine->limit, __ATOMIC_RELAXED);
}

void evict_make_way(struct engine *engine)
{
    if (!__atomic_load_n(&engine->paging, __ATOMIC_ACQUIRE) || !over_limit(engine))
        return;
    count(&engine->counters.waits, 1);
    for (int idle = 0; idle < 10 && over_limit(engine) && !__atomic_load_n(&engine->spill_full, __ATOMIC_RELAXED);)
        idle = press(engine) ? 0 : idle + 1;
}

void evict_urgently(struct engine *engine)
{
    if (__atomic_load_n(&engine->paging, __ATOMIC_ACQUIRE))
        press(engine);
}
