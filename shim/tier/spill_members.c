/* spill_members.c: see spill_members.h. */
#include "spill_members.h"

#include <errno.h>

#include "../../platform/os.h"

/* Address space for the rows, which cost what they are used; fewer slots where the file may become very large. */
#define ROWS_BYTES (UINT64_C(512) << 20)

static size_t rows_size(const struct spill_members *members)
{
    return members->slots * members->row_length * sizeof *members->rows;
}

static size_t taken_size(void)
{
    return SPILL_MEMBERS * sizeof(_Atomic uint32_t);
}

/* ---- the founder ---- */

/* Whether this file system tells open file descriptions apart: our lock has to be in another one's way. */
static int try_locks(const struct spill_file *file)
{
    int error = spill_file_lock(file, file->fd, 0);
    if (error)
        return error;
    int other = spill_file_reopen(file);
    if (other < 0)
        return other;
    error = spill_file_lock(file, other, 0);
    os_close(other);
    return error == 0 ? -EOPNOTSUPP : error == -EAGAIN || error == -EACCES ? 0 : error;
}

static int make_table(struct spill_members *members, uint32_t segments)
{
    size_t page = os_page_size(), row = ((size_t)segments * sizeof *members->rows + page - 1) & ~(page - 1);
    uint64_t slots = ROWS_BYTES / row;
    if (slots < 2)
        return -EFBIG;
    members->slots = slots < SPILL_MEMBERS ? (uint32_t)slots : SPILL_MEMBERS;
    members->row_length = row / sizeof *members->rows;
    members->taken = os_map_shared(taken_size());
    members->rows = os_map_shared(rows_size(members));
    return members->taken && members->rows ? 0 : -ENOMEM;
}

int spill_members_found(struct spill_members *members, struct spill_file *file, uint32_t segments)
{
    *members = (struct spill_members){.self = SPILL_NOBODY};
    int error = make_table(members, segments);
    if (!error)
        error = try_locks(file);
    if (error) {
        spill_members_fini(members);
        return error;
    }
    members->self = 0;
    atomic_store_explicit(&members->taken[0], 1, memory_order_release);
    return 0;
}

void spill_members_fini(struct spill_members *members)
{
    if (members->taken)
        os_unmap((void *)members->taken, taken_size());
    if (members->rows)
        os_unmap((void *)members->rows, rows_size(members));
    *members = (struct spill_members){.self = SPILL_NOBODY};
}

/* ---- coming and going ---- */

static bool is_taken(const struct spill_members *members, uint32_t slot)
{
    return atomic_load_explicit(&members->taken[slot], memory_order_acquire) != 0;
}

/* Takes a slot for the description behind `fd`. Asked again under the lock: it may have been somebody's in between. */
static bool take(struct spill_members *members, const struct spill_file *file, int fd, uint32_t slot)
{
    if (is_taken(members, slot) || spill_file_lock(file, fd, slot) != 0)
        return false;
    if (is_taken(members, slot)) {
        spill_file_unlock(file, fd, slot);
        return false;
    }
    atomic_store_explicit(&members->taken[slot], 1, memory_order_release);
    return true;
}

int spill_members_admit(struct spill_members *members, const struct spill_file *file, uint32_t *slot)
{
    if (!members->slots)
        return -EUSERS;
    int fd = spill_file_reopen(file);
    if (fd < 0)
        return fd;
    for (*slot = 0; *slot < members->slots; ++*slot)
        if (take(members, file, fd, *slot))
            return fd;
    os_close(fd);
    return -EUSERS;
}

void spill_members_leave(struct spill_members *members)
{
    if (members->self != SPILL_NOBODY)
        atomic_store_explicit(&members->taken[members->self], 0, memory_order_release);
    members->self = SPILL_NOBODY;
}

/* ---- the dead ---- */

bool spill_members_is_dead(const struct spill_members *members, const struct spill_file *file, uint32_t slot)
{
    if (members->self == SPILL_NOBODY || slot == members->self || !is_taken(members, slot) ||
        spill_file_lock(file, file->fd, slot) != 0)
        return false;
    if (is_taken(members, slot))
        return true;
    spill_file_unlock(file, file->fd, slot); /* somebody else has seen to it */
    return false;
}

void spill_members_bury(struct spill_members *members, const struct spill_file *file, uint32_t slot)
{
    atomic_store_explicit(&members->taken[slot], 0, memory_order_release);
    spill_file_unlock(file, file->fd, slot);
}
