#include "scratch.h"

#include <stdint.h>

#include "../../platform/os.h"

#define ALL_TAKEN ((UINT32_C(1) << SCRATCH_SLOTS) - 1)

struct scratch {
    uint32_t taken;   /* a bit a slot; futex */
    uint32_t waiting; /* threads that sleep, or are about to; any thread */
    size_t pages_size, records_size, size;
    unsigned char *slots;
    unsigned char lists[SCRATCH_SLOTS][SCRATCH_LISTS] __attribute__((aligned(16)));
};

static size_t round_up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

struct scratch *scratch_new(size_t pages_size, size_t records_size)
{
    size_t align = os_page_size();
    pages_size = round_up(pages_size, align);
    records_size = round_up(records_size, align);
    size_t head = round_up(sizeof(struct scratch), align);
    size_t size = head + SCRATCH_SLOTS * (pages_size + records_size);
    struct scratch *scratch = os_map_now(size);
    if (!scratch)
        return NULL;
    scratch->pages_size = pages_size;
    scratch->records_size = records_size;
    scratch->size = size;
    scratch->slots = (unsigned char *) scratch + head;
    return scratch;
}

struct scratch *scratch_free(struct scratch *scratch)
{
    if (scratch)
        os_unmap(scratch, scratch->size);
    return NULL;
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
            unsigned char *slot = scratch->slots + index * (scratch->pages_size + scratch->records_size);
            return (struct scratch_slot){.pages = slot, .records = slot + scratch->pages_size, .lists = scratch->lists[index], .index = index};
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
