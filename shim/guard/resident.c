#include "resident.h"

#include <errno.h>

#include "../base/log.h"

#define SPANS_MAX 1024

/*
 * A slot is claimed by changing its state, without a lock: blocks are freed in signal handlers too. Only who wants that very
 * span claims it, so that whoever finds it claimed may pass over it: it is being done.
 */
enum state { FREE, CLAIMED, USED };

struct span {
    uint32_t state; /* any thread, atomically */
    const void *owner;
    const void *start;
    size_t size;
};

static struct span spans[SPANS_MAX];
static uint32_t slots; /* of `spans` that were ever used; any thread, atomically, only grows */

uint32_t resident_spans;

static bool claim(struct span *span, uint32_t from)
{
    return __atomic_compare_exchange_n(&span->state, &from, CLAIMED, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void set_state(struct span *span, enum state state) { __atomic_store_n(&span->state, state, __ATOMIC_RELEASE); }

/* The claimed slot becomes free; its pin is the caller's. */
static struct span vacate(struct span *span)
{
    struct span was = *span;
    set_state(span, FREE);
    __atomic_fetch_sub(&resident_spans, 1, __ATOMIC_RELAXED);
    return was;
}

/* Whether a span is meant; asked of slots that others may be changing. */
typedef bool meaning(const struct span *span, uintptr_t from, uintptr_t length);

static bool owned_by(const struct span *span, uintptr_t owner, uintptr_t unused)
{
    (void) unused;
    return (uintptr_t) __atomic_load_n(&span->owner, __ATOMIC_RELAXED) == owner;
}

static bool starts_in(const struct span *span, uintptr_t from, uintptr_t length)
{
    return (uintptr_t) __atomic_load_n(&span->start, __ATOMIC_RELAXED) - from < length;
}

static bool overlaps(const struct span *span, uintptr_t from, uintptr_t length)
{
    uintptr_t start = (uintptr_t) __atomic_load_n(&span->start, __ATOMIC_RELAXED);
    return start < from + length && from < start + __atomic_load_n(&span->size, __ATOMIC_RELAXED);
}

static bool claim_meant(struct span *span, meaning *meant, uintptr_t from, uintptr_t length)
{
    if (__atomic_load_n(&span->state, __ATOMIC_ACQUIRE) != USED || !meant(span, from, length) || !claim(span, USED))
        return false;
    if (meant(span, from, length))
        return true;
    set_state(span, USED);
    return false;
}

/* The next span that is meant, claimed; *at is where to look, 0 at first. */
static struct span *next_meant(uint32_t *at, meaning *meant, uintptr_t from, uintptr_t length)
{
    uint32_t end = __atomic_load_n(&slots, __ATOMIC_ACQUIRE);
    while (*at < end) {
        struct span *span = &spans[(*at)++];
        if (claim_meant(span, meant, from, length))
            return span;
    }
    return NULL;
}

bool resident_take(const void *owner, const void **start, size_t *size)
{
    uint32_t at = 0;
    struct span *span = resident_any() ? next_meant(&at, owned_by, (uintptr_t) owner, 0) : NULL;
    if (!span)
        return false;
    struct span was = vacate(span);
    *start = was.start;
    *size = was.size;
    return true;
}

void resident_drop(const void *owner)
{
    const void *start;
    size_t size;
    if (resident_take(owner, &start, &size))
        guard_unpin(start, size);
}

void resident_forget(const struct extent *extent)
{
    if (!resident_any())
        return;
    uint32_t at = 0;
    for (struct span *span; (span = next_meant(&at, starts_in, extent->start, extent->length));) {
        struct span was = vacate(span);
        guard_unpin(was.start, was.size);
    }
}

void resident_renew(uintptr_t start, uintptr_t end)
{
    if (!resident_any())
        return;
    uint32_t at = 0;
    for (struct span *span; (span = next_meant(&at, overlaps, start, end - start));) {
        guard_unpin(span->start, guard_pin(span->start, span->size, true));
        set_state(span, USED);
    }
}

/* ---- fork: in the child no call holds anything, so all pins are gone; these stay ---- */

void resident_after_fork_child(void)
{
    for (struct span *span = spans; span < spans + slots; span++)
        if (span->state == USED)
            span->size = guard_pin(span->start, span->size, true);
}

/* ---- adding ---- */

static struct span *free_slot(void)
{
    for (uint32_t i = 0; i < SPANS_MAX; i++) {
        if (!claim(&spans[i], FREE))
            continue;
        uint32_t seen = __atomic_load_n(&slots, __ATOMIC_RELAXED);
        while (seen <= i && !__atomic_compare_exchange_n(&slots, &seen, i + 1, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            continue;
        return &spans[i];
    }
    return NULL;
}

static void warn_full(void)
{
    static uint32_t warned;
    if (__atomic_exchange_n(&warned, 1, __ATOMIC_RELAXED) == 0)
        log_warn("too many stacks and buffers that must stay in memory: the rest stays there for good");
}

void resident_add(const void *owner, const void *start, size_t size)
{
    int saved = errno;
    resident_drop(owner);
    if (!guard_ours(start))
        return;
    size = guard_pin(start, size, true);
    struct span *span = size ? free_slot() : NULL;
    if (span) {
        __atomic_store_n(&span->owner, owner, __ATOMIC_RELAXED);
        __atomic_store_n(&span->start, start, __ATOMIC_RELAXED);
        __atomic_store_n(&span->size, size, __ATOMIC_RELAXED);
        __atomic_fetch_add(&resident_spans, 1, __ATOMIC_RELAXED);
        set_state(span, USED);
    } else if (size) {
        warn_full();
    }
    errno = saved;
}
