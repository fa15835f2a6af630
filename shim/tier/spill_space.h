/*
 * spill_space.h: which segments of the spill file are whose.
 *
 * A process and the children that it forked share one file. Each segment has a count of the records in it that somebody
 * still needs: `total`, in memory shared by the family, is the sum of every process's own count, `mine`. A segment is
 * free when total is 0 and is claimed by compare-and-swap. What only the writer and those who forked from it afterwards
 * need to know (who wrote it, when, how much) is private and copied by fork.
 *
 * A process that dies without spill_free() leaves its counts behind, and their segments stay taken until the family is
 * gone. Reaping them needs a list of members and belongs to the process tree (later).
 *
 * hold, drop: any thread, async-signal-safe. The rest: the holder of LOCK_EVICT.
 */
#ifndef VP_TIER_SPILL_SPACE_H
#define VP_TIER_SPILL_SPACE_H

#include <stdatomic.h>

#include "spill_file.h"

/* Private knowledge of one segment. */
struct spill_segment {
    uint64_t writer, sequence; /* first two words of the nonces in it */
    uint32_t written;          /* bytes from its start that can be read back; 0: not to be read back */
    uint32_t stored;           /* records in them, dead ones too */
};

struct spill_family {
    _Atomic uint32_t frontier; /* segments that the file has ever had */
    _Atomic uint32_t used;     /* segments with total != 0; a hint, exact only when nobody claims or drops */
    _Atomic uint32_t punched;  /* free segments without disk space */
};

struct spill_space {
    struct spill_file *file;
    size_t segment_size;
    uint32_t limit;  /* segments that the file may have */
    uint32_t cursor; /* where the search for a free segment goes on */
    uint64_t writer, sequence;
    struct spill_segment *segments;
    _Atomic uint32_t *mine;
    _Atomic uint32_t *total;     /* shared */
    struct spill_family *family; /* shared */
};

/** Makes the table for a file of at most `max_bytes`. Returns 0 or a negative errno (-EINVAL: under two segments). */
int spill_space_init(struct spill_space *space, struct spill_file *file, size_t segment_size, uint64_t max_bytes);

/** Gives up everything that this process counts, and the table. */
void spill_space_fini(struct spill_space *space);

/**
 * Claims a free segment, growing the file when needed, with one hold on it.
 * `last`: whether the last free one may be taken; otherwise it is kept back for cleaning, which needs room to make
 * room. Returns 0, or -ENOSPC or what the device said.
 */
int spill_space_claim(struct spill_space *space, bool last, uint32_t *index);

/** Counts `count` records or holds more in a segment that has at least one. */
void spill_space_hold(struct spill_space *space, uint32_t index, uint32_t count);

/** Counts `count` fewer; at zero the segment is anybody's. */
void spill_space_drop(struct spill_space *space, uint32_t index, uint32_t count);

/** Records and holds of this process in a segment; 0 when another process needs any record in it. */
uint32_t spill_space_sole(const struct spill_space *space, uint32_t index);

/** Gives disk space back where much of the file is free. A bounded amount of work a call. */
void spill_space_trim(struct spill_space *space);

/** Bytes of disk space in the file. */
uint64_t spill_space_held(const struct spill_space *space);

/** Around fork, while nobody loads or releases: counts everything twice; takes that back when fork failed. */
void spill_space_before_fork(struct spill_space *space);
void spill_space_fork_failed(struct spill_space *space);

/** A new writer id: in the constructor and in every forked child. Returns 0 or a negative errno. */
int spill_space_new_writer(struct spill_space *space);

#endif
