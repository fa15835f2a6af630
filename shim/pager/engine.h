/*
 * engine.h: the pager's state, all of it, and what the rest of the shim asks of it.
 *
 * The engine joins the state words (page.h), the platform (what traps, what moves content), the tiers (where content
 * goes) and the budget. fault.c brings pages in, evict.c takes them out, pager.c decides when.
 *
 * Everything here works on any platform and clock: tests run it on a made-up one.
 */
#ifndef VP_PAGER_ENGINE_H
#define VP_PAGER_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../platform/lock.h"
#include "../../platform/platform.h"
#include "../arena/arena.h"
#include "../base/histogram.h"
#include "../tier/tier.h"
#include "page.h"
#include "policy.h"
#include "share.h"

/* Eviction works through the arena a region at a time: the pages that one mask holds. */
#define REGION_PAGES 64

/* How much a fault in a sequential stream brings in at a time: at most, and where memory is short. */
#define AHEAD_BYTES     ((size_t) 256 << 10)
#define AHEAD_MIN_BYTES ((size_t) 64 << 10)
#define AHEAD_PAGES     (AHEAD_BYTES / 4096)

struct region {
    uint32_t resident; /* pages in memory; any thread */
    uint32_t pins;     /* who forbids eviction here; any thread */
};

/* Added to by any thread, relaxed; read for statistics only. */
struct counters {
    uint64_t faults;     /* traps served */
    uint64_t zero_fills; /* pages that got their first content */
    uint64_t refills;    /* pages brought back from a tier */
    uint64_t evictions;  /* pages taken out of memory */
    uint64_t rescues;    /* pages that a fault took back from the evictor */
    uint64_t same_pages; /* evicted pages that stored nothing */
    uint64_t poisoned;
    uint64_t pins;
    uint64_t waits;      /* faults that had to wait for the evictor */
    uint64_t helped;     /* pages that they compressed meanwhile */
};

/* What the pager needs to know of the process; a test gives its own. */
struct pager_config {
    uint64_t budget;            /* bytes that the process may have in memory, whatever they are for */
    uint64_t (*resident)(void); /* bytes that it has now; cheap, async-signal-safe */
    uint64_t (*overhead)(void); /* bytes that resident() does not see but the limit counts: page tables; may be NULL */
    /* What of the budget this process may have now, when others have a part in it; async-signal-safe; may be NULL. */
    uint64_t (*allot)(const struct claim *mine);
    bool no_thread;             /* faults evict for themselves */
};

/* The pager's own state (pager.c). */
struct pager {
    struct pager_config config;
    bool configured;     /* `config` is complete; set once, read by any thread */
    uint32_t running;    /* the thread is there (or being made); any thread, atomically */
    uint32_t asleep;     /* the thread waits for the bell; it writes, any thread reads */
    uint32_t bell;       /* futex: rings for the thread */
    uint64_t high;       /* pages in memory above which it evicts; it writes, any thread reads */
    uint64_t low;        /* pages in memory down to which it evicts; its own */
    bool draining;       /* it is on its way from the one to the other; its own */
    uint64_t overhead;   /* what config.overhead() said last; its own, like all that follows */
    uint64_t overhead_at;
    uint64_t elsewhere;  /* bytes in memory that are neither arena nor pool: see apportion() */
    uint64_t last_used;
    uint64_t moves;       /* pages that had come and gone by `moved_at` */
    uint64_t moved_at;
    uint64_t faults; /* that had been served by `faulted_at` */
    uint64_t faulted_at;
    uint64_t interval_ns; /* how long it sleeps without a bell */
    unsigned ratio;       /* compressed size in 1/1024 of the page, smoothed; holder of the evict lock */
};

/* The most that a tier has held. */
struct tier_peak {
    uint64_t records;
    uint64_t held_bytes;
};

struct evictor; /* evict.c */
struct scratch; /* scratch.c */

struct engine {
    /* Set at start-up, constant afterwards. */
    struct platform *pf;
    struct arena *arena;
    page_word *pages;       /* sparse: one word a page of the arena */
    struct region *regions; /* sparse */
    unsigned page_shift;
    size_t page_count;

    /* Written under LOCK_LIFECYCLE, read by any thread. */
    bool trapping; /* the platform is armed: absent pages come to fault_serve() */
    bool paging;   /* tiers are there: pages can leave */

    /* Constant once `paging` is set. */
    struct tier *pool;  /* NULL: none */
    struct tier *spill; /* NULL: none */
    struct scratch *scratch;
    size_t ahead;         /* pages that one fault may bring in from a tier */
    size_t records_size;  /* bytes of scratch for reading that many records */
    struct evictor *evictor;

    struct lock evict_lock; /* one evictor at a time */

    /* Driven by pages that leave. Holder of the evict lock writes; `now` is read by any thread. */
    struct policy_clock clock;

    /* Any thread, atomically. */
    uint64_t turn;       /* counts runs of pages that came back, for the policy */
    unsigned broken;     /* the share of kept copies that a write breaks (policy.h) */
    uint64_t resident;   /* pages in memory that the engine knows of */
    uint64_t limit;      /* the most there should be; the pager writes it (pager.c) */
    uint32_t rounds;     /* of the evictor */
    uint32_t progress;   /* futex: counts those, and what there is to help with; faults over the limit wait on it */
    uint32_t in_flight;  /* faults and pins being served; fork waits for 0 */
    uint32_t entered;    /* the thread that has come in by engine_try_enter(), or 0 */
    uint32_t gate;       /* futex: the thread that keeps faults out (fork, arming), or 0 */
    bool pool_tight;     /* it spills: a copy of what is in memory would keep another page on the disk; evictor writes */
    bool spill_full;     /* the last attempt to store failed; cleared when something could be stored again */
    bool warned_full;    /* and the user was told once */
    bool locked;         /* the program has locked memory of the arena (mlock) */
    bool take_only;      /* memory may be in the hands of the kernel or a device unseen: protection does not stop those */
    bool evict_shared;   /* a fork happened: pages may be shared with a child, which taking refuses */

    struct pager pager;

    struct counters counters;
    struct histogram fault_ns;

    /* Holder of the evict lock writes; read for statistics only. */
    struct tier_peak pool_peak, spill_peak;
};

/** Prepares the tables for the arena's address space. Returns 0 or -ENOMEM. */
int engine_init(struct engine *engine, struct platform *pf, struct arena *arena);

/** Gives the tables back (tests). The tiers are the caller's. */
void engine_fini(struct engine *engine);

/**
 * From now on absent pages trap. Everything that is live is looked through: what is in memory is resident.
 * Returns 0 or a negative errno (the platform refused; nothing changed). Holder of LOCK_LIFECYCLE.
 */
int engine_arm(struct engine *engine);

/** How much a fault in a stream may bring in, where buffers of that size do not matter: a budget's thousandth. Before
 *  engine_start_paging(). */
void engine_set_ahead(struct engine *engine, uint64_t budget);

/**
 * From now on pages can leave, to these tiers (either may be NULL). Needs engine_arm() first.
 * Returns 0 or -ENOMEM. Holder of LOCK_LIFECYCLE.
 */
int engine_start_paging(struct engine *engine, struct tier *pool, struct tier *spill);

/** The content of the live pages of `extent` is no longer wanted (MADV_DONTNEED): they read as zero from now on. used_stay:
 *  what is pinned stays in memory, empty, so that no system call that is using it fails. */
void engine_discard(struct engine *engine, const struct extent *extent, bool used_stay);

/** All pages of a detached range become FRESH; what was stored of them is released at once. Waits for faults and
 *  evictions in flight on them. The memory itself is the platform's (close). */
void engine_forget(struct engine *engine, const struct extent *extent);

/** Moves content from the detached range to the live, untouched one of at least its length: pages in memory by the
 *  platform, absent ones by their handles, none brought in. `from` is as after engine_forget(). */
void engine_move(struct engine *engine, const struct extent *from, uintptr_t to);

/** Takes the live pages of `extent` out of memory if they can be (MADV_PAGEOUT). */
void engine_page_out(struct engine *engine, const struct extent *extent);

/** Makes [start, start + length) of the arena present, writable where `write`, and keeps it so until engine_unpin().
 *  Any length; any thread; async-signal-safe. Returns false when a page is poisoned (nothing stays pinned then). */
bool engine_pin(struct engine *engine, uintptr_t start, size_t length, bool write);

/** The same where all of the range (at least a byte of it) is present already, and false where it is not: cheap. A page
 *  that is present is allocated; one that was never looked at is not known to be present. */
bool engine_pin_present(struct engine *engine, uintptr_t start, size_t length, bool write);

void engine_unpin(struct engine *engine, uintptr_t start, size_t length);

/** Around fork(), see platform.h: nothing is in motion from FORK_BEFORE until FORK_PARENT and FORK_CHILD. */
void engine_fork(struct engine *engine, enum platform_fork phase);

/* ---- fault.c ---- */

enum fault_result {
    FAULT_HEALED,   /* try the access again */
    FAULT_FOREIGN,  /* not an access to allocated arena memory: the program's own affair */
    FAULT_POISONED, /* the content is lost: SIGBUS to the program */
};

/** Serves a trapped access. Any thread, async-signal-safe: see the rules at the head of fault.c. */
enum fault_result fault_serve(struct engine *engine, const struct trap *trap);

/* ---- evict.c ---- */

/** Takes about `want` pages out of memory, fewer when they resist. Holder of evict_lock. Returns how many left. */
size_t evict_pages(struct engine *engine, size_t want);

/** Takes pages [first, end) out of memory, however young; pinned regions stay, and so does what resists. Holder of
 *  evict_lock. Returns how many left. */
size_t evict_range(struct engine *engine, size_t first, size_t end);

/** The evictor's memory, made once. */
int evictor_new(struct engine *engine);
void evictor_free(struct engine *engine);

/* ---- shared by the files of pager/ ---- */

static inline size_t engine_page_size(const struct engine *engine) { return (size_t) 1 << engine->page_shift; }

static inline size_t engine_page_of(const struct engine *engine, uintptr_t address)
{
    return (address - engine->pf->base) >> engine->page_shift;
}

static inline uintptr_t engine_address_of(const struct engine *engine, size_t page)
{
    return engine->pf->base + ((uintptr_t) page << engine->page_shift);
}

static inline struct region *engine_region_of(struct engine *engine, size_t page)
{
    return &engine->regions[page / REGION_PAGES];
}

static inline bool region_is_pinned(const struct region *region)
{
    return __atomic_load_n(&region->pins, __ATOMIC_SEQ_CST);
}

static inline void count(uint64_t *counter, uint64_t by) { __atomic_fetch_add(counter, by, __ATOMIC_RELAXED); }

/** Books `pages` of one region as having come (by > 0) or gone. */
void engine_account(struct engine *engine, size_t page, int64_t by);

/** The platform's limit is the arena's, in pages: how far it was ever used. */
size_t engine_pages_used(const struct engine *engine);

/** A copy that was kept has ended: broken by a write, or it was of use. */
static inline void engine_note_copy(struct engine *engine, bool by_write)
{
    unsigned broken = __atomic_load_n(&engine->broken, __ATOMIC_RELAXED);
    __atomic_store_n(&engine->broken, policy_copy_ends(broken, by_write), __ATOMIC_RELAXED);
}

/** Lets go of the stored copy that the word names, if it names one. */
void engine_release_copy(struct engine *engine, page_word word);

/** Announces that pages are about to be in motion; waits while fork or arming keeps such out (except in the thread that
 *  does). Pairs with engine_leave(). Returns whether it had to wait. */
bool engine_enter(struct engine *engine);
void engine_leave(struct engine *engine);

/** The same for a thread that must not wait, and that then may enter again without waiting. Returns false where it would
 *  have to wait. One thread at a time. Pairs with engine_leave_entered(). */
bool engine_try_enter(struct engine *engine);
void engine_leave_entered(struct engine *engine);

#endif
