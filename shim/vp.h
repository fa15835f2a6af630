/*
 * vp.h: Hyperion's public interface.
 *
 * A program needs none of it: preloaded, libvp.so serves the program's ordinary malloc(). Programs that want to can
 * link with libvp (pkg-config vp) and ask for arena memory by name.
 *
 * All functions are thread-safe; none but vp_contains() may be called in a signal handler.
 */
#ifndef VP_H
#define VP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Allocates like malloc(3): `size` bytes, from the arena where size is at least the threshold, else from libc.
 * Returns NULL with errno ENOMEM when neither has them. Blocks of all functions below are interchangeable with
 * malloc's: free() and realloc() take them.
 */
void *vp_malloc(size_t size);

/** Allocates zeroed memory like calloc(3). */
void *vp_calloc(size_t count, size_t size);

/** Resizes like realloc(3), in place or by moving pages where that is possible. `block` may be libc's or NULL. */
void *vp_realloc(void *block, size_t size);

/** Frees like free(3); NULL is allowed, errno is kept. A pointer into the arena that is not a live block is reported
 *  on stderr and ignored. */
void vp_free(void *block);

/** Allocates like memalign(3): `alignment` is rounded up to a power of two. */
void *vp_memalign(size_t alignment, size_t size);

/** Bytes that may be used at `block` (malloc_usable_size(3)); 0 for NULL. */
size_t vp_usable_size(void *block);

/** Whether `pointer` points into the arena. Async-signal-safe. */
bool vp_contains(const void *pointer);

/* What the shim has done so far. The names are those of the JSON that --stats writes. */
struct vp_stats {
    uint64_t ram_budget_bytes;    /* 0: not decided yet */
    uint64_t arena_bytes;         /* address space reserved */
    uint64_t live_bytes;          /* allocated in the arena now */
    uint64_t peak_live_bytes;
    uint64_t resident_bytes;      /* of the whole process, in memory now */
    uint64_t peak_resident_bytes;
    uint64_t faults;              /* traps served */
    uint64_t zero_fills;          /* pages that got their first memory from a trap */
    uint64_t evictions;           /* pages taken out of memory */
    uint64_t rescues;             /* pages that a write kept from eviction in the last moment */
    uint64_t compressed_pages;    /* the most in the compressed tier at a time */
    uint64_t compressed_bytes;    /* the most memory that it took */
    uint64_t spilled_pages;       /* the most in the spill file at a time */
    uint64_t spilled_bytes;       /* the most file space that it took */
    uint64_t spill_reads;         /* pages read back from the spill file */
    uint64_t spill_writes;        /* pages written to it */
    uint64_t poisoned_pages;      /* pages whose content was lost to a disk error */
    uint64_t pins;                /* buffers held in memory for a system call */
    uint64_t fault_ns_p50;
    uint64_t fault_ns_p99;
    uint64_t fault_ns_max;
    bool armed;                   /* absent pages trap */
    uint64_t tree_processes;      /* processes that shared the budget, this one too, when it was last divided */
    uint64_t tree_bytes;          /* what they had in memory then, each its part of what they share */
    uint64_t share_bytes;         /* what of the budget was this process's then */
};

/**
 * Fills out[0..size) with what the caller's version of the structure knows: pass sizeof *out.
 * Returns 0, or -1 with errno ENOSYS when the shim is not running.
 */
int vp_stats(struct vp_stats *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
