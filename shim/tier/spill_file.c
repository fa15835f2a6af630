/* spill_file.c: see spill_file.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../platform/os.h"
#include "spill_file.h"

/* Attempts in a row without progress before a device that keeps saying "again" counts as failed. */
#define MAX_STALLS 16

/* ---- opening ---- */

/* One block there and back: direct I/O may be refused as late as here. */
static int try_block(int fd, char *block)
{
    memset(block, 0x5a, SPILL_BLOCK);
    ssize_t done = os_pwrite(fd, block, SPILL_BLOCK, 0);
    if (done != SPILL_BLOCK)
        return done < 0 ? (int)done : -ENOSPC;
    memset(block, 0, SPILL_BLOCK);
    done = os_pread(fd, block, SPILL_BLOCK, 0);
    if (done < 0)
        return (int)done;
    return done == SPILL_BLOCK && block[0] == 0x5a && block[SPILL_BLOCK - 1] == 0x5a ? 0 : -EIO;
}

static int try_file(int fd)
{
    char *block = os_map(SPILL_BLOCK);
    if (!block)
        return -ENOMEM;
    int error = try_block(fd, block);
    if (error == -EINVAL && spill_io_undirect(fd) == 0)
        error = try_block(fd, block);
    os_unmap(block, SPILL_BLOCK);
    return error;
}

int spill_file_open(struct spill_file *file, const char *directory, int fd, const struct spill_io *io, void *context)
{
    if (directory)
        fd = spill_io_open(directory);
    if (fd < 0)
        return fd;
    int error = spill_io_in_memory(fd) ? -ENODEV : try_file(fd);
    if (error) {
        os_close(fd);
        return error;
    }
    *file = (struct spill_file){.fd = os_fd_raise(fd), .io = io, .context = context, .started = true};
    file->state = io->start(context);
    return 0;
}

void spill_file_close(struct spill_file *file)
{
    file->io->stop(file->context, file->state);
    os_close(file->fd);
}

void spill_file_after_fork(struct spill_file *file, int fd)
{
    file->io->stop(file->context, file->state);
    file->state = NULL;
    file->started = false;
    if (fd < 0)
        return;
    os_close(file->fd);
    file->fd = fd;
}

/* ---- descriptions and their locks ---- */

int spill_file_reopen(const struct spill_file *file)
{
    int fd = file->io->reopen(file->context, file->fd);
    return fd < 0 ? fd : os_fd_raise(fd);
}

int spill_file_lock(const struct spill_file *file, int fd, uint32_t number)
{
    return file->io->lock(file->context, fd, number);
}

void spill_file_unlock(const struct spill_file *file, int fd, uint32_t number)
{
    file->io->unlock(file->context, fd, number);
}

/* ---- whole reads and writes ---- */

static bool is_transient(ssize_t result)
{
    return result == -EINTR || result == -EAGAIN;
}

/* Direct I/O goes on only at a block: what was moved of a broken one is moved again. */
static size_t whole_blocks(ssize_t bytes)
{
    return bytes > 0 ? (size_t)bytes & ~(size_t)(SPILL_BLOCK - 1) : 0;
}

int spill_file_read(const struct spill_file *file, void *buffer, size_t size, uint64_t offset)
{
    size_t done = 0;
    for (unsigned stalls = 0; done < size && stalls < MAX_STALLS;) {
        ssize_t got = file->io->read(file->context, file->fd, (char *)buffer + done, size - done, offset + done);
        if (got == 0 || (got < 0 && !is_transient(got)))
            return -EIO;
        stalls = whole_blocks(got) ? 0 : stalls + 1;
        done += whole_blocks(got);
    }
    return done < size ? -EIO : 0;
}

/* Takes a write that fell short to its end, or to an error. */
static void finish_write(struct spill_file *file, struct spill_write *write)
{
    size_t done = whole_blocks(write->result);
    ssize_t result = write->result;
    for (unsigned stalls = 0; done < write->size && stalls < MAX_STALLS;) {
        if (result < 0 && !is_transient(result)) {
            write->result = result;
            return;
        }
        struct spill_write rest = {
            .bytes = (const char *)write->bytes + done, .size = write->size - done, .offset = write->offset + done};
        file->io->write(file->context, file->state, file->fd, &rest, 1);
        result = rest.result;
        stalls = whole_blocks(result) ? 0 : stalls + 1;
        done += whole_blocks(result);
    }
    write->result = done == write->size ? (ssize_t)done : -EIO;
}

void spill_file_write(struct spill_file *file, struct spill_write *batch, size_t n)
{
    if (!file->started) {
        file->state = file->io->start(file->context);
        file->started = true;
    }
    file->io->write(file->context, file->state, file->fd, batch, n);
    for (size_t i = 0; i < n; i++)
        finish_write(file, &batch[i]);
}

/* ---- disk space ---- */

int spill_file_allocate(struct spill_file *file, uint64_t offset, uint64_t size)
{
    int error;
    do
        error = file->io->allocate(file->context, file->fd, offset, size);
    while (error == -EINTR);
    return error == -EOPNOTSUPP || error == -ENOSYS ? 0 : error;
}

int spill_file_punch(struct spill_file *file, uint64_t offset, uint64_t size)
{
    return file->io->punch(file->context, file->fd, offset, size);
}

/* ---- for the launcher ---- */

static const char *describe(int error)
{
    switch (error) {
    case -ENODEV:
        return "is on a file system in memory (tmpfs), which would fill the memory it is to save";
    case -ENOENT:
        return "does not exist";
    case -ENOTDIR:
        return "is not a directory";
    case -EACCES:
    case -EPERM:
        return "is not writable";
    case -EROFS:
        return "is on a read-only file system";
    case -ENOSPC:
    case -EDQUOT:
        return "has no space left";
    default:
        return NULL;
    }
}

int spill_check_directory(const char *directory, char *why, size_t size)
{
    int fd = spill_io_open(directory);
    int error = fd < 0 ? fd : try_file(fd);
    if (fd >= 0)
        os_close(fd);
    if (error && describe(error))
        snprintf(why, size, "spill directory %s %s", directory, describe(error));
    else if (error)
        snprintf(why, size, "spill directory %s cannot be used: %s", directory, strerror(-error));
    return error;
}
