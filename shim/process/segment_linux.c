/* segment_linux.c: see segment.h. */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../../platform/linux/syscall.h"
#include "../../platform/os.h"
#include "../base/text.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

struct place {
    int fd;
    uint64_t inode;
};

/* ---- making ---- */

static int make_owners(int fd, size_t size)
{
    int error = (int) SYS2(SYS_ftruncate, fd, size);
    if (!error)
        error = (int) SYS2(SYS_fchmod, fd, 0600);
    return error ? error : (int) SYS3(SYS_fcntl, fd, F_ADD_SEALS, SEALS);
}

/* Out of the program's way, and not closed by exec. */
static int keep(int fd)
{
    fd = os_fd_raise(fd);
    SYS3(SYS_fcntl, fd, F_SETFD, 0);
    return fd;
}

int segment_make(size_t size, char text[SEGMENT_TEXT_MAX])
{
    struct stat status;
    int fd = (int) SYS2(SYS_memfd_create, "hyperion", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    if (fd < 0)
        return fd;
    fd = keep(fd);
    int error = make_owners(fd, size);
    if (!error)
        error = (int) SYS2(SYS_fstat, fd, &status);
    if (error) {
        os_close(fd);
        return error;
    }
    struct text value = text_in(text, SEGMENT_TEXT_MAX);
    text_addf(&value, "%u %u", (uint64_t) fd, (uint64_t) status.st_ino);
    return fd;
}

/* ---- finding ---- */

static bool number_parse(const char **text, uint64_t *out)
{
    const char *start = *text;
    for (*out = 0; **text >= '0' && **text <= '9' && *out < UINT64_MAX / 10; ++*text)
        *out = *out * 10 + (uint64_t) (**text - '0');
    return *text != start;
}

static bool place_parse(const char *text, struct place *out)
{
    uint64_t fd;
    if (!text || !number_parse(&text, &fd) || fd > INT32_MAX || *text++ != ' ' || !number_parse(&text, &out->inode))
        return false;
    out->fd = (int) fd;
    return *text == 0;
}

static bool is_like(const struct stat *status, const struct place *place, size_t size)
{
    return status->st_ino == place->inode && (size_t) status->st_size == size;
}

/* Whether the descriptor is the segment. What has all of the seals is memory, and stays as large as it is. */
static bool is_segment(int fd, const struct place *place, size_t size)
{
    struct stat status;
    long seals = SYS2(SYS_fcntl, fd, F_GET_SEALS);
    return seals > 0 && (seals & SEALS) == SEALS && SYS2(SYS_fstat, fd, &status) == 0 && is_like(&status, place, size);
}

/* Looks before it opens: that may do something to what others have there. */
static int open_of(const char *process, const struct place *place, size_t size)
{
    char path[64];
    struct stat status;
    struct text text = text_in(path, sizeof path);
    text_addf(&text, "/proc/%s/fd/%u", process, (uint64_t) place->fd);
    if (SYS4(SYS_newfstatat, AT_FDCWD, path, &status, 0) != 0 || !is_like(&status, place, size))
        return -ENOENT;
    int fd = os_open(path, O_RDWR, 0);
    if (fd < 0 || is_segment(fd, place, size))
        return fd;
    os_close(fd);
    return -ENOENT;
}

struct directory_entry {
    uint64_t inode, offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

/* Looks through all processes. Not often: somebody has closed what is not theirs. */
static int open_of_any(const struct place *place, size_t size)
{
    _Alignas(struct directory_entry) char entries[2048];
    int proc = os_open("/proc", O_RDONLY | O_DIRECTORY, 0), found = -ENOENT;
    long length;
    while (proc >= 0 && found < 0 && (length = SYS3(SYS_getdents64, proc, entries, sizeof entries)) > 0)
        for (long at = 0; at < length && found < 0;) {
            const struct directory_entry *entry = (const void *) (entries + at);
            if (*entry->name >= '0' && *entry->name <= '9')
                found = open_of(entry->name, place, size);
            at += entry->length;
        }
    if (proc >= 0)
        os_close(proc);
    return found;
}

/* Puts it at its number again, if that is free. */
static int put_back(int fd, const struct place *place)
{
    int at = (int) SYS3(SYS_fcntl, fd, F_DUPFD, place->fd);
    if (at == place->fd) {
        os_close(fd);
        os_fd_adopt(at);
        return at;
    }
    if (at >= 0)
        os_close(at);
    return keep(fd);
}

int segment_find(const char *text, size_t size)
{
    struct place place;
    if (!place_parse(text, &place))
        return -ENOENT;
    if (is_segment(place.fd, &place, size)) {
        os_fd_adopt(place.fd);
        return place.fd;
    }
    int fd = open_of_any(&place, size);
    return fd < 0 ? fd : put_back(fd, &place);
}

void *segment_map(int fd, size_t size)
{
    long at = SYS6(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at < 0 && at > -4096 ? NULL : (void *) at;
}
