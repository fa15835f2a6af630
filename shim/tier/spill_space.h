/*
 * spill_space.h: which segments of the spill file are whose.
 *
 * A process and the children that it forked share one file. Each segment has a count of the records in it that somebody
 * still needs: `total`, in memory shared by the family, is the sum of every process's own count, `mine`. A segment is
 * free when total is 0 and is claimed by compare-and-swap. What only the writer and those who forked from it afterwards
 * need to know (who wrote it, when, how much) is private and copied by fork.
 *
 * A process that dies without spill_free() (killed, _exit(), exec) leaves its counts behind. They are in its row of the
 * family's table (spill_members.h), and whoever needs space next and has a slot itself gives them back. A process may
 * be killed between any two instructions, so total and a row change in an order that lets a row's count never exceed
 * its part of total: what comes is counted in total first, what goes is taken from the row first. Whatever is between
 * the two when a process dies, the one that reaps others too, is lost until the family ends: at most one hold, one
 * claimed segment (it stays at total 1), or one segment's count of a dead process, for each death. Nothing is freed too
 * early.
 *
 * hold, drop: any thread, async-signal-safe. The rest: the holder of LOCK_EVICT.
 */
#ifndef VP_TIER_SPILL_SPACE_H
#define VP_TIER_SPILL_SPACE_H

#include <stdatomic.h>

#include "spill_members.h"

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
    uint32_t process; /* whose writer id and counts these are; 0: nobody's */
    struct spill_segment *segments;
    _Atomic uint16_t *mine;      /* a row of the table, or one of `own` */
    _Atomic uint16_t *own[2];    /* private: for a process without a slot, and for its child without one */
    _Atomic uint32_t *total;     /* shared */
    struct spill_family *family; /* shared */
    struct spill_members members;
    bool founded, told;
    uint64_t reaped_ns; /* when this process last looked for dead ones */
    struct {
        _Atomic uint16_t *row; /* what the child counts; NULL: nothing */
        uint32_t slot;         /* SPILL_NOBODY: row is private */
        int fd;                /* the child's, or -1 */
        uint32_t thread;       /* that forked, until it is known whether that failed; or 0 */
    } child;                   /* of the last fork */
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

/** Whether the counts and the writer id are this process's. They are not in one that was made behind our back (_Fork,
 *  clone), nor in its children: nothing may be stored or dropped there. What they read is there while their maker keeps
 *  it. */
bool spill_space_is_mine(const struct spill_space *space);

/** Counts `count` records or holds more in a segment that has at least one. */
void spill_space_hold(struct spill_space *space, uint32_t index, uint32_t count);

/** Counts `count` fewer; at zero the segment is anybody's. */
void spill_space_drop(struct spill_space *space, uint32_t index, uint32_t count);

/** Whether this process has records or holds in a segment. */
bool spill_space_is_needed(const struct spill_space *space, uint32_t index);

/** Records and holds of this process in a segment; 0 when another process needs any record in it. */
uint32_t spill_space_sole(const struct spill_space *space, uint32_t index);

/** Gives disk space back where much of the file is free. A bounded amount of work a call. */
void spill_space_trim(struct spill_space *space);

/** Bytes of disk space in the file. */
uint64_t spill_space_held(const struct spill_space *space);

/** Gives back what dead processes of the family counted, at most so often unless `now`. Returns whether there were any.
 */
bool spill_space_reap(struct spill_space *space, bool now);

/** Around fork, before and child while nobody loads or releases: counts everything twice; makes this process the child,
 *  with the descriptor that was opened for it and a new writer id (0, or a negative errno when there is none to be
 * had); closes that descriptor in the parent; takes it all back. See spill.h. */
void spill_space_before_fork(struct spill_space *space);
int spill_space_after_fork_child(struct spill_space *space);
void spill_space_after_fork_parent(struct spill_space *space);
void spill_space_fork_failed(struct spill_space *space);

#endif
