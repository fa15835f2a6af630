/*
 * spill_io.h: what the spill file asks of the system, as a vtable, so that tests put faults there.
 *
 * One default implementation a system (spill_io_linux.c), chosen by the build.
 * read: any thread, async-signal-safe, at most 1 KiB of stack. all else: one thread at a time,
 * without errno, thread-local storage or malloc.
 */
#ifndef VP_TIER_SPILL_IO_H
#define VP_TIER_SPILL_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SPILL_IO_DEPTH 4 /* most writes in one batch */

struct spill_write {
    const void *bytes;
    size_t size;
    uint64_t offset;
    ssize_t result; /* bytes written, perhaps fewer than `size`, or a negative errno */
};

struct spill_io {
    /* Makes what write() needs besides the descriptor. NULL: it does without. */
    void *(*start)(void *context);

    /* Ends what start() made, NULL too. In a forked child it gives up the child's copy only. */
    void (*stop)(void *context, void *state);

    /* The descriptor in what start() made, or -1. */
    int (*descriptor)(const void *state);

    /* Carries out batch[0..n), n <= SPILL_IO_DEPTH, in any order or at once, and waits for all of it. */
    void (*write)(void *context, void *state, int fd, struct spill_write *batch, size_t n);

    /* As pread(): bytes read, perhaps fewer, 0 at the end of the file, or a negative errno. */
    ssize_t (*read)(void *context, int fd, void *buffer, size_t size, uint64_t offset);

    /* Gives [offset, offset + size) disk space and extends the file to it. 0, -EOPNOTSUPP, -ENOSPC, ... */
    int (*allocate)(void *context, int fd, uint64_t offset, uint64_t size);

    /* Takes the disk space of [offset, offset + size) away; the file stays as long. */
    int (*punch)(void *context, int fd, uint64_t offset, uint64_t size);

    /* A second open file description of the file, close-on-exec: a descriptor, or a negative errno (-EOPNOTSUPP: a file
     * system whose locks may end while their holder lives). */
    int (*reopen)(void *context, int fd);

    /* Takes lock `number` for the open file description behind `fd`, which may have it already, without waiting. It
     * ends by unlock() or with the last descriptor. 0; -EAGAIN or -EACCES: another one has it; other errnos: no locks
     * here. */
    int (*lock)(void *context, int fd, uint32_t number);
    void (*unlock)(void *context, int fd, uint32_t number);
};

extern const struct spill_io spill_io_default;

/**
 * Opens a nameless file of the user's own (mode 0600) in `directory`, for direct I/O where the file system has that.
 * Returns a descriptor, or a negative errno: -ENODEV when the directory's files live in memory (tmpfs, ramfs).
 */
int spill_io_open(const char *directory);

/** Goes on without direct I/O. Returns 0 or a negative errno. */
int spill_io_undirect(int fd);

/** The most bytes that a file opened by the caller may have: what the file system and RLIMIT_FSIZE (whose signal would
 *  hit the program) allow. */
uint64_t spill_io_size_limit(int fd);

/** As spill_io_open()'s -ENODEV, for a descriptor that the caller opened. */
bool spill_io_in_memory(int fd);

#endif
