#include "scratch.h"

#include <stdbool.h>
#include <stdint.h>

#include "../../platform/os.h"
#include "../../platform/vm.h"

#define ALL_TAKEN ((UINT32_C(1) << SCRATCH_SLOTS) - 1)

struct scratch {
    uint32_t taken;   /* a bit a slot; futex */
    uint32_t waiting; /* threads that sleep, or are about to; any thread */
    size_t pages_size, records_size, size;
    size_t slot_size; /* of each: its stack's guard, its stack, then the others */
    unsigned char *slots;
    unsigned char lists[SCRATCH_SLOTS][SCRATCH_LISTS] __attribute__((aligned(16)));
};

static size_t round_up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

/* The guard's memory was never of use. */
static bool close_guard(unsigned char *guard, size_t size)
{
    return vm_protect((uintptr_t) guard, size, VM_NONE) == 0 && os_discard(guard, size) == 0;
}

struct scratch *scratch_new(size_t pages_size, size_t records_size)
{
    size_t guard = os_page_size(), stack = round_up(SCRATCH_STACK, guard), head = round_up(sizeof(struct scratch), guard);
    pages_size = round_up(pages_size, guard);
    records_size = round_up(records_size, guard);
    size_t slot_size = guard + stack + records_size + pages_size, size = head + SCRATCH_SLOTS * slot_size;
    struct scratch *scratch = os_map_now(size);
    if (!scratch)
        return NULL;
    scratch->pages_size = pages_size;
    scratch->records_size = records_size;
    scratch->size = size;
    scratch->slot_size = slot_size;
    scratch->slots = (unsigned char *) scratch + head;
    for (unsigned char *slot = scratch->slots; slot < (unsigned char *) scratch + size; slot += slot_size)
        if (!close_guard(slot, guard))
            return scratch_free(scratch);
    return scratch;
}

struct scratch *scratch_free(struct scratch *scratch)
{
    if (scratch)
        os_unmap(scratch, scratch->size);
    return NULL;
}

static struct scratch_slot slot_at(struct scratch *scratch, unsigned index)
{
    unsigned char *end = scratch->slots + (index + 1) * scratch->slot_size, *pages = end - scratch->pages_size;
    unsigned char *records = pages - scratch->records_size;
    return (struct scratch_slot){
        .pages = pages, .records = records, .lists = scratch->lists[index], .stack_top = records, .index = index};
}

struct scratch_slot scratch_take(struct scratch *scratch)
{
    for (;;) {
        uint32_t taken = __atomic_load_n(&scratch->taken, __ATOMIC_RELAXED);
        if (taken == ALL_TAKEN) {
            __atomic_fetch_add(&scratch->waiting, 1, __ATOMIC_SEQ_CST);
            os_futex_wait(&scratch->taken, taken, 0, false);
            __atomic_fetch_sub(&scratch->waiting, 1, __ATOMIC_SEQ_CST);
            continue;
        }
        unsigned index = (unsigned) __builtin_ctz(~taken);
        if (__atomic_compare_exchange_n(&scratch->taken, &taken, taken | UINT32_C(1) << index, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            return slot_at(scratch, index);
        }
    }
}

/* Each slot that comes back wakes one, not only the first: others may come back before who was woken has taken his. */
void scratch_give(struct scratch *scratch, struct scratch_slot slot)
{
    __atomic_fetch_and(&scratch->taken, ~(UINT32_C(1) << slot.index), __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&scratch->waiting, __ATOMIC_SEQ_CST))
        os_futex_wake(&scratch->taken, 1, false);
}

void scratch_reset(struct scratch *scratch)
{
    __atomic_store_n(&scratch->taken, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&scratch->waiting, 0, __ATOMIC_RELEASE);
}
