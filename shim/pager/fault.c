/*
 * fault.c: bringing a page in.
 *
 * This runs inside a signal handler, in the middle of any instruction of any thread of somebody else's program. Rules
 * for this file and everything that it calls:
 *   1. Async-signal-safe: no malloc, no stdio, no lock of libc's, nothing that may be lazily bound to such.
 *   2. errno stays as it is: os_* services, never libc's wrappers.
 *   3. At most 2 KiB of the program's stack, all frames together; buffers come from scratch.h, and so does a stack for what
 *      is deeper (reading from the disk), with all signals blocked.
 *   4. Arena memory is never touched here: content goes in through the platform.
 *   5. Nobody is waited for who might wait for this thread: a page's owner only ever waits for the kernel or the disk.
 *   6. No thread-local storage: on some threads of ours there is none.
 * Rules 1 to 3 are compiled in: the names below cannot be used, and the build limits the frames.
 */
#include "engine.h"

#include <errno.h>
#include <string.h>

#include "../../platform/os.h"
#include "../../platform/stack.h"
#include "../base/log.h"
#include "../tier/codec.h"
#include "evict.h"
#include "pager.h"
#include "same.h"
#include "scratch.h"

#pragma GCC poison malloc calloc realloc free printf fprintf snprintf fopen fwrite pthread_mutex_lock getenv exit abort
#undef errno
#pragma GCC poison errno

/* The owner's memory failures are tried again this often, with an eviction in between. */
#define PLACE_TRIES 64

/* How much a first touch brings in when the page before it is there already: a program that fills memory. With many threads
 * at it, this much for each is above the limit for a moment. */
#define FILL_AHEAD_BYTES ((size_t) 64 << 10)

static void owned_becomes(struct engine *engine, size_t page, page_word next)
{
    page_finish(&engine->pages[page], next);
}

/* Places content into pages that the caller owns, waiting out shortages. Returns how many pages of the front have it;
 * *error tells why not all. */
static size_t place(struct engine *engine, size_t page, size_t n, const void *content, bool writable, int *error)
{
    size_t done = 0;
    *error = 0;
    for (int tries = 0; done < n && tries < PLACE_TRIES; tries++) {
        const char *rest = content ? (const char *) content + (done << engine->page_shift) : NULL;
        int64_t placed = engine->pf->ops->place(engine->pf, engine_address_of(engine, page + done),
                                                (n - done) << engine->page_shift, rest, writable);
        if (placed > 0) {
            done += (size_t) placed >> engine->page_shift;
            continue;
        }
        *error = (int) -placed;
        if (placed != -ENOMEM && placed != -EAGAIN)
            break;
        if (placed == -ENOMEM)
            evict_urgently(engine);
        os_yield();
    }
    return done;
}

/* What a fault comes to that got `done` of its pages in. Some of them suffice: the program asks again. */
static enum fault_result placed_some(const struct engine *engine, size_t page, size_t done, int error)
{
    if (done > 0)
        return FAULT_HEALED;
    log_warn("page %x cannot be given memory (error %u): the program gets SIGBUS",
             (uint64_t) engine_address_of(engine, page), (uint64_t) error);
    return FAULT_POISONED;
}

/* ---- first touch ---- */

/* The pages around `page` that one first touch brings in: never beyond the block. */
static void fill_window(struct engine *engine, size_t page, const struct extent *live, size_t *first, size_t *end)
{
    size_t low = engine_page_of(engine, live->start), high = low + (live->length >> engine->page_shift);
    size_t granule = engine->pf->ops->granule(engine->pf) >> engine->page_shift;
    *first = page & ~(granule - 1);
    *end = *first + granule;
    if (granule == 1 && page > low && page_state(page_load(&engine->pages[page - 1])) == PAGE_RESIDENT)
        *end = page + (engine_page_size(engine) < FILL_AHEAD_BYTES ? FILL_AHEAD_BYTES >> engine->page_shift : 1);
    if (*first < low)
        *first = low;
    if (*end > high)
        *end = high;
}

static bool take_fresh(struct engine *engine, size_t page)
{
    page_word fresh = PAGE_FRESH;
    return page_swap(&engine->pages[page], &fresh, PAGE_FILLING);
}

/* What a fault where nothing is allocated comes to: what changes there will soon be something else. */
static enum fault_result changing(struct engine *engine, size_t page)
{
    if (!arena_is_changing(engine->arena, engine_address_of(engine, page)))
        return FAULT_FOREIGN;
    os_yield();
    return FAULT_HEALED;
}

static void give_back_fresh(struct engine *engine, size_t first, size_t end)
{
    for (; first < end; first++)
        owned_becomes(engine, first, PAGE_FRESH);
}

/* The pages are owned: gives back those that are no longer part of what `page` belongs to. Whoever takes memory away makes it
 * BUSY first and owns its pages second: one of the two sees the other. Returns false when none is left. */
static bool still_there(struct engine *engine, size_t page, size_t *first, size_t *end)
{
    struct extent live;
    if (!arena_extent(engine->arena, engine_address_of(engine, page), &live)) {
        give_back_fresh(engine, *first, *end);
        return false;
    }
    size_t low = engine_page_of(engine, live.start), high = low + (live.length >> engine->page_shift);
    low = low > *first ? low : *first;
    high = high < *end ? high : *end;
    give_back_fresh(engine, *first, low);
    give_back_fresh(engine, high, *end);
    *first = low;
    *end = high;
    return true;
}

/* `page` is ours. Takes its fresh neighbours within the window along, places zeros in all of them. */
static enum fault_result fill_fresh(struct engine *engine, size_t page, const struct extent *live)
{
    size_t low, high, first = page, end = page + 1;
    fill_window(engine, page, live, &low, &high);
    while (first > low && take_fresh(engine, first - 1))
        first--;
    while (end < high && take_fresh(engine, end))
        end++;
    if (!still_there(engine, page, &first, &end))
        return changing(engine, page);

    int error;
    size_t done = place(engine, first, end - first, NULL, true, &error);
    for (size_t i = first; i < end; i++) {
        bool in = i < first + done;
        if (in)
            engine_account(engine, i, 1);
        owned_becomes(engine, i, in ? policy_new(PAGE_RESIDENT) : PAGE_FRESH);
    }
    count(&engine->counters.zero_fills, done);
    return placed_some(engine, page, done, error);
}

static enum fault_result serve_fresh(struct engine *engine, size_t page)
{
    struct extent live;
    if (!arena_extent(engine->arena, engine_address_of(engine, page), &live))
        return changing(engine, page);
    return take_fresh(engine, page) ? fill_fresh(engine, page, &live) : FAULT_HEALED;
}

/* ---- back from a tier ---- */

/* The pages that one fault brings back: neighbours in the arena, all owned. */
struct refill {
    size_t first, count;           /* the run of pages; its words as they were: */
    page_word words[AHEAD_PAGES];
    size_t target;                 /* which of them was touched */
    bool writable;
};

/* The i-th page's content, in scratch. */
static unsigned char *content_of(const struct engine *engine, const struct scratch_slot *slot, size_t i)
{
    return slot->pages + (i << engine->page_shift);
}

static struct tier_item wanted_item(const struct refill *refill, size_t i)
{
    bool moved = refill->words[i] & PAGE_MOVED;
    return (struct tier_item){.record.page = moved ? TIER_ANY_PAGE : refill->first + i,
                              .handle = page_handle(refill->words[i])};
}

struct lists {
    struct tier_item wanted[AHEAD_PAGES];
    struct record records[AHEAD_PAGES];
};
_Static_assert(sizeof(struct lists) <= SCRATCH_LISTS, "the lists lie in scratch");

/* Reads the records of pages [i, i + n), which are all in the same tier. Returns how many, or a negative errno. */
static int read_records(struct engine *engine, const struct refill *refill, size_t i, size_t n,
                        const struct scratch_slot *slot)
{
    struct tier *tier = page_place(refill->words[i]) == PLACE_POOL ? engine->pool : engine->spill;
    struct lists *lists = slot->lists;
    struct tier_item *wanted = lists->wanted;
    for (size_t k = 0; k < n; k++)
        wanted[k] = wanted_item(refill, i + k);
    if (n > 1 && tier->ops->load_run) {
        int got = tier->ops->load_run(tier, wanted, n, slot->records, engine->records_size, lists->records);
        if (got > 0)
            return got; /* else the fault may be a neighbour's: the first one is asked for alone */
    }
    int result = tier->ops->load(tier, wanted[0].record.page, wanted[0].handle, slot->records, lists->records);
    return result < 0 ? result : 1;
}

struct reading {
    struct engine *engine;
    const struct refill *refill;
    size_t i, n;
    const struct scratch_slot *slot;
    int result;
};

static void read_records_there(void *given)
{
    struct reading *reading = given;
    reading->result = read_records(reading->engine, reading->refill, reading->i, reading->n, reading->slot);
}

/* From the disk: decrypting needs more stack than the program may have left. All signals are blocked meanwhile (stack.h),
 * those of our traps too, which a handler of ours leaves open: nothing here traps, and who sends one can wait. */
static int read_records_deep(struct engine *engine, const struct refill *refill, size_t i, size_t n,
                             const struct scratch_slot *slot)
{
    struct reading reading = {.engine = engine, .refill = refill, .i = i, .n = n, .slot = slot};
    struct os_sigmask saved;
    os_signals_block(&saved);
    stack_call(slot->stack_top, read_records_there, &reading);
    os_signals_restore(&saved);
    return reading.result;
}

/* Brings the content of page i, and of as many after it as come along, into scratch. Returns how many (at least one) or
 * the negative errno for which page i is not to be had. */
static int load(struct engine *engine, const struct refill *refill, size_t i, const struct scratch_slot *slot)
{
    size_t size = engine_page_size(engine);
    enum page_place place = page_place(refill->words[i]);
    if (place == PLACE_SAME) {
        same_fill(content_of(engine, slot, i), size, evict_same_word(engine, page_handle(refill->words[i])));
        return 1;
    }
    size_t n = 1;
    while (i + n < refill->count && page_place(refill->words[i + n]) == place)
        n++;
    const struct record *records = ((struct lists *) slot->lists)->records;
    int got = (place == PLACE_SPILL ? read_records_deep : read_records)(engine, refill, i, n, slot), decoded = 0, error = 0;
    while (decoded < got && (error = codec_decode(&records[decoded], content_of(engine, slot, i + (size_t) decoded), size,
                                                  NULL)) == 0)
        decoded++;
    return decoded ? decoded : got < 0 ? got : error;
}

/* Gives page i back as it was. */
static void return_page(struct engine *engine, const struct refill *refill, size_t i)
{
    owned_becomes(engine, refill->first + i, refill->words[i]);
}

/* Cuts the run to pages [low, high) around the target; the others stay stored. */
static void narrow(struct engine *engine, struct refill *refill, struct scratch_slot *slot, size_t low, size_t high)
{
    for (size_t i = 0; i < refill->count; i++)
        if (i < low || i >= high)
            return_page(engine, refill, i);
    memmove(refill->words, refill->words + low, (high - low) * sizeof *refill->words);
    slot->pages += low << engine->page_shift;
    refill->first += low;
    refill->target -= low;
    refill->count = high - low;
}

/* Content for the whole run. What cannot be had of the target's neighbours is left where it is. Returns 0, or the
 * negative errno for which the target is lost. */
static int load_all(struct engine *engine, struct refill *refill, struct scratch_slot *slot)
{
    size_t low = 0, i = 0;
    while (i < refill->count) {
        int got = load(engine, refill, i, slot);
        if (got > 0) {
            i += (size_t) got;
        } else if (i == refill->target) {
            narrow(engine, refill, slot, i, i + 1);
            return got;
        } else if (i < refill->target) {
            low = ++i; /* a hole before the target: begin behind it */
        } else {
            break;
        }
    }
    narrow(engine, refill, slot, low, i);
    return 0;
}

static enum fault_result poison(struct engine *engine, size_t page, page_word word, int error)
{
    engine_release_copy(engine, word);
    owned_becomes(engine, page, PAGE_POISONED);
    count(&engine->counters.poisoned, 1);
    log_warn("page %x of the program's memory is lost: %s (error %u); it gets SIGBUS",
             (uint64_t) engine_address_of(engine, page),
             error == -EBADMSG ? "what the spill file holds is not what was written" : "it cannot be read back",
             (uint64_t) -error);
    return FAULT_POISONED;
}

/* The word of a page that came back, with its copy kept or released. */
static page_word word_of_refill(struct engine *engine, page_word word, bool writable, uint64_t turn)
{
    uint32_t now = __atomic_load_n(&engine->clock.now, __ATOMIC_RELAXED);
    page_word next = policy_came_back(page_in_state(word, PAGE_RESIDENT), now, turn);
    return writable ? next & ~(PAGE_STORE_MASK | PAGE_PROTECTED) : (next & ~(PAGE_WRITTEN | PAGE_READ)) | PAGE_PROTECTED;
}

static void arrived(struct engine *engine, const struct refill *refill, size_t i, uint64_t turn)
{
    page_word word = refill->words[i];
    if (refill->writable)
        engine_release_copy(engine, word);
    engine_account(engine, refill->first + i, 1);
    owned_becomes(engine, refill->first + i, word_of_refill(engine, word, refill->writable, turn));
}

/* All pages of the run are owned: fills them. */
static enum fault_result refill_run(struct engine *engine, struct refill *refill)
{
    struct scratch_slot taken = scratch_take(engine->scratch), slot = taken;
    int error = 0, lost = load_all(engine, refill, &slot);
    size_t done = 0;
    if (!lost)
        done = place(engine, refill->first, refill->count, slot.pages, refill->writable, &error);
    scratch_give(engine->scratch, taken);
    if (lost)
        return poison(engine, refill->first, refill->words[0], lost);
    /* One for the run: what stays of a stream stays in pieces like those that come. */
    uint64_t turn = __atomic_fetch_add(&engine->turn, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < refill->count; i++) {
        if (i < done)
            arrived(engine, refill, i, turn);
        else
            return_page(engine, refill, i);
    }
    count(&engine->counters.refills, done);
    return placed_some(engine, refill->first, done, error);
}

/* Shorter than this, it may be an object of a few pages. */
#define AHEAD_FROM 4

static bool fresh_arrival(page_word word)
{
    const page_word came = PAGE_RESIDENT | PAGE_YOUNG;
    return (word & (PAGE_STATE_MASK | PAGE_YOUNG)) == came;
}

/* How many pages before this one, at most `most`, came in since the hand last passed. */
static size_t length_behind(struct engine *engine, size_t page, int direction, size_t most)
{
    size_t length = 0;
    for (page -= (size_t) direction; length < most && page < engine->page_count; page -= (size_t) direction, length++)
        if (!fresh_arrival(page_load(&engine->pages[page])))
            break;
    return length;
}

/* What a fault belongs to: pages on one side that have just come in make a stream. By neighbours rather than by time: who goes
 * through an image by columns follows a stream in each row. */
struct stream {
    int direction; /* 1 up, -1 down, 0 none */
    size_t length;
};

static struct stream detect_stream(struct engine *engine, size_t page)
{
    for (int direction = 1; direction >= -1; direction -= 2) {
        size_t length = length_behind(engine, page, direction, engine->ahead);
        if (length >= AHEAD_FROM)
            return (struct stream){direction, length};
    }
    return (struct stream){0, 0};
}

/* How many pages to bring in: as many as have come, so that no more than half of all is ever in vain. */
static size_t ahead_of(const struct engine *engine, const struct stream *stream)
{
    if (stream->length < AHEAD_FROM)
        return 1;
    return stream->length < engine->ahead ? stream->length : engine->ahead;
}

/* Whether the page before was written to as well: protecting the next ones would only cost more faults. */
static bool is_written(struct engine *engine, size_t page, const struct stream *stream)
{
    size_t before = page - (size_t) stream->direction;
    if (stream->length < AHEAD_FROM || before >= engine->page_count)
        return false;
    page_word word = page_load(&engine->pages[before]);
    return page_state(word) == PAGE_RESIDENT && page_place(word) == PLACE_NONE;
}

static bool take_stored(struct engine *engine, size_t page, page_word *word)
{
    *word = page_load(&engine->pages[page]) & ~PAGE_WAITERS;
    return page_state(*word) == PAGE_STORED && page_swap(&engine->pages[page], word, page_in_state(*word, PAGE_FILLING));
}

/* Owns the stored pages that follow in the stream's direction, never across the end of a region or of the block: another
 * block may be on its way elsewhere (engine_move). */
static void extend_run(struct engine *engine, struct refill *refill, int direction, size_t ahead)
{
    size_t page = refill->first;
    page_word word;
    struct extent live;
    if (ahead == 1 || !arena_extent(engine->arena, engine_address_of(engine, page), &live))
        return;
    while (refill->count < ahead) {
        page += (size_t) direction;
        if (page / REGION_PAGES != refill->first / REGION_PAGES ||
            engine_address_of(engine, page) - live.start >= live.length || !take_stored(engine, page, &word))
            return;
        if (direction < 0) {
            memmove(refill->words + 1, refill->words, refill->count * sizeof word);
            refill->words[0] = word;
            refill->first = page;
            refill->target++;
        } else {
            refill->words[refill->count] = word;
        }
        refill->count++;
    }
}

static page_word written(page_word word) { return (word & ~PAGE_READ) | PAGE_WRITTEN; }

static enum fault_result serve_stored(struct engine *engine, size_t page, page_word word, bool write)
{
    struct stream stream = detect_stream(engine, page);
    bool writes = is_written(engine, page, &stream);
    if (!page_swap(&engine->pages[page], &word, page_in_state(word, PAGE_FILLING)))
        return FAULT_HEALED;
    uint64_t turn = page + __atomic_load_n(&engine->clock.now, __ATOMIC_RELAXED);
    unsigned broken = __atomic_load_n(&engine->broken, __ATOMIC_RELAXED);
    bool keeps = !write && !writes && engine->pf->caps.protects && policy_keeps_copy(word, broken, turn) &&
                 !(page_place(word) == PLACE_POOL && __atomic_load_n(&engine->pool_tight, __ATOMIC_RELAXED));
    struct refill refill = {.first = page, .count = 1, .words = {write ? written(word) : word}, .writable = !keeps};
    extend_run(engine, &refill, stream.direction, ahead_of(engine, &stream));
    return refill_run(engine, &refill);
}

/* ---- pages that are there ---- */

static bool is_present(struct engine *engine, size_t page)
{
    unsigned char present = 0;
    engine->pf->ops->residency(engine->pf, engine_address_of(engine, page), engine_page_size(engine), &present);
    return present;
}

/* The page is written to, which ends the copy that was kept of it. */
static page_word breaks_copy(struct engine *engine, page_word word)
{
    engine_note_copy(engine, true);
    return written(word);
}

/* A write to a protected page; or a trap that another thread has healed meanwhile; or memory that somebody dropped
 * behind our back by a system call of his own (it reads as zero then, as the kernel has it). */
static enum fault_result serve_resident(struct engine *engine, size_t page, page_word word, const struct trap *trap)
{
    if (!page_swap(&engine->pages[page], &word, page_in_state(word, PAGE_FILLING)))
        return FAULT_HEALED;
    uintptr_t address = engine_address_of(engine, page);
    page_word next = page_in_state(word, PAGE_RESIDENT);
    if (!trap->present && !is_present(engine, page)) {
        int error;
        place(engine, page, 1, NULL, true, &error);
        next = policy_new(PAGE_RESIDENT);
    } else if (trap->write || !engine->pf->caps.protects) {
        engine->pf->ops->unprotect(engine->pf, address, engine_page_size(engine));
        next &= ~(PAGE_STORE_MASK | PAGE_PROTECTED);
        if (page_place(word) != PLACE_NONE)
            next = breaks_copy(engine, next);
    }
    if (!(next & PAGE_STORE_MASK))
        engine_release_copy(engine, word);
    owned_becomes(engine, page, next);
    return FAULT_HEALED;
}

/* The evictor has it in hand: take it back. */
static enum fault_result rescue(struct engine *engine, size_t page, page_word word)
{
    if (!page_swap(&engine->pages[page], &word, page_in_state(word, PAGE_FILLING)))
        return FAULT_HEALED;
    engine->pf->ops->unprotect(engine->pf, engine_address_of(engine, page), engine_page_size(engine));
    engine_release_copy(engine, word);
    owned_becomes(engine, page, policy_rescued(PAGE_RESIDENT | (word & PAGE_HEAT_MASK)));
    count(&engine->counters.rescues, 1);
    return FAULT_HEALED;
}

static enum fault_result serve(struct engine *engine, size_t page, const struct trap *trap)
{
    page_word word = page_load(&engine->pages[page]);
    switch (page_state(word)) {
    case PAGE_FRESH:
        return serve_fresh(engine, page);
    case PAGE_FILLING:
    case PAGE_LEAVING:
        page_wait(&engine->pages[page], word);
        return FAULT_HEALED;
    case PAGE_RESIDENT:
        return serve_resident(engine, page, word, trap);
    case PAGE_EVICTING:
        return rescue(engine, page, word);
    case PAGE_STORED:
        return serve_stored(engine, page, word, trap->write);
    default:
        return FAULT_POISONED;
    }
}

enum fault_result fault_serve(struct engine *engine, const struct trap *trap)
{
    if (trap->address - engine->pf->base >= engine->pf->size)
        return FAULT_FOREIGN;
    uint64_t start = os_now_ns();
    bool waited = engine_enter(engine);
    if (!__atomic_load_n(&engine->trapping, __ATOMIC_ACQUIRE)) {
        engine_leave(engine);
        return waited ? FAULT_HEALED : FAULT_FOREIGN; /* arming was tried and undone meanwhile: the access tells */
    }
    evict_make_way(engine);
    enum fault_result result = serve(engine, engine_page_of(engine, trap->address), trap);
    engine_leave(engine);
    pager_note_growth(engine);
    if (result != FAULT_FOREIGN) {
        count(&engine->counters.faults, 1);
        histogram_add(&engine->fault_ns, os_now_ns() - start);
    }
    return result;
}
