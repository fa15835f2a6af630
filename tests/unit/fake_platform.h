/*
 * fake_platform.h: a machine made of ordinary memory, and a tier that fails on demand.
 *
 * The fake platform keeps what a real one keeps in hardware: for each page whether it is closed, absent, present or
 * protected, and its content, in a buffer that lies elsewhere than the addresses say: whoever touches "arena" memory
 * directly crashes. Every precondition of platform.h is checked; breaking one ends the test with a message.
 *
 * Everything is thread-safe. A test may set `step`: it is called (outside the lock) before and after each operation.
 */
#ifndef FAKE_PLATFORM_H
#define FAKE_PLATFORM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../platform/platform.h"
#include "../../shim/pager/engine.h"

enum fake_page { FAKE_CLOSED, FAKE_ABSENT, FAKE_PRESENT, FAKE_PROTECTED };

/* What a step is: FAKE_RETURNED is set in the call after the operation, `result` is meaningful only there. */
enum fake_op {
    FAKE_OPEN, FAKE_POPULATE, FAKE_CLOSE, FAKE_ARM, FAKE_RESIDENCY, FAKE_PLACE, FAKE_PROTECT, FAKE_UNPROTECT,
    FAKE_PEEK, FAKE_DROP, FAKE_ZERO,
    FAKE_TAKE, FAKE_CLEAR, FAKE_MOVE, FAKE_FORK, FAKE_READ, FAKE_WRITE, FAKE_STORE, FAKE_LOAD, FAKE_RELEASE,
    FAKE_OPS,
    FAKE_RETURNED = 0x100,
};

struct fake {
    struct platform pf; /* first */
    pthread_mutex_t mutex;
    unsigned char *state; /* enum fake_page a page */
    bool *residue;        /* absent or closed, but seems present: somebody has peeked */
    unsigned char *memory, *staging;
    bool *staged, *staged_protected;
    bool armed;

    /* How it behaves; set before use. */
    size_t granule;
    bool zeros_over_content; /* placing zeros where content is, is part of the test; else it is an error */
    bool swaps;         /* pages that move keep their protection, as the kernel's own swapped pages do */
    bool races;         /* threads race: a rescued page may be protected or peeked a moment too late */
    void (*step)(void *context, int op, uintptr_t address, int64_t result);
    void *step_context;

    /* Failures; each is used up. */
    /* how many of the next calls: */
    unsigned place_fails, protect_fails, unprotect_fails, open_fails, peek_fails, drop_fails, zero_fails, move_fails;
    int place_error, arm_error, residency_error;
    size_t place_most; /* bytes that one call places; 0: all */
    size_t protect_partly; /* pages that a protect() that fails has protected before */
    bool *busy; /* pages that take() refuses */
    unsigned char *held; /* how many system calls are writing to the page: see fake_hold() */

    uint64_t calls[FAKE_OPS]; /* how often each was called */
    unsigned forks[3];
};

struct fake_config {
    size_t size, page; /* bytes */
    size_t granule;    /* 0: the page */
    bool takes, protects;
    bool take_only; /* what the engine is told: nothing but taking is safe */
};

/** Makes a platform; the address space is reserved. */
void fake_init(struct fake *fake, const struct fake_config *config);
void fake_fini(struct fake *fake);

/** What the hardware has at the page of `address`. */
enum fake_page fake_state(struct fake *fake, uintptr_t address);

/** Pages of [start, start + length) that are present. */
size_t fake_present(struct fake *fake, uintptr_t start, size_t length);

/** The content behind an address, whatever its state: for tests that look behind the scenes. */
unsigned char *fake_behind(struct fake *fake, uintptr_t address);

/** The program's accesses: they trap as the hardware would and try again. length may cross pages.
 *  Return FAULT_HEALED when it worked, else what the first failing trap said. */
enum fault_result fake_read(struct engine *engine, uintptr_t address, void *buffer, size_t length);
enum fault_result fake_write(struct engine *engine, uintptr_t address, const void *bytes, size_t length);

/** One access by the kernel, which does not trap: whether it worked (false: EFAULT). Within a page. */
bool fake_kernel_access(struct fake *fake, uintptr_t address, bool write);

/** A system call writes to the page until fake_let_go(): it is writable now, and whoever protects it or takes it away
 *  would have the kernel answer EFAULT, which ends the test. */
void fake_hold(struct fake *fake, uintptr_t address);
void fake_let_go(struct fake *fake, uintptr_t address);

/* ---- a tier ---- */

struct fake_record {
    unsigned char *bytes; /* NULL: dead */
    uint64_t page;
    uint32_t size;
    uint8_t codec;
};

/* Handles are never used twice: whoever loads or releases a dead one is found out. */
struct fake_tier {
    struct tier tier; /* first */
    pthread_mutex_t mutex;
    struct fake_record *records; /* [handle - 1] */
    size_t used, room, live;
    size_t capacity;     /* live records that fit; SIZE_MAX: any number */
    size_t segment;      /* records that pick() takes for a segment; 0: it offers nothing */
    size_t most_a_store; /* records a call stores; SIZE_MAX: all */
    uint64_t fail_store_at; /* the store of this record (counted from 1) and all later ones fail... */
    int store_error;
    int load_error;         /* ...every load fails while this is set */
    uint64_t stores, loads, picks, picks_max;
    struct fake *fake; /* whose `step` is called; may be NULL */
};

void fake_tier_init(struct fake_tier *tier, struct fake *fake);
void fake_tier_fini(struct fake_tier *tier);

#endif
