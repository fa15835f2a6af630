/*
 * platform.h: what a trap backend must do. The contract between the engine and the machine.
 *
 * A backend owns the arena's address space: it reserves it, makes absent pages trap, and gives and takes pages'
 * content. It decides nothing: which page, when and why is the engine's. It keeps no record of a page's state either,
 * except what its mechanism needs (the mprotect backend's map of open granules).
 *
 * Words: a *page* is the backend's unit of state (`page` bytes: the system page, or 64 KiB where each change of
 * protection may split a mapping). A page is
 *   closed    not allocated: any access is the program's own error;
 *   absent    allocated, no content in memory: any access traps (once armed);
 *   present   accessible; writes too unless it is protected.
 *
 * All addresses and lengths are multiples of `page`, inside [base, base + size), and length > 0, unless said otherwise.
 * Unless said otherwise a function is async-signal-safe, thread-safe, leaves errno alone and returns 0 or a negative
 * errno value. The engine makes sure that no two calls work on the same page at the same time, except where said.
 */
#ifndef VP_PLATFORM_PLATFORM_H
#define VP_PLATFORM_PLATFORM_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct platform;

/* A run of pages. */
struct extent {
    uintptr_t start;
    size_t length;
};

/* A trapped access, read from what the system hands to the handler. */
struct trap {
    uintptr_t address; /* exact; an access over two pages reports the page that was missing */
    bool write;
    bool present; /* the page was there and its protection refused the access; only a hint where false */
};

/* What a backend can do here and now; filled by probe(). Data, so that --doctor can print it. */
struct platform_caps {
    bool evicts;         /* take/peek/place of content work: without it the backend only traps first touches */
    bool protects;       /* protect() lets readers go on, so a stored copy can be kept until the first write */
    bool takes;          /* take() works: content leaves atomically, pages pinned for DMA refused */
    bool batch_drop;     /* drop() of many scattered extents costs one call */
    bool kernel_faults;  /* faults inside system calls are served as well */
    bool move;           /* move() changes addresses without copying bytes */
    bool mappings;       /* the program's own protections of open pages are honoured; reclaim() works */
};

enum platform_fork { FORK_BEFORE, FORK_PARENT, FORK_CHILD };

struct platform_ops {
    const char *name; /* what --trap takes */
    bool on_request;  /* never chosen by "auto" */

    /**
     * Finds out by trying, never from a version, whether the backend works here. Leaves nothing behind.
     * Fills *caps; on failure writes a reason for people into why[0..size). Not async-signal-safe.
     */
    int (*probe)(struct platform_caps *caps, char *why, size_t size);

    /**
     * Reserves pf->size bytes (a power of two, or what is left of it: may be shrunk on return) of inaccessible address
     * space and sets pf->base, aligned to 1 GiB (2 MiB if it is small), and pf->page. After: every page is closed. Once, at start-up.
     */
    int (*reserve)(struct platform *pf);

    /** Gives the address space back (tests). */
    void (*release)(struct platform *pf);

    /** closed -> usable: present with zero content on demand (not armed), or absent (armed). -ENOMEM: the system
     *  refuses; nothing changed. */
    int (*open)(struct platform *pf, uintptr_t start, size_t length);

    /** Any state -> closed; content and memory are gone. May leave an access unpunished (it then reads zero) where
     *  closing would cost too many mappings; never fails otherwise. */
    int (*close)(struct platform *pf, uintptr_t start, size_t length);

    /**
     * From its return on every first touch of an absent page of an open range traps. Pages that were present keep
     * their content; those of `live` may trap once more each until unprotect() is called on them. On failure nothing has
     * changed.
     */
    int (*arm)(struct platform *pf, const struct extent *live, size_t n);

    /** Gives every page of the open range memory, as if the program had written to it. After arm(): only what is present and
     *  not protected, which ends its sharing with forked processes. */
    int (*populate)(struct platform *pf, uintptr_t start, size_t length);

    /** Which pages of an open range have content in memory, in swap too: vec[i] = 1 or 0. May be 1 for an absent page at
     *  which somebody peeked: the kernel gives it an empty page for that. */
    int (*residency)(struct platform *pf, uintptr_t start, size_t length, unsigned char *vec);

    /** The first address of an open range from which residency() may find something, its end where there is nothing. Quick,
     *  whatever the size (Linux 6.7); where it could not be, it says `start`. */
    uintptr_t (*present_from)(const struct platform *pf, uintptr_t start, size_t length);

    /**
     * absent -> present, each page in one step: no thread ever sees less than its whole content. content: length bytes,
     * outside the arena (pf->staging gives its pages back); NULL means zeros, and then pages that are present keep what
     * they have. writable == false leaves the pages protected (needs caps.protects). For pages that
     * were protected when they were taken see swaps().
     * Returns the bytes placed from the front, all but where something went wrong on the way; or when that was nothing
     * a negative errno: -EEXIST: the first page was present (nothing lost). -ENOMEM: no memory or no mapping to be had.
     */
    int64_t (*place)(struct platform *pf, uintptr_t start, size_t length, const void *content, bool writable);

    /** Present pages of the run: writes trap from its return on in every thread (with !caps.protects, reads too).
     *  Absent pages in the run are left alone; with caps.protects, closed ones too. */
    int (*protect)(struct platform *pf, uintptr_t start, size_t length);

    /** Undoes protect(). With caps.protects absent and closed pages in the run are left alone; without, there may be none. */
    int (*unprotect)(struct platform *pf, uintptr_t start, size_t length);

    /** Copies the content of one page into scratch (page bytes) and returns that; NULL when it cannot be read. The page was
     *  protected; meanwhile a write may have rescued it, and the program may be freeing it: what is returned is then of no
     *  use, but nothing bad happens. */
    const void *(*peek)(struct platform *pf, uintptr_t page, void *scratch);

    /** present and protected -> absent, content lost. Batched: costs about as much for many extents as for one. */
    int (*drop)(struct platform *pf, const struct extent *extents, size_t n);

    /** Present, unprotected pages of the run read as zero from its return on, and were never absent. Fails where one cannot be
     *  written to; some may be zero then. */
    int (*zero)(struct platform *pf, uintptr_t start, size_t length);

    /**
     * present -> absent, the content moves to staging + (start's place in the run), memory of the platform's own, of
     * which pf->staging_size bytes exist. Returns the bytes moved from the front, or -EBUSY (pinned or shared with a
     * forked process), -ENOENT, ... when the first page cannot be. Needs caps.takes.
     */
    int64_t (*take)(struct platform *pf, uintptr_t start, size_t length, size_t staging_offset);

    /** Frees the staging memory that take() filled: its first `length` bytes. */
    void (*staging_clear)(struct platform *pf, size_t length);

    /**
     * Moves every page of the open range `from` that residency() calls present to the open range `to` of the same length
     * (disjoint, nothing present in it), unprotected (but see swaps()); `from` is left without use and has to be closed.
     * Copies what cannot be moved. Nobody else touches either range meanwhile. Not for the fault path.
     */
    int (*move)(struct platform *pf, uintptr_t from, uintptr_t to, size_t length);

    /** Whether the kernel may have some of the memory in a swap of its own now: with such a page it keeps the protection, so
     *  that what was protected before it was moved, or taken and placed again, may still be. */
    bool (*swaps)(const struct platform *pf);

    /** Reads the trapped access out of a SIGSEGV or SIGBUS. Returns whether the backend's traps arrive as that signal: if
     *  not, it is about a protection that the program has set itself, or not about memory at all. */
    bool (*decode)(const siginfo_t *info, const void *context, struct trap *out);

    /** How many bytes the engine should make present or absent together, aligned: a power of two, at least pf->page.
     *  Grows where scattered changes would cost too many mappings. */
    size_t (*granule)(struct platform *pf);

    /** What is mapped over part of the arena goes, in one step; memory of the arena is there again, absent, accessible as
     *  `protection` says (PROT_* bits). Needs caps.mappings. */
    int (*reclaim)(struct platform *pf, uintptr_t start, size_t length, int protection);

    /** Around fork(): BEFORE in the parent, then PARENT there and CHILD in the child, before either touches the arena.
     *  CHILD makes the traps work again (whether armed is inherited) and lets go of what acts on the parent. In a child
     *  that was made without these, once armed, or for which CHILD failed, a page that was absent raises a signal: never is
     *  it zeros. */
    int (*fork)(struct platform *pf, enum platform_fork phase);
};

/* What the program has mapped over parts of the arena: in the order of addresses. */
#define FOREIGN_MAX 8192
struct foreign {
    size_t count;
    struct extent extents[FOREIGN_MAX];
};

struct platform {
    const struct platform_ops *ops;
    struct platform_caps caps;
    uintptr_t base;
    size_t size;
    size_t page;
    const unsigned char *staging; /* NULL unless caps.takes */
    size_t staging_size;
    /* A thread serving faults calls this (kernel_faults backends): set before arm(). */
    bool (*serve)(void *context, const struct trap *trap);
    void *serve_context;
    struct foreign foreign; /* guarded by the arena's lock, which whoever calls arm() and fork() holds */
    void *state; /* the backend's own */
};

/* The backends built into this binary, in the order in which they are preferred; ends with NULL. */
extern const struct platform_ops *const platform_backends[];

/** The backend of that name, or NULL. */
const struct platform_ops *platform_find(const char *name);

#endif
