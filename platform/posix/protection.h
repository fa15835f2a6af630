/*
 * protection.h: the arena's protection, unit by unit, and the mappings that it costs.
 *
 * Each change of protection may split a mapping, and a process may have only so many (vm.max_map_count). This keeps
 * the arena's share of them known: backends take coarser steps, or leave things open, as it fills.
 *
 * Thread-safe, async-signal-safe. Conventions as in platform.h.
 */
#ifndef VP_POSIX_PROTECTION_H
#define VP_POSIX_PROTECTION_H

#include "../lock.h"
#include "../vm.h"

/* Bytes in a unit: what addresses and lengths are multiples of. */
#define PROTECTION_UNIT (UINT64_C(64) << 10)

struct protection {
    struct lock lock;   /* guards all below */
    uintptr_t base;     /* constant */
    size_t units;       /* constant */
    unsigned char *map; /* enum vm_protection of every unit */
    size_t edges;       /* neighbouring units that differ: the mappings that the arena costs; read without the lock */
    size_t edges_max;   /* constant */
    size_t spent;       /* mappings that cost more than an edge, for good; read without the lock */
};

/** Everything is VM_NONE. Returns 0 or -ENOMEM. */
int protection_init(struct protection *protection, uintptr_t base, size_t size);
void protection_fini(struct protection *protection);

/** Protects [start, start + length). */
int protection_set(struct protection *protection, uintptr_t start, size_t length, enum vm_protection to);

/** The same by a caller who holds the lock. */
int protection_set_locked(struct protection *protection, uintptr_t start, size_t length, enum vm_protection to);

/** How the unit at `address` is protected; by a caller who holds the lock. */
enum vm_protection protection_at(const struct protection *protection, uintptr_t address);

/** Books mappings that will not merge again (moved ones; those of a forked child). By a caller who holds the lock. */
void protection_spend(struct protection *protection, size_t mappings);

/** Mappings that may still be spent; 0 when the share is used up. */
size_t protection_left(const struct protection *protection);

#endif
