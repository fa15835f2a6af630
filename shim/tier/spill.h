/*
 * spill.h: the spill tier, an encrypted log in a nameless file.
 *
 * As in the pool (pool.h), records are appended to segments and sparse segments are cleaned. Each store() writes one or
 * more extents, large and aligned, each led by a sealed summary from which a segment can be read back and taken apart.
 * Sources: Rosenblum, Ousterhout, "The Design and Implementation of a Log-Structured File System", SOSP 1991 (segments,
 * summaries, cleaning); seal.h for the cryptography.
 */
#ifndef VP_TIER_SPILL_H
#define VP_TIER_SPILL_H

#include "spill_file.h"
#include "tier.h"

/* Most records in a segment, dead ones too: pick() with room for fewer items leaves some out. */
#define SPILL_SEGMENT_RECORDS 1024

struct spill_config {
    const char *directory; /* where the file goes; or NULL and */
    int fd;                /* an open file of nobody else's, which then belongs to the spill, also on failure */
    uint64_t max_bytes;    /* of disk space; 0: what the file system holds. Rounded down to segments, at least two */
    size_t page_size;      /* bytes: a power of two, 4096 to 65536 */
    const struct spill_io *io; /* NULL: spill_io_default */
    void *io_context;
};

/**
 * Opens a spill. To be called before a system-call filter that refuses io_uring_setup(), and from an ordinary thread.
 * Returns 0, -EINVAL, -ENOMEM, or what spill_file_open() says; spill_check_directory() has the words for that.
 */
int spill_new(struct tier **out, const struct spill_config *config);

/** Closes the file and wipes the key; NULL is allowed. Nobody may be loading or releasing. */
void spill_free(struct tier *tier);

/** Bytes of scratch, aligned to 4096, that load() needs. */
size_t spill_scratch_size(size_t page_size);

/** The spill's descriptors, to be kept from the program; returns how many were written to fds[0..2). */
size_t spill_descriptors(const struct tier *tier, int fds[2]);

/**
 * Around fork, all four by the holder of LOCK_EVICT, the first two while nobody loads or releases. before: in the
 * parent; every record is then needed twice. after_fork_child: the child reads all that the parent had stored, and
 * writes to segments of its own under a writer id of its own. after_fork_parent: in the parent, whether fork succeeded
 * or not: until then the child counts as alive. fork_failed: after that one, by the thread that forked; others may have
 * forked since. A child that ends in any way gives back what it needed, when another process of the family wants space.
 * (Where there is no telling who lives, see spill_members.h, only spill_free() does.) In a child where
 * after_fork_child() was not called store() refuses (-EPERM), for it would use nonces twice, and release() does nothing
 * but count.
 */
void spill_before_fork(struct tier *tier);
void spill_after_fork_child(struct tier *tier);
void spill_after_fork_parent(struct tier *tier);
void spill_fork_failed(struct tier *tier);

#endif
