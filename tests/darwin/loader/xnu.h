/*
 * xnu.h: what the image's system calls and Mach calls do: a made-up kernel, in terms of Linux's. It knows what the
 * backends need and no more: threads with exception ports, memory that can be mapped twice, faults that become
 * messages, then signals with Darwin's numbers and layouts.
 *
 * After fork() a child has one thread, no ports, no exception ports, and none of its parent's aliases. Memory that was
 * reserved is shared with the parent, not copied: nothing here tests copy-on-write.
 *
 * Where XNU would hang, this ends the test: a fault while SIGBUS is blocked or ignored, a fault of a receiver of
 * exceptions.
 */
#ifndef VP_TESTS_XNU_H
#define VP_TESTS_XNU_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XNU_SIGBUS  10
#define XNU_SIGSEGV 11
#define XNU_SIGUSR1 30

/** Begins: this thread is the first. */
void xnu_boot(void);

/** A thread that the kernel knows. */
void xnu_thread(pthread_t *thread, void *(*run)(void *), void *argument);

/** Bytes that the process has in memory. */
uint64_t xnu_footprint(void);

/** What the image's import is bound to; NULL where the made-up kernel has none. */
void *xnu_import(const char *symbol);

/* ---- for tests ---- */

/** What faults were answered with since the start. */
struct xnu_counts {
    unsigned messages;      /* sent to a thread's exception port */
    unsigned passed_on;     /* answered KERN_FAILURE */
    unsigned signals;       /* delivered to a handler */
    unsigned foreign;       /* received by xnu_foreign_port()'s thread */
    unsigned reusable;      /* MADV_FREE_REUSABLE */
    unsigned reuse;         /* MADV_FREE_REUSE */
};
struct xnu_counts xnu_counts(void);

/** The exception port of the calling thread, as the program may have set one: answered by a thread that counts and says
 *  KERN_SUCCESS after calling `mend`. `behaviour`: 1 | 0x80000000 is what the backend speaks. */
void xnu_foreign_port(uint32_t behaviour, void (*mend)(uintptr_t address));
uint32_t xnu_thread_port(void);

/** Whether a thread that receives exceptions would be asked about its own faults. */
bool xnu_receiver_has_port(void);

/** From now on threads that were just made run before who made them goes on to list them; or only long after that. */
void xnu_list_late(void);
void xnu_start_late(void);

/** The calling thread's mask, as sigprocmask() would set it (bits of Darwin's numbers). */
void xnu_mask(uint32_t mask);

/** A program's handler for a signal. NULL: the default; 1: ignored. */
void xnu_handle(int number, void (*handler)(int, void *, void *));

/** A tag in the top byte of the next fault's address, as arm64 reports it. */
void xnu_tag_next(uint8_t tag);

#endif
