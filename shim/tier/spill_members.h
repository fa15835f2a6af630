/*
 * spill_members.h: which processes of a family share the spill file, what each of them counts, and who has died.
 *
 * A table in memory shared by the family, made by its founder before its first fork, with a slot for each process and
 * in it a row: that process's part of the count of each segment. Being alive is a lock on a byte of the slot's own, far
 * beyond the file's data. It belongs to an open file description that the parent opens and locks for its child before
 * the fork, and which the child then uses for all its reading and writing. So:
 *   - There is no moment in which a child lives without its lock, whatever becomes of it, and no process that has lost
 *     its lock and can still read the file.
 *   - The kernel ends the lock when the last descriptor goes: by exit, exec or a signal, and not before the last write
 *     in flight. A process that somebody makes behind our back (vfork, _Fork, clone) has descriptors of its own for
 *     the same description: its parent counts as alive while it lives.
 *   - Who can take the lock of a slot that is in use knows that its process is dead, and has the slot to itself until
 *     it lets go, also by dying.
 *
 * A slot in use: `taken` was set under its lock, before anything came into the row. A slot not taken has an empty row.
 *
 * A process without a slot (there were none left, or no file to be opened) shares its parent's open file description,
 * and so could take locks that its parent has, or along with it: it looks for no dead. What it counts is lost when it
 * dies.
 *
 * The holder of LOCK_EVICT; async-signal-safe. The counts: see spill_space.h.
 */
#ifndef VP_TIER_SPILL_MEMBERS_H
#define VP_TIER_SPILL_MEMBERS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "spill_file.h"

#define SPILL_MEMBERS 256 /* slots, at most */
#define SPILL_NOBODY  UINT32_MAX

struct spill_members {
    uint32_t slots;          /* 0: there is no table */
    uint32_t self;           /* this process's slot, or SPILL_NOBODY */
    size_t row_length;       /* segments, and what fills the last page */
    _Atomic uint32_t *taken; /* shared, one a slot */
    _Atomic uint16_t *rows;  /* shared */
};

/**
 * Makes the table, with the caller in slot 0. Once in a family, before anybody else shares the file.
 * Returns 0, or a negative errno where there is no telling who lives; `members` is then without slots.
 */
int spill_members_found(struct spill_members *members, struct spill_file *file, uint32_t segments);

/** Unmaps the table; the slot was let go or stays taken. */
void spill_members_fini(struct spill_members *members);

/** Finds a slot for a child and takes it. Returns the child's descriptor, which has the lock, or a negative errno
 * (-EUSERS: no slot is left). */
int spill_members_admit(struct spill_members *members, const struct spill_file *file, uint32_t *slot);

/** Whether the slot's process has died. Then the slot is the caller's, until spill_members_bury(). */
bool spill_members_is_dead(const struct spill_members *members, const struct spill_file *file, uint32_t slot);

/** Frees a dead process's slot, whose row is empty. */
void spill_members_bury(struct spill_members *members, const struct spill_file *file, uint32_t slot);

/** Gives up the caller's own slot, whose row is empty. The lock ends with the file's descriptor. */
void spill_members_leave(struct spill_members *members);

static inline _Atomic uint16_t *spill_members_row(const struct spill_members *members, uint32_t slot)
{
    return members->rows + slot * members->row_length;
}

#endif
