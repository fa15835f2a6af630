#include "protection.h"

#include <errno.h>
#include <string.h>

#include "../os.h"

/* Of vm.max_map_count; the rest is the program's. */
#define SHARE(limit) ((limit) * 9 / 20)

int protection_init(struct protection *protection, uintptr_t base, size_t size)
{
    *protection = (struct protection){.lock = LOCK_INIT(LOCK_TRAP),
                                      .base = base,
                                      .units = size / PROTECTION_UNIT,
                                      .map = os_map(size / PROTECTION_UNIT),
                                      .edges_max = SHARE(vm_map_limit())};
    return protection->map ? 0 : -ENOMEM;
}

void protection_fini(struct protection *protection) { os_unmap(protection->map, protection->units); }

static size_t unit_of(const struct protection *protection, uintptr_t address)
{
    return (address - protection->base) / PROTECTION_UNIT;
}

/* Edges between first - 1 and end. */
static size_t count_edges(const struct protection *protection, size_t first, size_t end)
{
    size_t edges = 0;
    for (size_t i = first ? first : 1; i <= end && i < protection->units; i++)
        edges += protection->map[i] != protection->map[i - 1];
    return edges;
}

int protection_set_locked(struct protection *protection, uintptr_t start, size_t length, enum vm_protection to)
{
    int result = vm_protect(start, length, to);
    if (result < 0)
        return result;
    size_t first = unit_of(protection, start), end = first + length / PROTECTION_UNIT;
    size_t before = count_edges(protection, first, end);
    memset(protection->map + first, to, end - first);
    size_t edges = protection->edges - before + count_edges(protection, first, end);
    __atomic_store_n(&protection->edges, edges, __ATOMIC_RELAXED);
    return 0;
}

int protection_set(struct protection *protection, uintptr_t start, size_t length, enum vm_protection to)
{
    lock_acquire(&protection->lock);
    int result = protection_set_locked(protection, start, length, to);
    lock_release(&protection->lock);
    return result;
}

enum vm_protection protection_at(const struct protection *protection, uintptr_t address)
{
    return (enum vm_protection) protection->map[unit_of(protection, address)];
}

void protection_spend(struct protection *protection, size_t mappings)
{
    __atomic_store_n(&protection->spent, protection->spent + mappings, __ATOMIC_RELAXED);
}

size_t protection_left(const struct protection *protection)
{
    size_t edges = __atomic_load_n(&protection->edges, __ATOMIC_RELAXED) +
                   __atomic_load_n(&protection->spent, __ATOMIC_RELAXED);
    return edges < protection->edges_max ? protection->edges_max - edges : 0;
}
