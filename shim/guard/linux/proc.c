#include "proc.h"

#include <fcntl.h>
#include <string.h>

#include "../../../platform/linux/syscall.h"
#include "../../../platform/os.h"

struct entry { /* as getdents64() writes it */
    uint64_t inode, offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

void directory_open(struct directory *directory, const char *path)
{
    directory->fd = os_open(path, O_RDONLY | O_DIRECTORY, 0);
    directory->filled = directory->at = 0;
}

const char *directory_next(struct directory *directory)
{
    if (directory->at >= directory->filled) {
        directory->at = 0;
        directory->filled = directory->fd < 0 ? 0 : SYS3(SYS_getdents64, directory->fd, directory->room, sizeof directory->room);
        if (directory->filled <= 0)
            return NULL;
    }
    const struct entry *entry = (const struct entry *) (directory->room + directory->at);
    directory->at += entry->length;
    return entry->name;
}

void directory_close(struct directory *directory)
{
    if (directory->fd >= 0)
        os_close(directory->fd);
    directory->fd = -1;
}

static unsigned digit_at(const char *p)
{
    if (*p >= '0' && *p <= '9')
        return (unsigned) (*p - '0');
    return *p >= 'a' && *p <= 'f' ? (unsigned) (*p - 'a') + 10 : 16;
}

uint64_t proc_number(const char **text)
{
    const char *p = *text;
    while (*p == ' ')
        p++;
    unsigned base = p[0] == '0' && p[1] == 'x' ? 16 : 10;
    uint64_t value = 0;
    for (p += base == 16 ? 2 : 0; digit_at(p) < base; p++)
        value = value * base + digit_at(p);
    *text = p;
    return value;
}

unsigned proc_count(const char *path, const char *wanted)
{
    char room[4096];
    size_t kept = 0, length = strlen(wanted);
    unsigned found = 0;
    int fd = os_open(path, O_RDONLY, 0);
    ssize_t got;
    while (fd >= 0 && (got = os_read(fd, room + kept, sizeof room - kept)) > 0) {
        size_t filled = kept + (size_t) got;
        for (const char *at = room; (at = memmem(at, filled - (size_t) (at - room), wanted, length)) != NULL; at += length)
            found++;
        kept = filled < length ? filled : length - 1; /* it may lie across two pieces */
        memmove(room, room + filled - kept, kept);
    }
    if (fd >= 0)
        os_close(fd);
    return found;
}
