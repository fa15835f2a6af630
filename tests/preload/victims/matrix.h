/*
 * matrix.h: what the parts of syscall_matrix share.
 *
 * A row is one system call on one kind of object, written once. It asks for its memory with room(), filled(), GIVEN()...,
 * says begin() when all of it is prepared, makes the call, says finish(), and notes what came out: result, bytes,
 * position, what is left in the object. syscall_matrix.c runs it on ordinary memory and on memory that is absent in
 * several ways; the notes must be the same.
 */
#ifndef MATRIX_H
#define MATRIX_H

#include "../victim.h"

#include <signal.h>
#include <sys/syscall.h>

#define SLOT ((size_t)65536) /* no trap backend has larger pages: what is in other slots is in other pages */

/* ---- rows ---- */

enum {
    LIBC_ONLY = 1, /* calls made inside libc: there is no other way to issue them */
    NET = 2,       /* libc's function does not see to it: what is under it must (--subset leaves it out) */
    UNSERVED = 4,  /* faults where the kernel cannot wait for a thread to serve them (--kernel-faults leaves it out) */
};

struct row {
    const char *name;
    void (*body)(void);
    unsigned flags;
};

void run_row(const char *name, void (*body)(void), unsigned flags);
void run_rows(const struct row *rows, size_t count);
#define RUN_ROWS(table) run_rows(table, sizeof table / sizeof *table)

void rows_channels(void);
void rows_sockets(void);
void rows_queues(void);
void rows_waits(void);
void rows_paths(void);
void rows_descriptors(void);
void rows_processes(void);
void rows_libc(void);
void rows_edges(void);

/* ---- a row's memory: each object has pages of its own and lies across their border, so that it can be half absent ---- */

/** For the row to fill. */
void *place(size_t size, size_t align);
/** Recognisable content, not zero. */
void pattern(void *p, size_t size, uint64_t seed);
/** For the kernel to write into: nothing else writes to it before begin(). */
void *room(size_t size);
void *room_aligned(size_t size, size_t align);
/** For the kernel to read: pattern(). */
void *filled(size_t size, uint64_t seed);
void *copied(const void *from, size_t size);
char *text(const char *string);

#define ROOM(type)       ((type *)room(sizeof(type)))
#define GIVEN(type, ...) ((type *)copied(&(type){__VA_ARGS__}, sizeof(type)))

/** This row's memory may stay where it is, as that of a stream does, which libc uses when nobody sees it. */
void may_stay(void);
/** Between these the row's memory is as the variant has it. */
void begin(void);
void finish(void);

/* ---- what the row saw ---- */

__attribute__((format(printf, 1, 2))) void note(const char *format, ...);
void note_bytes(const char *what, const void *p, size_t size);
/** The result of a call that must succeed on ordinary memory. */
void outcome(const char *what, long result);
/** This row cannot be run here. */
void skip(const char *why);

/* ---- the call, by the way that was asked for; a failure is -errno ---- */

long call(long number, const long arguments[6]);
#define L1(a)               (long)(a)
#define L2(a, ...)          (long)(a), L1(__VA_ARGS__)
#define L3(a, ...)          (long)(a), L2(__VA_ARGS__)
#define L4(a, ...)          (long)(a), L3(__VA_ARGS__)
#define L5(a, ...)          (long)(a), L4(__VA_ARGS__)
#define L6(a, ...)          (long)(a), L5(__VA_ARGS__)
#define PICK(a, b, c, d, e, f, chosen, ...) chosen
#define LONGS(...)          PICK(__VA_ARGS__, L6, L5, L4, L3, L2, L1, 0)(__VA_ARGS__)
#define CALL(name, ...)     call(SYS_##name, (const long[6]){LONGS(__VA_ARGS__)})

enum way { BY_LIBC, BY_SYSCALL, BY_INSTRUCTION };
/** Issues any system call by `way`. */
long issue(enum way way, long number, const long arguments[6]);

/* ---- small helpers, all with memory of their own ---- */

/** Closed when the row has ended. */
int own(int fd);
void close_owned(void);
/** An empty file, already unlinked. */
int scratch(void);
/** The same with so many bytes of pattern(), at its start. */
int scratch_with(size_t size, uint64_t seed);
/** Until so many bytes can be read, where that can be asked. */
void await(int fd, size_t bytes);
/** Notes what is still there, message by message. */
void drain(int fd);
void position(const char *what, int fd);
/** SIGUSR1 (whose handler does nothing) for this thread, again and again: on a busy machine the first may come before the
 *  call that it is to interrupt. 0: no longer. */
void signal_every(long milliseconds);
/** A signal that every thread blocks, and the set of it: delivered only to who asks. */
#define WAITED_FOR (SIGRTMIN + 3)
const sigset_t *waited_for(void);
/** A child that ends at once with that status. */
int spawn_exit(int status);

#endif
