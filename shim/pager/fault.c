/*
 * fault.c: bringing a page in.
 *
 * This runs inside a signal handler, in the middle of any instruction of any thread of somebody else's program. Rules
 * for this file and everything that it calls:
 *   1. Async-signal-safe: no malloc, no stdio, no lock of libc's, nothing that may be lazily bound to such.
 *   2. errno stays as it is: os_* services, never libc's wrappers.
 *   3. At most 2 KiB of stack, all frames together; buffers come from scratch.h.
 *   4. Arena memory is never touched here: content goes in through the platform.
 *   5. Nobody is waited for who might wait for this thread: a page's owner only ever waits for the kernel or the disk.
 *   6. No thread-local storage: on some threads of ours there is none.
 * Rules 1 to 3 are compiled in: the names below cannot be used, and the build limits the frames.
 */
#include "engine.h"

#include <errno.h>
#include <string.h>

#include "../../platform/os.h"
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

/* How many pages a first touch brings along when the page before it is there already: a program that fills memory. */
#define FILL_AHEAD 16

static void owned_becomes(struct engine *engine, size_t page, page_word next)
{
    page_finish(&engine->pages[page], next);
}

/* Places content into pages that the caller owns, waiting out shortages. */
static int place(struct engine *engine, size_t page, size_t n, const void *content, bool writable)
{
    int result = 0;
    for (int tries = 0; tries < PLACE_TRIES; tries++) {
        result = engine->pf->ops->place(engine->pf, engine_address_of(engine, page), n << engine->page_shift, content,
                                        writable);
        if (result != -ENOMEM && result != -EAGAIN)
            break;
        if (result == -ENOMEM)
            evict_urgently(engine);
        os_yield();
    }
    return result;
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
        *end = page + FILL_AHEAD;
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

/* `page` is ours. Takes its fresh neighbours within the window along, places zeros in all of them. */
static enum fault_result fill_fresh(struct engine *engine, size_t page, const struct extent *live)
{
    size_t low, high, first = page, end = page + 1;
    fill_window(engine, page, live, &low, &high);
    while (first > low && take_fresh(engine, first - 1))
        first--;
    while (end < high && take_fresh(engine, end))
        end++;

    int result = place(engine, first, end - first, NULL, true);
    page_word next = result == 0 ? PAGE_RESIDENT | PAGE_YOUNG : PAGE_FRESH;
    for (size_t i = first; i < end; i++) {
        if (result == 0)
            engine_account(engine, i, 1);
        owned_becomes(engine, i, next);
    }
    if (result == 0)
        count(&engine->counters.zero_fills, end - first);
    else
        log_warn("a page cannot be given memory (error %u): the program gets SIGBUS", (uint64_t) -result);
    return result == 0 ? FAULT_HEALED : FAULT_POISONED;
}

static enum fault_result serve_fresh(struct engine *engine, size_t page)
{
    struct extent live;
    if (!arena_extent(engine->arena, engine_address_of(engine, page), &live))
        return FAULT_FOREIGN;
    return take_fresh(engine, page) ? fill_fresh(engine, page, &live) : FAULT_HEALED;
}

/* ---- back from a tier ---- */

/* The stored content, in scratch: slot.page. */
static int load(struct engine *engine, size_t page, page_word word, const struct scratch_slot *slot)
{
    if (page_place(word) == PLACE_SAME) {
        same_fill(slot->page, engine_page_size(engine), evict_same_word(engine, page_handle(word)));
        return 0;
    }
    struct tier *tier = page_place(word) == PLACE_POOL ? engine->pool : engine->spill;
    struct record record;
    uint64_t number = word & PAGE_MOVED ? TIER_ANY_PAGE : page;
    int result = tier->ops->load(tier, number, page_handle(word), slot->record, &record);
    return result < 0 ? result : codec_decode(&record, slot->page, engine_page_size(engine), NULL);
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

static page_word hotter(page_word word)
{
    return page_heat(word) < 3 ? word + (UINT64_C(1) << PAGE_HEAT_SHIFT) : word;
}

/* The word of a page that came back, with its copy kept or released. */
static page_word word_of_refill(page_word word, bool writable)
{
    page_word next = page_in_state(hotter(word), PAGE_RESIDENT) | PAGE_YOUNG;
    return writable ? next & ~(PAGE_STORE_MASK | PAGE_PROTECTED) : next | PAGE_PROTECTED;
}

/* Whether the copy that was read may stay, the page protected until its first write. */
static bool keeps_copy(const struct engine *engine, bool write)
{
    return !write && engine->pf->caps.protects;
}

static enum fault_result serve_stored(struct engine *engine, size_t page, page_word word, bool write)
{
    if (!page_swap(&engine->pages[page], &word, page_in_state(word, PAGE_FILLING)))
        return FAULT_HEALED;
    struct scratch_slot slot = scratch_take(engine->scratch);
    bool writable = !keeps_copy(engine, write);
    int result = load(engine, page, word, &slot);
    bool lost = result < 0;
    if (!lost)
        result = place(engine, page, 1, slot.page, writable);
    scratch_give(engine->scratch, slot);
    if (lost)
        return poison(engine, page, word, result);
    if (result < 0) {
        owned_becomes(engine, page, word & ~PAGE_WAITERS);
        log_warn("a page cannot be given memory (error %u): the program gets SIGBUS", (uint64_t) -result);
        return FAULT_POISONED;
    }
    if (writable)
        engine_release_copy(engine, word);
    engine_account(engine, page, 1);
    owned_becomes(engine, page, word_of_refill(word, writable));
    count(&engine->counters.refills, 1);
    return FAULT_HEALED;
}

/* ---- pages that are there ---- */

static bool is_present(struct engine *engine, size_t page)
{
    unsigned char present = 0;
    engine->pf->ops->residency(engine->pf, engine_address_of(engine, page), engine_page_size(engine), &present);
    return present;
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
        place(engine, page, 1, NULL, true);
        next = PAGE_RESIDENT | PAGE_YOUNG;
    } else if (trap->write || !engine->pf->caps.protects) {
        engine->pf->ops->unprotect(engine->pf, address, engine_page_size(engine));
        next &= ~(PAGE_STORE_MASK | PAGE_PROTECTED);
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
    owned_becomes(engine, page, PAGE_RESIDENT | PAGE_YOUNG | (hotter(word) & PAGE_HEAT_MASK));
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
    if (trap->address - engine->pf->base >= engine->pf->size || !__atomic_load_n(&engine->trapping, __ATOMIC_ACQUIRE))
        return FAULT_FOREIGN;
    uint64_t start = os_now_ns();
    engine_enter(engine);
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
