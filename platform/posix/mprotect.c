/*
 * mprotect.c: the portable trap backend. Absent pages are PROT_NONE; a touch raises SIGSEGV (SIGBUS elsewhere).
 *
 * Each change of protection may split a mapping, and a process may have only so many (vm.max_map_count). So the unit is
 * 64 KiB, the backend counts the mappings that the arena costs, and granule() asks for coarser and coarser steps as
 * the count nears a share of the limit: every halving of what is left doubles the granule. Steps of 2^k units cost at
 * most two mappings each and are taken only from the k-th half, so the sum cannot reach the limit.
 *
 * Content goes in and out behind the protection (vm.h), so that no thread sees a page before it is whole.
 */
#include "mprotect.h"
#include "../os.h"
#include "protection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNIT        PROTECTION_UNIT
#define GRANULE_MAX (UINT64_C(4) << 30)

struct state {
    struct protection protection;
    bool armed;
    int behind; /* handle of vm_peek/vm_poke, or -1 */
};

static int protect_as(struct platform *pf, uintptr_t start, size_t length, enum vm_protection protection)
{
    struct state *state = pf->state;
    return protection_set(&state->protection, start, length, protection);
}

/* ---- the contract ---- */

/* Content behind the protection: a kernel may forbid it (proc_mem.force_override), /proc may be missing. */
static bool behind_works(size_t page)
{
    int handle;
    unsigned char *memory = os_map(page), seen = 0, sent = 7;
    bool works = memory && vm_protect((uintptr_t) memory, page, VM_NONE) == 0 && vm_behind_open(&handle) == 0;
    if (works) {
        works = vm_poke(handle, (uintptr_t) memory, &sent, 1) == 0 &&
                vm_peek(handle, (uintptr_t) memory, &seen, 1) == 0 && seen == sent;
        vm_behind_close(handle);
    }
    if (memory)
        os_unmap(memory, page);
    return works;
}

int mprotect_probe(struct platform_caps *caps, char *why, size_t size)
{
    bool behind = behind_works(os_page_size());
    *caps = (struct platform_caps){
        .evicts = behind,
        .protects = false,
        .batch_drop = vm_discard_batches(),
        .move = true,
    };
    if (!behind)
        snprintf(why, size, "memory cannot be written behind its protection: nothing can be paged out");
    return 0;
}

int mprotect_reserve(struct platform *pf)
{
    int result = vm_reserve(pf);
    if (result < 0)
        return result;
    struct state *state = os_map(sizeof *state);
    if (!state || protection_init(&state->protection, pf->base, pf->size) < 0) {
        vm_release(pf);
        return -ENOMEM;
    }
    state->behind = -1;
    pf->page = UNIT;
    pf->state = state;
    return 0;
}

void mprotect_release(struct platform *pf)
{
    struct state *state = pf->state;
    vm_release(pf);
    if (state->behind >= 0)
        vm_behind_close(state->behind);
    protection_fini(&state->protection);
    os_unmap(state, sizeof *state);
}

int mprotect_open(struct platform *pf, uintptr_t start, size_t length)
{
    struct state *state = pf->state;
    return protect_as(pf, start, length, state->armed ? VM_NONE : VM_READ_WRITE);
}

int mprotect_close(struct platform *pf, uintptr_t start, size_t length)
{
    struct state *state = pf->state;
    if (protection_left(&state->protection)) /* else it stays open, and reads as zero */
        protect_as(pf, start, length, VM_NONE);
    return vm_discard(&(struct extent){start, length}, 1);
}

int mprotect_populate(struct platform *pf, uintptr_t start, size_t length)
{
    (void) pf;
    return vm_populate(start, length);
}

int mprotect_arm(struct platform *pf, const struct extent *live, size_t n)
{
    struct state *state = pf->state;
    if (pf->caps.evicts && state->behind < 0 && vm_behind_open(&state->behind) < 0)
        return -EACCES;
    __atomic_store_n(&state->armed, true, __ATOMIC_SEQ_CST);
    int result = 0;
    size_t done = 0;
    while (done < n && (result = protect_as(pf, live[done].start, live[done].length, VM_NONE)) == 0)
        done++;
    if (result < 0) {
        __atomic_store_n(&state->armed, false, __ATOMIC_SEQ_CST);
        while (done-- > 0)
            protect_as(pf, live[done].start, live[done].length, VM_READ_WRITE);
    }
    return result;
}

int mprotect_residency(struct platform *pf, uintptr_t start, size_t length, unsigned char *vec)
{
    return vm_residency(start, length, pf->page, vec);
}

uintptr_t mprotect_present_from(const struct platform *pf, uintptr_t start, size_t length)
{
    return vm_present_from(start, length) & ~(uintptr_t) (pf->page - 1);
}

/* How far the protection at `at` goes on. */
static size_t run_of(const struct protection *protection, uintptr_t at, size_t length)
{
    size_t run = UNIT;
    while (run < length && protection_at(protection, at + run) == protection_at(protection, at))
        run += UNIT;
    return run;
}

/* How many bytes from `start` on are inaccessible: where content can be put unseen. */
static size_t closed_bytes(const struct protection *protection, uintptr_t start, size_t length)
{
    return protection_at(protection, start) == VM_NONE ? run_of(protection, start, length) : 0;
}

int64_t mprotect_place(struct platform *pf, uintptr_t start, size_t length, const void *content,
                              bool writable)
{
    struct state *state = pf->state;
    struct protection *protection = &state->protection;
    enum vm_protection after = writable ? VM_READ_WRITE : VM_READ;
    lock_acquire(&protection->lock);
    if (content)
        length = closed_bytes(protection, start, length);
    int result = length ? 0 : -EEXIST;
    if (result == 0 && content)
        result = vm_poke(state->behind, start, content, length);
    if (result == 0)
        result = protection_set_locked(protection, start, length, after);
    lock_release(&protection->lock);
    return result < 0 ? result : (int64_t) length;
}

int mprotect_protect(struct platform *pf, uintptr_t start, size_t length)
{
    return protect_as(pf, start, length, VM_NONE);
}

int mprotect_unprotect(struct platform *pf, uintptr_t start, size_t length)
{
    return protect_as(pf, start, length, VM_READ_WRITE);
}

const void *mprotect_peek(struct platform *pf, uintptr_t page, void *scratch)
{
    struct state *state = pf->state;
    return vm_peek(state->behind, page, scratch, pf->page) < 0 ? NULL : scratch;
}

int mprotect_drop(struct platform *pf, const struct extent *extents, size_t n)
{
    (void) pf;
    return vm_discard(extents, n);
}

int mprotect_zero(struct platform *pf, uintptr_t start, size_t length)
{
    static const unsigned char zeros[4096];
    const struct state *state = pf->state;
    int result = 0;
    for (size_t at = 0; at < length && result == 0; at += sizeof zeros)
        result = vm_poke(state->behind, start + at, zeros, sizeof zeros);
    return result;
}

/* Moves one run that is accessible at `from`. A moved mapping never merges with its new neighbours: when mappings run
 * low, content is copied instead. */
static int move_run(struct state *state, uintptr_t from, uintptr_t to, size_t length)
{
    struct protection *protection = &state->protection;
    if (protection_left(protection) > protection->edges_max / 2 && vm_move(from, to, length) == 0) {
        protection_spend(protection, 2);
        return protection_set_locked(protection, to, length, VM_READ_WRITE); /* it brings its old one along */
    }
    int result = protection_set_locked(protection, to, length, VM_READ_WRITE);
    return result < 0 ? result : vm_copy_present(from, to, length);
}

/* Opens an inaccessible unit of `from` if it has content. Returns whether it has. */
static bool open_if_present(struct protection *protection, uintptr_t unit)
{
    unsigned char present = 0;
    return vm_residency(unit, UNIT, UNIT, &present) == 0 && present &&
           protection_set_locked(protection, unit, UNIT, VM_READ_WRITE) == 0;
}

/* Run by run: the kernel moves no more than one mapping in a call. The lock keeps the map steady for the whole move. */
int mprotect_move(struct platform *pf, uintptr_t from, uintptr_t to, size_t length)
{
    struct state *state = pf->state;
    struct protection *protection = &state->protection;
    lock_acquire(&protection->lock);
    int result = 0;
    for (size_t at = 0, run; at < length && result == 0; at += run) {
        bool accessible = protection_at(protection, from + at) != VM_NONE;
        run = accessible ? run_of(protection, from + at, length - at) : UNIT;
        if (accessible || open_if_present(protection, from + at))
            result = move_run(state, from + at, to + at, run);
    }
    lock_release(&protection->lock);
    return result;
}

/* The protection is the mapping's, not the page's. */
bool mprotect_swaps(const struct platform *pf)
{
    (void) pf;
    return false;
}

bool mprotect_decode(const siginfo_t *info, const void *context, struct trap *out)
{
    vm_decode(info, context, out);
    return true; /* which of the two signals it is depends on the system */
}

size_t mprotect_granule(struct platform *pf)
{
    const struct state *state = pf->state;
    size_t left = protection_left(&state->protection), granule = pf->page;
    for (size_t half = state->protection.edges_max / 2; left < half && granule < GRANULE_MAX; half /= 2)
        granule *= 2;
    return granule;
}

int mprotect_fork(struct platform *pf, enum platform_fork phase)
{
    struct state *state = pf->state;
    if (phase == FORK_BEFORE) {
        lock_acquire(&state->protection.lock);
        return 0;
    }
    if (phase == FORK_CHILD) {
        lock_adopt(&state->protection.lock);
        protection_spend(&state->protection, state->protection.edges); /* what a child inherits no longer merges */
    }
    lock_release(&state->protection.lock);
    if (phase == FORK_PARENT || state->behind < 0)
        return 0;
    vm_behind_close(state->behind); /* it is the parent's memory */
    state->behind = -1;
    return vm_behind_open(&state->behind);
}

const struct platform_ops platform_mprotect = {
    .name = "mprotect",
    .probe = mprotect_probe,
    .arm = mprotect_arm,
    .fork = mprotect_fork,
    MPROTECT_PAGES,
};
