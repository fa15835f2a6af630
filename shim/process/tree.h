/*
 * tree.h: one budget for all processes under one vprun: who there is, what each has and wants, and what is this one's.
 *
 * A table in shared memory (segment.h) with a row for each process. Who pages keeps its own row up to date. Who does not
 * (it has not armed, or is another program by now, one without the shim) is looked at from outside by whoever finds its
 * row out of date, a few times a second; so are those that have said nothing for as long, and the rows of the dead are
 * freed. What a process that has not armed may still come to use, because it has allocated it, counts as its.
 *
 * Everything is counted by proportional set sizes (PSS): what processes share since a fork counts once. That it becomes two
 * by a write nobody is told; it is seen at the next look.
 *
 * There is no lock, and nothing that somebody could hold: a row is taken by a compare-and-swap and written by its
 * process (and by whoever looks at it). Two who take from what is left at the same time see each other's row
 * afterwards, and step back.
 *
 * The table is not trusted. Any process of the tree may write any bytes into it at any time; every number from it is
 * taken to be at most the budget, and none is an index or an address. The worst it can do is to make this process's
 * share as small as `firm`, or as large as the budget.
 *
 * Who is in another PID namespace than vprun cannot tell who lives: it stays alone, with the budget to itself.
 */
#ifndef VP_PROCESS_TREE_H
#define VP_PROCESS_TREE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../pager/share.h"
#include "segment.h"

#define TREE_ROWS   510
#define TREE_NOBODY UINT32_MAX

/* A process, as others see it. */
struct tree_row {
    _Alignas(64) _Atomic uint32_t process; /* its number; 0: a free row */
    _Atomic uint32_t pages;                /* it has a pager that keeps the row up to date */
    _Atomic uint64_t birth;                /* struct peer; 0: nobody has looked yet */
    _Atomic uint64_t looked_at;            /* monotonic clock: when the row was last brought up to date, in ns */
    _Atomic uint64_t use, granted, firm, demand; /* struct claim; what was granted to one that does not page is RSS */
    _Atomic uint64_t shared;               /* of one that does not page: in memory, but counts as others' */
};

struct tree_table {
    _Alignas(64) _Atomic uint64_t namespace; /* inode of vprun's PID namespace */
    _Atomic uint32_t rows_used;              /* no row from this one on was ever taken */
    struct tree_row rows[TREE_ROWS];
};

/* This process's view. One thread at a time: the pager's, or before there is one, the holder of LOCK_LIFECYCLE. */
struct tree {
    struct tree_table *table; /* NULL: alone */
    uint32_t self;            /* our row, or TREE_NOBODY: there was none left; we are not counted then */
    bool left;                /* this process is ending */
    uint64_t granted;         /* what our row says; here nobody else writes it */
    uint64_t shared;          /* bytes in memory that count as other processes' (RSS less PSS) */
    uint64_t shared_at;       /* when that was found out, and how long it took */
    uint64_t shared_cost;
    uint32_t processes;       /* as of the last look: others and this one */
    uint64_t use;             /* theirs and ours together */
    uint64_t share;
    struct claim claims[TREE_ROWS + 1]; /* of that look; ours is the last */
};

/** Makes a table and returns its descriptor, open over exec, or a negative errno; `text` receives what the environment
 *  has to say (SEGMENT_VARIABLE). For vprun. */
int tree_found(char text[SEGMENT_TEXT_MAX]);

/** Finds the table that `text` (NULL: none) tells of, and takes a row. Without one, the process is alone. */
void tree_join(struct tree *tree, const char *text);

/** In a forked child, before it uses the tree otherwise. */
void tree_after_fork(struct tree *tree);

/** The process is about to end. */
void tree_leave(struct tree *tree);

/** Whether there were ever others. Cheap; any thread. */
bool tree_has_others(const struct tree *tree);

/** Whether a process that does not page may come to `need` bytes (RSS): they are within its share, and no one else's now.
 *  Then they are granted. */
bool tree_admit(struct tree *tree, uint64_t budget, uint64_t need);

/** A process that does not page has come to need only `need`. Any thread. */
void tree_give_back(struct tree *tree, uint64_t need);

/** What a process that pages may have in memory now (RSS), out of the tree's budget. `mine`: what it has, with what else
 *  there is of its; `granted` is not used. Async-signal-safe. */
uint64_t tree_allot(struct tree *tree, uint64_t budget, const struct claim *mine);

/** Bytes in memory that others than this process use, as they were last seen. Any thread. */
uint64_t tree_use_of_others(const struct tree *tree);

#endif
