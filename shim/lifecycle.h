/*
 * lifecycle.h: the shim as a whole: start, arming, fork, exit.
 */
#ifndef VP_LIFECYCLE_H
#define VP_LIFECYCLE_H

#include <stdbool.h>

#include "../platform/platform.h"
#include "arena/arena.h"
#include "options.h"
#include "pager/engine.h"
#include "process/tree.h"

/*
 * Arenas lie where the kernel maps nothing of itself: a filter that outlives exec() (guard/) then never meets another
 * program's pointers, unless that is shimmed too and draws the same place. It does meet what is left in registers that a
 * call does not use, which our own range checks fill with (pointer - arena): the bounds are such that programs
 * (from 0x555555554000 on), libraries and stacks (below 0x7fffffffffff) less an arena are no place for arenas.
 */
#define ARENAS_PLACE (UINT64_C(1) << 40)
#define ARENAS_START (44 * ARENAS_PLACE)
#define ARENAS_END   (62 * ARENAS_PLACE)

/* All of the shim's state that is not a thread's own. */
struct vp {
    struct options options;    /* constant after start-up */
    struct platform platform;  /* constant after start-up but for its own state */
    struct arena arena;        /* see arena.h */
    struct engine engine;      /* see engine.h */
    struct lock mappings;      /* LOCK_MAPPINGS: held while the program's mappings change (interpose/mappings.c) */
    struct lock lock;          /* LOCK_LIFECYCLE: guards the fields below */
    struct tree tree;          /* the others that have a part in the budget; see tree.h */
    uint64_t budget;           /* bytes, of the whole tree; 0 until it is first needed */
    uint64_t first_look;       /* live bytes below which the budget is not even asked for; constant after start-up */
    uint64_t looked_live;      /* bytes live when the arena was last looked through */
    uint64_t looked_resident;  /* bytes of the process in memory when the arena was last looked through */
    uint64_t elsewhere;        /* of these, bytes outside the arena */
    bool forking;              /* a fork that we know of is under way */
    bool settled;              /* arming was done, or has failed for good */
    const char *self_test;     /* "ok", or why the shim is not running; constant after start-up */
};

extern struct vp vp;

/** Whether absent pages trap: arming has begun and was not undone. Any thread. */
static inline bool lifecycle_armed(void) { return __atomic_load_n(&vp.engine.trapping, __ATOMIC_ACQUIRE); }

/** Called after an allocation that made the arena larger: arms paging when what is live exceeds the budget.
 *  No lock may be held. */
void lifecycle_note_growth(void);

/** The arena has become smaller: while paging is not armed, others may have what this process does not need. */
void lifecycle_note_shrink(void);

/** The program's small memory, which is libc's, has grown by about LIFECYCLE_SMALL_STEP: it counts against the budget too.
 *  No lock may be held. */
void lifecycle_note_small(void);
#define LIFECYCLE_SMALL_STEP ((size_t) 1 << 20)

/** Around a fork that libc's fork() does not make: what the handlers do that it calls. By the thread that forks. Keeps
 *  errno. */
void lifecycle_fork(enum platform_fork phase);

/** fork() has returned an error, after the handlers for its parent have run: what was counted for a child goes. */
void lifecycle_fork_failed(void);

/** Whether a new block of `size` bytes can be backed: by the budget, the pool and the spill together. */
bool lifecycle_can_back(uint64_t size);

#endif
