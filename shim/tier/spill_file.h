/*
 * spill_file.h: the file under the spill: nameless, whole reads and writes, disk space ahead of need.
 *
 * Buffers, sizes and offsets are multiples of SPILL_BLOCK, which is what direct I/O asks for.
 */
#ifndef VP_TIER_SPILL_FILE_H
#define VP_TIER_SPILL_FILE_H

#include "spill_io.h"

#define SPILL_BLOCK 4096

struct spill_file {
    int fd;
    const struct spill_io *io;
    void *context; /* io's */
    void *state;   /* what io->start() made */
    bool started;  /* not in a forked child before its first write */
};

/**
 * Opens the file in `directory` (see spill_io_open()) or, when that is NULL, takes over the descriptor `fd`; tries it
 * with one block. The descriptor is moved to a high number.
 * Returns 0, or a negative errno: -ENODEV for a file system in memory, -EIO when what was written is not read back,
 * else what the system said (-EACCES, -EROFS, -ENOSPC, ...).
 */
int spill_file_open(struct spill_file *file, const char *directory, int fd, const struct spill_io *io, void *context);

void spill_file_close(struct spill_file *file);

/** In a forked child: what belongs to writing is made anew at the first write. The descriptor becomes `fd`, from the
 *  parent's spill_file_reopen(), or, when that is negative, is shared. */
void spill_file_after_fork(struct spill_file *file, int fd);

/** A second open file description of the file, moved to a high number; or a negative errno. */
int spill_file_reopen(const struct spill_file *file);

/** Locks of the file's open file descriptions, by number; see spill_io.h. */
int spill_file_lock(const struct spill_file *file, int fd, uint32_t number);
void spill_file_unlock(const struct spill_file *file, int fd, uint32_t number);

/** Reads all of [offset, offset + size). Returns 0, or -EIO. Async-signal-safe, any thread. */
int spill_file_read(const struct spill_file *file, void *buffer, size_t size, uint64_t offset);

/** Writes batch[0..n), n <= SPILL_IO_DEPTH. Each result becomes its size when all of it was written, or else a negative
 *  errno. */
void spill_file_write(struct spill_file *file, struct spill_write *batch, size_t n);

/** Gives a range disk space. Returns 0 (also where the file system cannot), -ENOSPC or another errno. */
int spill_file_allocate(struct spill_file *file, uint64_t offset, uint64_t size);

/** Takes a range's disk space away. Returns 0 or a negative errno. */
int spill_file_punch(struct spill_file *file, uint64_t offset, uint64_t size);

/**
 * Whether the spill can live in `directory`. On failure `why` receives one sentence for the user (without the final
 * newline). Returns 0 or the negative errno of spill_file_open(). Ordinary code, for the launcher.
 */
int spill_check_directory(const char *directory, char *why, size_t size);

#endif
