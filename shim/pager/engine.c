#include "engine.h"

#include <errno.h>
#include <limits.h>

#include "../../platform/os.h"
#include "../base/log.h"
#include "../tier/pool.h"
#include "../tier/spill.h"
#include "compress.h"
#include "scratch.h"

/* ---- life ---- */

int engine_init(struct engine *engine, struct platform *pf, struct arena *arena)
{
    *engine = (struct engine){
        .pf = pf,
        .arena = arena,
        .page_shift = (unsigned) __builtin_ctzll(pf->page),
        .page_count = pf->size / pf->page,
        .evict_lock = LOCK_INIT(LOCK_EVICT),
        .limit = UINT64_MAX,
        .take_only = true,
    };
    engine_set_ahead(engine, 0);
    engine->pages = os_map(engine->page_count * sizeof *engine->pages);
    engine->regions = os_map((engine->page_count / REGION_PAGES + 1) * sizeof *engine->regions);
    if (engine->pages && engine->regions)
        return 0;
    engine_fini(engine);
    return -ENOMEM;
}

void engine_fini(struct engine *engine)
{
    if (engine->pages)
        os_unmap(engine->pages, engine->page_count * sizeof *engine->pages);
    if (engine->regions)
        os_unmap(engine->regions, (engine->page_count / REGION_PAGES + 1) * sizeof *engine->regions);
    scratch_free(engine->scratch);
    evictor_free(engine);
    *engine = (struct engine){0};
}

/* ---- accounts and gates ---- */

void engine_account(struct engine *engine, size_t page, int64_t by)
{
    __atomic_fetch_add(&engine_region_of(engine, page)->resident, (uint32_t) by, __ATOMIC_RELAXED);
    __atomic_fetch_add(&engine->resident, (uint64_t) by, __ATOMIC_RELAXED);
}

size_t engine_pages_used(const struct engine *engine)
{
    return __atomic_load_n(&engine->arena->ranges.high_water, __ATOMIC_RELAXED) >> engine->page_shift;
}

void engine_release_copy(struct engine *engine, page_word word)
{
    if (page_place(word) == PLACE_POOL)
        engine->pool->ops->release(engine->pool, page_handle(word));
    else if (page_place(word) == PLACE_SPILL)
        engine->spill->ops->release(engine->spill, page_handle(word));
}

bool engine_enter(struct engine *engine)
{
    for (bool waited = false;; waited = true) {
        __atomic_fetch_add(&engine->in_flight, 1, __ATOMIC_SEQ_CST);
        uint32_t keeper = __atomic_load_n(&engine->gate, __ATOMIC_SEQ_CST), me = keeper ? os_thread_id() : 0;
        if (keeper == me || __atomic_load_n(&engine->entered, __ATOMIC_RELAXED) == me)
            return waited;
        engine_leave(engine);
        os_futex_wait(&engine->gate, keeper, 0, false);
    }
}

void engine_leave(struct engine *engine)
{
    if (__atomic_sub_fetch(&engine->in_flight, 1, __ATOMIC_SEQ_CST) == 0 &&
        __atomic_load_n(&engine->gate, __ATOMIC_SEQ_CST))
        os_futex_wake(&engine->in_flight, 1, false);
}

bool engine_try_enter(struct engine *engine)
{
    __atomic_fetch_add(&engine->in_flight, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&engine->gate, __ATOMIC_SEQ_CST)) {
        engine_leave(engine);
        return false;
    }
    __atomic_store_n(&engine->entered, os_thread_id(), __ATOMIC_RELAXED);
    return true;
}

void engine_leave_entered(struct engine *engine)
{
    __atomic_store_n(&engine->entered, 0, __ATOMIC_RELAXED);
    engine_leave(engine);
}

/* Closes the gate and waits until nothing is in motion. Before any lock but LOCK_LIFECYCLE is taken: a fault in flight may
 * want them. */
static void stop_faults(struct engine *engine)
{
    uint32_t keeper = 0, me = os_thread_id();
    while (!__atomic_compare_exchange_n(&engine->gate, &keeper, me, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        os_futex_wait(&engine->gate, keeper, 0, false);
        keeper = 0;
    }
    uint32_t busy;
    while ((busy = __atomic_load_n(&engine->in_flight, __ATOMIC_SEQ_CST)) != 0)
        os_futex_wait(&engine->in_flight, busy, 1000000, false);
}

static void resume_faults(struct engine *engine)
{
    __atomic_store_n(&engine->gate, 0, __ATOMIC_SEQ_CST);
    os_futex_wake(&engine->gate, INT_MAX, false);
}

/* ---- arming ---- */

static bool adopt_page(struct engine *engine, size_t page)
{
    page_word fresh = PAGE_FRESH;
    bool adopted = page_swap(&engine->pages[page], &fresh, policy_new(PAGE_RESIDENT));
    if (adopted)
        engine_account(engine, page, 1);
    return adopted;
}

/* Adopts what is in memory of pages [first, first + n): vec as residency() filled it. No page but an adopted one is
 * unprotected: one that is stored may seem to be present, and is empty. */
static void adopt(struct engine *engine, size_t first, size_t n, const unsigned char *vec)
{
    for (size_t i = 0; i < n;) {
        size_t run = 0;
        while (i + run < n && vec[i + run] && adopt_page(engine, first + i + run))
            run++;
        if (run)
            engine->pf->ops->unprotect(engine->pf, engine_address_of(engine, first + i),
                                       run << engine->page_shift);
        i += run ? run : 1;
    }
}

/* What a runtime has mapped and not touched may take seconds to look through: it is passed over. */
static void scan(void *context, const struct extent *live)
{
    struct engine *engine = context;
    const struct platform_ops *ops = engine->pf->ops;
    enum { CHUNK = 512 };
    unsigned char vec[CHUNK];
    uintptr_t at = live->start, end = live->start + live->length;
    while (at < end && (at = ops->present_from(engine->pf, at, end - at)) < end) {
        size_t n = (end - at) >> engine->page_shift;
        n = n < CHUNK ? n : CHUNK;
        if (ops->residency(engine->pf, at, n << engine->page_shift, vec) == 0)
            adopt(engine, engine_page_of(engine, at), n, vec);
        at += n << engine->page_shift;
    }
}

/* The live memory, as runs of regions that are pinned or not. */
struct live_runs {
    struct engine *engine;
    struct extent *extents; /* NULL: only count */
    size_t n;
    bool pinned; /* which of the two to list */
};

/* Where the region that contains `address` ends, or the block. */
static uintptr_t region_end(const struct engine *engine, uintptr_t address, const struct extent *live)
{
    size_t size = (size_t) REGION_PAGES << engine->page_shift;
    uintptr_t end = engine->pf->base + ((address - engine->pf->base) / size + 1) * size;
    return end < live->start + live->length ? end : live->start + live->length;
}

static void list_runs(void *context, const struct extent *live)
{
    struct live_runs *runs = context;
    bool open = false;
    for (uintptr_t at = live->start, end; at < live->start + live->length; at = end) {
        end = region_end(runs->engine, at, live);
        const struct region *region = engine_region_of(runs->engine, engine_page_of(runs->engine, at));
        bool listed = region_is_pinned(region) == runs->pinned;
        if (listed && runs->extents && open)
            runs->extents[runs->n - 1].length += end - at;
        else if (listed && runs->extents)
            runs->extents[runs->n++] = (struct extent){at, end - at};
        else if (listed && !open)
            runs->n++;
        open = listed;
    }
}

/* Pages under a system call in flight: its buffer has to be there, all of it, from before the first page can trap. */
static void populate(const struct live_runs *runs)
{
    for (size_t i = 0; i < runs->n; i++)
        runs->engine->pf->ops->populate(runs->engine->pf, runs->extents[i].start, runs->extents[i].length);
}

/* Arms the platform: nothing is in motion, the arena's lock is held. Extra room in the list: a pin may come or go between
 * the passes, and then turns a run into two. */
static int arm_platform(struct engine *engine)
{
    struct arena *arena = engine->arena;
    struct live_runs runs = {.engine = engine, .pinned = true};
    arena_each(arena, list_runs, &runs);
    size_t pinned = runs.n, bytes = (2 * (arena_count(arena) + pinned) + 4096) * sizeof(struct extent);
    runs.extents = os_map(bytes);
    if (!runs.extents)
        return -ENOMEM;
    runs.n = 0;
    arena_each(arena, list_runs, &runs);
    populate(&runs);
    runs.n = 0;
    runs.pinned = false;
    arena_each(arena, list_runs, &runs);
    int result = engine->pf->ops->arm(engine->pf, runs.extents, runs.n);
    os_unmap(runs.extents, bytes);
    return result;
}

int engine_arm(struct engine *engine)
{
    struct arena *arena = engine->arena;
    stop_faults(engine); /* a trap of the first armed pages waits until all of this is done */
    lock_acquire(&arena->lock);
    arena_keep_nothing(arena); /* what is kept is in memory unseen */
    /* From here on who pins also waits at the gate; who pinned before is seen by populate(). */
    __atomic_store_n(&engine->trapping, true, __ATOMIC_SEQ_CST);
    int result = arm_platform(engine);
    if (result < 0)
        __atomic_store_n(&engine->trapping, false, __ATOMIC_SEQ_CST);
    else
        /* Registered first, looked through second: a page that comes in between traps and is counted there. */
        arena_each(arena, scan, engine);
    lock_release(&arena->lock);
    resume_faults(engine);
    return result;
}

void engine_set_ahead(struct engine *engine, uint64_t budget)
{
    size_t bytes = budget / 1024 < AHEAD_MIN_BYTES ? AHEAD_MIN_BYTES : (size_t) (budget / 1024);
    bytes = bytes < AHEAD_BYTES ? bytes : AHEAD_BYTES;
    engine->ahead = engine_page_size(engine) < AHEAD_MIN_BYTES ? bytes >> engine->page_shift : 1;
}

int engine_start_paging(struct engine *engine, struct tier *pool, struct tier *spill)
{
    engine->pool = pool;
    engine->spill = spill;
    size_t page = engine_page_size(engine);
    engine->records_size = engine->ahead * (page + page / 8) + spill_scratch_size(page); /* of what does not compress, too */
    engine->scratch = scratch_new(engine->ahead * page, engine->records_size);
    if (!engine->scratch || evictor_new(engine) < 0) {
        engine->scratch = scratch_free(engine->scratch);
        return -ENOMEM;
    }
    __atomic_store_n(&engine->paging, true, __ATOMIC_SEQ_CST);
    return 0;
}

/* ---- ranges that go and move ---- */

/* Makes the page FILLING whatever it is, after those who have it are done. Returns what it was. */
static page_word own(struct engine *engine, size_t page)
{
    page_word *word = &engine->pages[page], seen = page_load(word);
    for (;;) {
        if (page_state(seen) == PAGE_FILLING || page_state(seen) == PAGE_LEAVING) {
            page_wait(word, seen);
            seen = page_load(word);
        } else if (page_swap(word, &seen, page_in_state(seen, PAGE_FILLING))) {
            return seen;
        }
    }
}

static bool in_memory(page_word word)
{
    return page_state(word) == PAGE_RESIDENT || page_state(word) == PAGE_EVICTING;
}

/* Whether there is anything to do for the page at all: most of a sparse range was never touched. */
static bool untouched(struct engine *engine, size_t page) { return page_load(&engine->pages[page]) == PAGE_FRESH; }

static bool all_untouched(struct engine *engine, size_t page, size_t n)
{
    size_t i = 0;
    while (i < n && untouched(engine, page + i))
        i++;
    return i == n;
}

/* Empties a page that a system call may be using: it must not be away for a moment, for the kernel would answer EFAULT. The
 * page is ours, and was in memory. Returns false where that cannot be done. */
static bool empty_in_place(struct engine *engine, size_t page)
{
    const struct platform_ops *ops = engine->pf->ops;
    uintptr_t address = engine_address_of(engine, page);
    size_t size = engine_page_size(engine);
    return ops->unprotect(engine->pf, address, size) == 0 && ops->zero(engine->pf, address, size) == 0;
}

/* Takes the page, whose copy goes. Returns whether its memory has to go as well: it stays ours then. Who pins it later waits
 * for it; who has pinned it is seen here. */
static bool take_to_discard(struct engine *engine, size_t page, bool used_stay, int64_t *there)
{
    page_word was = own(engine, page);
    bool stays = used_stay && in_memory(was) && region_is_pinned(engine_region_of(engine, page)) &&
                 empty_in_place(engine, page);
    engine_release_copy(engine, was);
    if (stays)
        page_finish(&engine->pages[page], policy_new(PAGE_RESIDENT));
    else
        *there += in_memory(was);
    return !stays;
}

/* Frees the memory of pages that are ours. */
static void discard_run(struct engine *engine, size_t page, size_t n)
{
    struct extent extent = {engine_address_of(engine, page), n << engine->page_shift};
    engine->pf->ops->protect(engine->pf, extent.start, extent.length); /* so that the next touch traps */
    engine->pf->ops->drop(engine->pf, &extent, 1);
}

/* Up to a region's worth of pages, all in one region. All of them are taken, those that are FRESH too: what is protected and
 * dropped together must not come into use in between. */
static void discard_pages(struct engine *engine, size_t page, size_t n, bool used_stay)
{
    uint64_t owned = 0;
    int64_t there = 0;
    if (all_untouched(engine, page, n))
        return;
    for (size_t i = 0; i < n; i++)
        owned |= (uint64_t) take_to_discard(engine, page + i, used_stay, &there) << i;
    for (size_t i = 0, run; i < n; i += run ? run : 1) {
        for (run = 0; i + run < n && owned >> (i + run) & 1;)
            run++;
        if (run)
            discard_run(engine, page + i, run);
    }
    engine_account(engine, page, -there); /* not before: what is counted as gone is somebody else's to fill */
    for (; owned; owned &= owned - 1)
        page_finish(&engine->pages[page + (size_t) __builtin_ctzll(owned)], PAGE_FRESH);
}

/* Only the words: none of the pages is in memory. */
static void forget_words(struct engine *engine, size_t page, size_t n)
{
    for (size_t i = page; i < page + n; i++) {
        if (untouched(engine, i))
            continue;
        page_word was = own(engine, i);
        if (in_memory(was))
            engine_account(engine, i, -1);
        engine_release_copy(engine, was);
        page_finish(&engine->pages[i], PAGE_FRESH);
    }
}

/* How many pages from `page` on, before `end`, are in its region. */
static size_t rest_of_region(size_t page, size_t end)
{
    size_t region = (page / REGION_PAGES + 1) * REGION_PAGES;
    return (region < end ? region : end) - page;
}

/* Memory goes a region at a time, together with its account: many threads that free at once would else be thought to have
 * given back what they still hold. */
void engine_forget(struct engine *engine, const struct extent *extent)
{
    if (!__atomic_load_n(&engine->trapping, __ATOMIC_ACQUIRE))
        return;
    size_t page = engine_page_of(engine, extent->start), end = page + (extent->length >> engine->page_shift);
    engine_enter(engine); /* a fork must not find pages half given up */
    while (page < end) {
        size_t n = rest_of_region(page, end);
        if (__atomic_load_n(&engine_region_of(engine, page)->resident, __ATOMIC_RELAXED))
            discard_pages(engine, page, n, false);
        else
            forget_words(engine, page, n);
        page += n;
    }
    engine_leave(engine);
}

void engine_discard(struct engine *engine, const struct extent *extent, bool used_stay)
{
    size_t page = engine_page_of(engine, extent->start), end = page + (extent->length >> engine->page_shift);
    engine_enter(engine);
    while (page < end) {
        size_t n = rest_of_region(page, end);
        discard_pages(engine, page, n, used_stay);
        page += n;
    }
    engine_leave(engine);
}

void engine_page_out(struct engine *engine, const struct extent *extent)
{
    if (!__atomic_load_n(&engine->paging, __ATOMIC_ACQUIRE))
        return;
    size_t first = engine_page_of(engine, extent->start);
    lock_acquire(&engine->evict_lock);
    evict_range(engine, first, first + (extent->length >> engine->page_shift));
    lock_release(&engine->evict_lock);
}

/* The word for a page's content at its new place. */
static page_word word_after_move(struct engine *engine, page_word was, size_t target)
{
    switch (page_state(was)) {
    case PAGE_RESIDENT:
        engine_release_copy(engine, was); /* it arrives unprotected */
        return policy_new(PAGE_RESIDENT);
    case PAGE_STORED:
        if (page_place(was) == PLACE_POOL)
            pool_renumber(engine->pool, page_handle(was), target);
        return page_place(was) == PLACE_SPILL ? was | PAGE_MOVED : was;
    default: /* poisoned stays poisoned */
        return was;
    }
}

static void note_move(const struct extent *from, int result)
{
    if (result < 0)
        log_warn("the block at %x could not be moved whole (error %u): some of it is lost",
                 (uint64_t) from->start, (uint64_t) -result);
}

/* The page's word at its target, which is ours meanwhile. A fault that was late may have filled the page there. */
static void arrive(struct engine *engine, size_t target, page_word next)
{
    page_word was = own(engine, target);
    if (in_memory(was)) {
        struct extent extent = {engine_address_of(engine, target), engine_page_size(engine)};
        engine_account(engine, target, -1);
        engine->pf->ops->protect(engine->pf, extent.start, extent.length);
        engine->pf->ops->drop(engine->pf, &extent, 1);
    }
    engine_release_copy(engine, was);
    if (page_state(next) == PAGE_RESIDENT)
        engine_account(engine, target, 1);
    page_finish(&engine->pages[target], next);
}

/* Moves the words. The evictor is kept out, and no fault begins in either range; some may not be over. Returns whether any
 * page was protected. */
static bool move_words(struct engine *engine, size_t source, size_t target, size_t n)
{
    bool protected = false;
    for (size_t i = 0; i < n; i++) {
        if (untouched(engine, source + i))
            continue;
        page_word was = own(engine, source + i);
        if (page_state(was) == PAGE_RESIDENT)
            engine_account(engine, source + i, -1);
        protected |= (was & PAGE_PROTECTED) != 0;
        if (was != PAGE_FRESH)
            arrive(engine, target + i, word_after_move(engine, was, target + i));
        page_finish(&engine->pages[source + i], PAGE_FRESH);
    }
    return protected;
}

/* Stored and lost pages have no memory to move. What is in memory where they are (platform.h: residency) is not theirs. */
static bool has_no_memory(struct engine *engine, size_t page)
{
    enum page_state state = page_state(page_load(&engine->pages[page]));
    return state == PAGE_STORED || state == PAGE_POISONED;
}

/* A run of pages could not be moved whole. What has not arrived is lost: rather no page than an empty one. */
static void poison_missing(struct engine *engine, size_t page, size_t n)
{
    for (size_t i = page; i < page + n; i++) {
        unsigned char present = 0;
        engine->pf->ops->residency(engine->pf, engine_address_of(engine, i), engine_page_size(engine), &present);
        if (present || page_load(&engine->pages[i]) == PAGE_FRESH)
            continue;
        engine_account(engine, i, -1);
        count(&engine->counters.poisoned, 1);
        __atomic_store_n(&engine->pages[i], PAGE_POISONED, __ATOMIC_SEQ_CST);
    }
}

/* Moves the memory after the words. Some was protected, and may be where it arrives (platform.h). Returns 0, or the first
 * error. */
static int move_memory(struct engine *engine, size_t source, size_t target, size_t n, bool protected)
{
    int result = 0;
    for (size_t i = 0, run; i < n; i += run ? run : 1) {
        for (run = 0; i + run < n && !has_no_memory(engine, target + i + run);)
            run++;
        int moved = run ? engine->pf->ops->move(engine->pf, engine_address_of(engine, source + i),
                                                engine_address_of(engine, target + i), run << engine->page_shift)
                        : 0;
        if (moved < 0)
            poison_missing(engine, target + i, run);
        if (run && protected && engine->pf->ops->swaps(engine->pf))
            engine->pf->ops->unprotect(engine->pf, engine_address_of(engine, target + i), run << engine->page_shift);
        result = result < 0 ? result : moved;
    }
    return result;
}

/* Before paging arms: arming has to find the content on one side or the other. Returns false when it has armed. */
static bool move_unarmed(struct engine *engine, const struct extent *from, uintptr_t to)
{
    lock_acquire(&engine->arena->lock);
    bool unarmed = !__atomic_load_n(&engine->trapping, __ATOMIC_ACQUIRE);
    int result = unarmed ? engine->pf->ops->move(engine->pf, from->start, to, from->length) : 0;
    lock_release(&engine->arena->lock);
    note_move(from, result);
    return unarmed;
}

void engine_move(struct engine *engine, const struct extent *from, uintptr_t to)
{
    if (!__atomic_load_n(&engine->trapping, __ATOMIC_ACQUIRE) && move_unarmed(engine, from, to))
        return;
    /* A thread that serves faults for others may be late: the toucher has long gone on, perhaps to this very realloc. */
    bool late = engine->pf->caps.kernel_faults;
    if (late)
        stop_faults(engine);
    else
        engine_enter(engine);
    lock_acquire(&engine->evict_lock);
    size_t source = engine_page_of(engine, from->start), target = engine_page_of(engine, to);
    size_t n = from->length >> engine->page_shift;
    bool protected = move_words(engine, source, target, n);
    int result = move_memory(engine, source, target, n, protected);
    scan(engine, &(struct extent){to, from->length}); /* what arming did not see while the block was detached */
    lock_release(&engine->evict_lock);
    if (late)
        resume_faults(engine);
    else
        engine_leave(engine);
    note_move(from, result);
}

/* ---- pins ---- */

/* Present, and for a write also unprotected. */
static bool ready(page_word word, bool write)
{
    return page_state(word) == PAGE_RESIDENT && !(write && (word & PAGE_PROTECTED));
}

/* The pin is set before the state is read, the evictor reads pins after it has set the state: one of them sees the
 * other. */
static bool make_ready(struct engine *engine, size_t page, bool write)
{
    struct trap trap = {.address = engine_address_of(engine, page), .write = write, .present = true};
    while (!ready(page_load(&engine->pages[page]), write)) {
        /* As in the handler: a signal's handler that touches the same page would wait for this thread for ever. */
        struct os_sigmask saved;
        os_signals_block(&saved);
        enum fault_result result = fault_serve(engine, &trap);
        os_signals_restore(&saved);
        switch (result) {
        case FAULT_HEALED:
            continue;
        case FAULT_FOREIGN:
            return true; /* freed memory: the kernel says EFAULT, as it would without us */
        case FAULT_POISONED:
            return false;
        }
    }
    return true;
}

/* A forked child has dropped its pins, but may come back from a handler into a call that lets one go. */
static void unpin_regions(struct engine *engine, size_t first, size_t last)
{
    for (size_t region = first / REGION_PAGES; region <= last / REGION_PAGES; region++) {
        uint32_t *pins = &engine->regions[region].pins, seen = __atomic_load_n(pins, __ATOMIC_SEQ_CST);
        while (seen && !__atomic_compare_exchange_n(pins, &seen, seen - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
    }
}

static void pin_regions(struct engine *engine, size_t first, size_t last)
{
    for (size_t region = first / REGION_PAGES; region <= last / REGION_PAGES; region++)
        __atomic_fetch_add(&engine->regions[region].pins, 1, __ATOMIC_SEQ_CST);
}

bool engine_pin(struct engine *engine, uintptr_t start, size_t length, bool write)
{
    if (length == 0)
        return true;
    size_t first = engine_page_of(engine, start), last = engine_page_of(engine, start + length - 1);
    pin_regions(engine, first, last);
    /* Pinned even while nothing can be evicted: paging may arm during a long call. */
    if (!__atomic_load_n(&engine->trapping, __ATOMIC_SEQ_CST))
        return true;
    count(&engine->counters.pins, 1);
    for (size_t page = first; page <= last; page++) {
        if (make_ready(engine, page, write))
            continue;
        unpin_regions(engine, first, last);
        return false;
    }
    return true;
}

bool engine_pin_present(struct engine *engine, uintptr_t start, size_t length, bool write)
{
    size_t first = engine_page_of(engine, start), last = engine_page_of(engine, start + length - 1), page = first;
    pin_regions(engine, first, last);
    while (page <= last && ready(page_load(&engine->pages[page]), write))
        page++;
    if (page <= last)
        unpin_regions(engine, first, last);
    else
        count(&engine->counters.pins, 1);
    return page > last;
}

void engine_unpin(struct engine *engine, uintptr_t start, size_t length)
{
    if (length)
        unpin_regions(engine, engine_page_of(engine, start), engine_page_of(engine, start + length - 1));
}

/* ---- fork ---- */

/* The threads that held pins are not in the child. */
static void drop_pins(struct engine *engine)
{
    size_t used = engine_pages_used(engine) / REGION_PAGES;
    for (size_t region = 0; region <= used; region++)
        if (engine->regions[region].pins)
            engine->regions[region].pins = 0;
}

/* A child's pages are not write-protected, whatever the parent's were: kept copies would go stale unseen. */
static void forget_protection(struct engine *engine)
{
    size_t used = engine_pages_used(engine);
    for (size_t page = 0; page < used; page++) {
        if (page % REGION_PAGES == 0 && engine_region_of(engine, page)->resident == 0) {
            page += REGION_PAGES - 1;
            continue;
        }
        page_word word = page_load(&engine->pages[page]);
        if (page_state(word) != PAGE_RESIDENT || !(word & PAGE_PROTECTED))
            continue;
        engine_release_copy(engine, word);
        page_swap(&engine->pages[page], &word, word & ~(PAGE_STORE_MASK | PAGE_PROTECTED));
    }
}

void engine_fork(struct engine *engine, enum platform_fork phase)
{
    switch (phase) {
    case FORK_BEFORE:
        stop_faults(engine); /* first: a fault in flight may want the locks */
        lock_acquire(&engine->arena->lock);
        lock_acquire(&engine->evict_lock);
        engine->pf->ops->fork(engine->pf, phase);
        if (engine->spill)
            spill_before_fork(engine->spill);
        return;
    case FORK_CHILD:
        engine->pager.running = 0;
        engine->in_flight = 0; /* others may have been about to knock */
        if (engine->scratch)
            scratch_reset(engine->scratch);
        if (engine->evictor)
            compress_reset(engine);
        lock_adopt(&engine->arena->lock);
        lock_adopt(&engine->evict_lock);
        if (engine->spill)
            spill_after_fork_child(engine->spill);
        drop_pins(engine);
        forget_protection(engine);
        break;
    case FORK_PARENT:
        if (engine->spill)
            spill_after_fork_parent(engine->spill);
        break;
    }
    int result = engine->pf->ops->fork(engine->pf, phase);
    if (result < 0)
        log_warn("this child of fork cannot have its parent's large blocks (error %u): they give it SIGSEGV",
                 (uint64_t) -result);
    engine->evict_shared = true;
    lock_release(&engine->evict_lock);
    lock_release(&engine->arena->lock);
    resume_faults(engine);
}
