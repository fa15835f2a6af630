/*
 * block.c: how the victims of a batch lose their writers.
 *
 * Taking moves pages away in one step. It refuses pages that the kernel or a device has in hand for direct access, and
 * where such access is not announced to us (engine.h: take_only) nothing else will do.
 * Holding write-protects pages where they are; their content is copied out later, and until then a write rescues them.
 *
 * Whoever changes what a writer may do interrupts every processor that runs the program, which costs more than compressing
 * a page: once for each run of neighbours that is taken, once for all pages of a span that are held. So neighbours are
 * taken and scattered pages are held. The pages between them are protected with them, and say so in their words, for the
 * kernel would answer EFAULT to a system call on a page that only we take to be writable: so they, too, are owned
 * meanwhile, and what is pinned is left alone. When the victims are gone they are made writable again, together as well:
 * one by one, as they are written to, each would cost a trap and an interrupt.
 */
#include "evictor.h"

#include <errno.h>

/* How many victims from `i` on, before `end`, are the same way and next to each other. */
static size_t run_length(const struct evictor *evictor, size_t i, size_t end)
{
    const struct victim *victims = evictor->victims;
    size_t run = 1;
    while (i + run < end && victims[i + run].how == victims[i].how && victims[i + run].page == victims[i].page + run)
        run++;
    return run;
}

/* ---- taking ---- */

static bool only_taking_is_safe(const struct engine *engine)
{
    return __atomic_load_n(&engine->take_only, __ATOMIC_RELAXED);
}

/* An interrupt to the other processors takes as long as copying so many pages (FACTS; measured again: 13 and 2 us). */
#define FLUSH_PAGES 6

/* Whether the victims to be blocked of [i, end), all of one span, had better be taken: one interrupt for each run of
 * neighbours and no copying, against one for all and a copy of each. */
static bool better_taken(const struct engine *engine, size_t i, size_t end)
{
    size_t runs = 0, pages = 0;
    if (!engine->pf->caps.takes)
        return false;
    if (only_taking_is_safe(engine) || __atomic_load_n(&engine->locked, __ATOMIC_RELAXED))
        return true;
    for (size_t run; i < end; i += run) {
        run = run_length(engine->evictor, i, end);
        if (engine->evictor->victims[i].how != HELD)
            continue;
        runs++;
        pages += run;
    }
    return runs <= 1 + pages / FLUSH_PAGES;
}

/* The platform did not take it. -ENOENT: the program has dropped its memory behind our back. -EBUSY: the kernel has it in
 * hand for direct access, or a forked child shares it; only the latter can go by way of protection. -EINVAL: the program
 * has made it read-only, or locked it in memory. What stays may have been protected with other victims around it. */
static void not_taken(struct engine *engine, struct victim *victim, int64_t error)
{
    if (error == -ENOENT) {
        engine_account(engine, victim->page, -1);
        page_finish(&engine->pages[victim->page], PAGE_FRESH);
        victim->how = GONE;
    } else if ((error == -EBUSY && engine->evict_shared && !only_taking_is_safe(engine)) ||
               (error == -EINVAL && !__atomic_load_n(&engine->locked, __ATOMIC_RELAXED))) {
        victim->how = HELD;
    } else {
        evictor_give_back(engine, victim, true, RESIST_ROUNDS);
    }
}

/* Takes the first of a run of victims that is refused, and may be so because a forked process shares it: writing ends that,
 * while what a device has in hand is never shared. */
static int64_t take_shared(struct engine *engine, size_t i)
{
    struct platform *pf = engine->pf;
    struct victim *victim = &engine->evictor->victims[i];
    uintptr_t start = engine_address_of(engine, victim->page);
    size_t size = engine_page_size(engine);
    pf->ops->unprotect(pf, start, size);
    victim->was &= ~PAGE_PROTECTED;
    return pf->ops->populate(pf, start, size) == 0 ? pf->ops->take(pf, start, size, i << engine->page_shift) : -EBUSY;
}

static void take_run(struct engine *engine, size_t i, size_t run)
{
    struct evictor *evictor = engine->evictor;
    struct platform *pf = engine->pf;
    unsigned shift = engine->page_shift;
    while (run > 0) {
        int64_t moved = pf->ops->take(pf, engine_address_of(engine, evictor->victims[i].page), run << shift, i << shift);
        if (moved == -EBUSY && engine->evict_shared && only_taking_is_safe(engine))
            moved = take_shared(engine, i);
        size_t n = moved > 0 ? (size_t) moved >> shift : 0;
        for (size_t k = 0; k < n; k++) {
            evictor->victims[i + k].how = TAKEN;
            evictor->victims[i + k].content = pf->staging + ((i + k) << shift);
        }
        i += n;
        run -= n;
        if (run > 0) {
            not_taken(engine, &evictor->victims[i], moved);
            i++;
            run--;
        }
    }
}

/* ---- holding ---- */

/* The victim's writers are blocked now, or could not be. From here on a write may rescue it. Until now nobody could: who
 * rescued and pinned it before it was protected would have it protected under a system call. */
static void hold(struct engine *engine, struct victim *victim, bool blocked)
{
    if (!blocked || region_is_pinned(engine_region_of(engine, victim->page)))
        evictor_give_back(engine, victim, true, blocked ? 0 : RESIST_ROUNDS);
    else
        page_finish(&engine->pages[victim->page], page_in_state(victim->was, PAGE_EVICTING));
}

/* Not a word that a page between victims can have: this one is a victim itself. */
#define NO_BYSTANDER ((page_word) PAGE_LEAVING)

/* The pages between the victims of [first, end) go on; those in memory are protected now, or none of them. */
static void release_bystanders(struct engine *engine, size_t first, size_t end, bool protected)
{
    const page_word *words = engine->evictor->bystanders;
    for (size_t page = first; page < end; page++) {
        page_word word = words[page - first];
        if (word != NO_BYSTANDER)
            page_finish(&engine->pages[page],
                        protected && page_state(word) == PAGE_RESIDENT ? word | PAGE_PROTECTED : word);
    }
}

/* Owns the pages between the victims of [first, end). Returns false, and owns none, when one is in motion. */
static bool own_bystanders(struct engine *engine, size_t first, size_t end)
{
    page_word *words = engine->evictor->bystanders;
    for (size_t page = first; page < end; page++) {
        page_word *word = &engine->pages[page], seen = page_load(word);
        enum page_state state = page_state(seen);
        words[page - first] = NO_BYSTANDER;
        if (state == PAGE_LEAVING)
            continue;
        if (state == PAGE_FILLING || state == PAGE_EVICTING || !page_swap(word, &seen, page_in_state(seen, PAGE_FILLING))) {
            release_bystanders(engine, first, page, false);
            return false;
        }
        words[page - first] = seen & ~PAGE_WAITERS;
    }
    return true;
}

/* Not all could be protected; some may be. */
static void unprotect_bystanders(struct engine *engine, size_t first, size_t end)
{
    const page_word *words = engine->evictor->bystanders;
    for (size_t page = first; page < end; page++)
        if (page_state(words[page - first]) == PAGE_RESIDENT && !(words[page - first] & PAGE_PROTECTED))
            engine->pf->ops->unprotect(engine->pf, engine_address_of(engine, page), engine_page_size(engine));
}

static bool any_pinned(struct engine *engine, size_t first, size_t end)
{
    bool pinned = false;
    for (size_t page = first / REGION_PAGES * REGION_PAGES; page < end; page += REGION_PAGES)
        pinned |= region_is_pinned(engine_region_of(engine, page));
    return pinned;
}

/* Protects from the first to the last of the victims [i, end) with one call. As with victims, the pages are owned first and
 * the pins are read second: who pins later waits for the pages and finds them protected. */
static bool protect_together(struct engine *engine, size_t i, size_t end)
{
    size_t first = engine->evictor->victims[i].page, behind = engine->evictor->victims[end - 1].page + 1;
    uintptr_t start = engine_address_of(engine, first);
    size_t length = (behind - first) << engine->page_shift;
    if (!own_bystanders(engine, first, behind))
        return false;
    bool pinned = any_pinned(engine, first, behind);
    bool done = !pinned && engine->pf->ops->protect(engine->pf, start, length) == 0;
    if (!done && !pinned)
        unprotect_bystanders(engine, first, behind);
    release_bystanders(engine, first, behind, done);
    if (done)
        engine->evictor->spans[engine->evictor->span_count++] = (struct span){first, behind};
    return done;
}

static bool protect_run(struct engine *engine, size_t i, size_t run)
{
    return engine->pf->ops->protect(engine->pf, engine_address_of(engine, engine->evictor->victims[i].page),
                                    run << engine->page_shift) == 0;
}

/* Whether all that is to be held of [i, end) was protected before. */
static bool are_protected(const struct evictor *evictor, size_t i, size_t end)
{
    while (i < end && (evictor->victims[i].how != HELD || evictor->victims[i].was & PAGE_PROTECTED))
        i++;
    return i == end;
}

/* Holds those of the victims [i, end) of one span that are to be held. */
static void hold_all(struct engine *engine, size_t i, size_t end)
{
    struct victim *victims = engine->evictor->victims;
    while (i < end && victims[i].how != HELD)
        i++;
    while (i < end && victims[end - 1].how != HELD)
        end--;
    bool done = are_protected(engine->evictor, i, end);
    if (!done && engine->pf->caps.protects && run_length(engine->evictor, i, end) < end - i)
        done = protect_together(engine, i, end);
    for (size_t run; i < end; i += run) {
        run = run_length(engine->evictor, i, end);
        if (victims[i].how != HELD)
            continue;
        bool blocked = done || protect_run(engine, i, run);
        for (size_t k = i; k < i + run; k++)
            hold(engine, &victims[k], blocked);
    }
}

/* Where the victims of one span that begin at `i` end. (A hand that has come round finds later ones before the first.) */
static size_t span_end(const struct evictor *evictor, size_t i)
{
    const struct victim *victims = evictor->victims;
    size_t end = i + 1;
    while (end < evictor->count && victims[end].page > victims[end - 1].page &&
           victims[end].page / SPAN_PAGES == victims[i].page / SPAN_PAGES)
        end++;
    return end;
}

void evictor_block(struct engine *engine)
{
    struct evictor *evictor = engine->evictor;
    evictor->span_count = 0;
    for (size_t i = 0, end; i < evictor->count; i = end) {
        end = span_end(evictor, i);
        if (better_taken(engine, i, end))
            for (size_t at = i, run; at < end; at += run) {
                run = run_length(evictor, at, end);
                if (evictor->victims[at].how == HELD)
                    take_run(engine, at, run);
            }
        hold_all(engine, i, end);
    }
}

/* ---- letting go ---- */

static bool is_protected(page_word word) { return page_state(word) == PAGE_RESIDENT && (word & PAGE_PROTECTED); }

/* Not owned, or its protection is all that tells of a write to it. */
static bool must_stay(page_word word)
{
    return word == NO_BYSTANDER || (is_protected(word) && page_place(word) != PLACE_NONE);
}

/* From `*page` on, the pages before `end` from one to the last that need not be protected, and none between that must. They are
 * owned. Returns how many. */
static size_t next_to_unprotect(const page_word *words, size_t *page, size_t end)
{
    size_t last, at = *page;
    while (at < end && (!is_protected(words[at]) || must_stay(words[at])))
        at++;
    *page = last = at;
    for (; at < end && !must_stay(words[at]); at++)
        if (is_protected(words[at]))
            last = at + 1;
    return last - *page;
}

/* One call for all, or, where something else has come in between, one for each. */
static void unprotect_run(struct engine *engine, size_t first, page_word *words, size_t run)
{
    struct platform *pf = engine->pf;
    bool done = pf->ops->unprotect(pf, engine_address_of(engine, first), run << engine->page_shift) == 0;
    for (size_t i = 0; i < run; i++)
        if (is_protected(words[i]) &&
            (done || pf->ops->unprotect(pf, engine_address_of(engine, first + i), engine_page_size(engine)) == 0))
            words[i] &= ~PAGE_PROTECTED;
}

/* Those of a span, where it can be owned. */
static void unprotect_together(struct engine *engine, const struct span *span)
{
    page_word *words = engine->evictor->bystanders;
    size_t count = span->end - span->first;
    if (!own_bystanders(engine, span->first, span->end))
        return;
    for (size_t at = 0, run; (run = next_to_unprotect(words, &at, count)) > 0; at += run)
        unprotect_run(engine, span->first + at, words + at, run);
    release_bystanders(engine, span->first, span->end, false);
}

void evictor_unblock(struct engine *engine)
{
    for (size_t i = 0; i < engine->evictor->span_count; i++)
        unprotect_together(engine, &engine->evictor->spans[i]);
}
