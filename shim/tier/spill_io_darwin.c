/*
 * spill_io_darwin.c: see spill_io.h. Writes go one by one: the pager's thread has nothing else to do meanwhile.
 *
 * A file without a name cannot be opened once more there, so a family does not take over the space of members that died
 * (reopen): it is given back when the last one ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../platform/os.h"
#include "spill_io.h"

static void *io_start(void *context)
{
    (void)context;
    return NULL;
}

static void io_stop(void *context, void *state) { (void)context, (void)state; }

static int io_descriptor(const void *state)
{
    (void)state;
    return -1;
}

static void io_write(void *context, void *state, int fd, struct spill_write *batch, size_t n)
{
    (void)context, (void)state;
    for (size_t i = 0; i < n; i++)
        batch[i].result = os_pwrite(fd, batch[i].bytes, batch[i].size, batch[i].offset);
}

static ssize_t io_read(void *context, int fd, void *buffer, size_t size, uint64_t offset)
{
    (void)context;
    return os_pread(fd, buffer, size, offset);
}

/* fcntl() with a pointer, as a negative errno. */
static int control(int fd, int command, void *argument)
{
    int saved = errno, result = fcntl(fd, command, argument) < 0 ? -errno : 0;
    errno = saved;
    return result;
}

static int extend(int fd, uint64_t size)
{
    struct stat status;
    int saved = errno, result = 0;
    if (fstat(fd, &status) < 0 || ((uint64_t)status.st_size < size && ftruncate(fd, (off_t)size) < 0))
        result = -errno;
    errno = saved;
    return result;
}

/* Space is asked for at the end of what the file has: the spill file grows there only. */
static int io_allocate(void *context, int fd, uint64_t offset, uint64_t size)
{
    (void)context;
    fstore_t store = {.fst_flags = F_ALLOCATEALL, .fst_posmode = F_PEOFPOSMODE, .fst_length = (off_t)size};
    int result = control(fd, F_PREALLOCATE, &store);
    if (result == -ENOTSUP || result == -EINVAL)
        result = 0; /* a file system that cannot: space comes with the writes */
    return result < 0 ? result : extend(fd, offset + size);
}

static int io_punch(void *context, int fd, uint64_t offset, uint64_t size)
{
    (void)context;
    fpunchhole_t hole = {.fp_offset = (off_t)offset, .fp_length = (off_t)size};
    return control(fd, F_PUNCHHOLE, &hole);
}

static int io_reopen(void *context, int fd)
{
    (void)context, (void)fd;
    return -EOPNOTSUPP;
}

static int io_lock(void *context, int fd, uint32_t number)
{
    (void)context, (void)fd, (void)number;
    return -EOPNOTSUPP;
}

static void io_unlock(void *context, int fd, uint32_t number) { (void)context, (void)fd, (void)number; }

const struct spill_io spill_io_default = {
    .start = io_start,
    .stop = io_stop,
    .descriptor = io_descriptor,
    .write = io_write,
    .read = io_read,
    .allocate = io_allocate,
    .punch = io_punch,
    .reopen = io_reopen,
    .lock = io_lock,
    .unlock = io_unlock,
};

/* ---- opening (ordinary code: a struct statfs alone has 2 KiB) ---- */

#pragma GCC diagnostic ignored "-Wframe-larger-than"

/* A name that nobody guesses, gone at once. */
static int open_and_unlink(const char *directory)
{
    char path[PATH_MAX];
    uint64_t random[2];
    int error = os_random(random, sizeof(random));
    if (error)
        return error;
    int length = snprintf(path, sizeof(path), "%s/.hyperion-%016" PRIx64 "%016" PRIx64, directory, random[0], random[1]);
    if (length < 0 || (size_t)length >= sizeof(path))
        return -ENAMETOOLONG;
    int fd = os_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd >= 0)
        unlink(path);
    return fd;
}

int spill_io_open(const char *directory)
{
    int saved = errno;
    int fd = open_and_unlink(directory);
    if (fd >= 0 && spill_io_in_memory(fd)) {
        os_close(fd);
        fd = -ENODEV;
    }
    if (fd >= 0)
        fcntl(fd, F_NOCACHE, 1); /* what stands for O_DIRECT: what is spilled should not fill memory as cache */
    errno = saved;
    return fd;
}

int spill_io_undirect(int fd)
{
    int saved = errno, result = fcntl(fd, F_NOCACHE, 0) < 0 ? -errno : 0;
    errno = saved;
    return result;
}

bool spill_io_in_memory(int fd)
{
    struct statfs fs;
    int saved = errno;
    bool in_memory = fstatfs(fd, &fs) == 0 && strcmp(fs.f_fstypename, "tmpfs") == 0;
    errno = saved;
    return in_memory;
}

uint64_t spill_io_size_limit(int fd)
{
    struct statfs fs;
    struct rlimit limit;
    uint64_t bytes = UINT64_MAX;
    int saved = errno;
    if (fstatfs(fd, &fs) == 0 && fs.f_blocks > 0)
        bytes = fs.f_blocks * (uint64_t)fs.f_bsize;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes)
        bytes = limit.rlim_cur;
    errno = saved;
    return bytes;
}
