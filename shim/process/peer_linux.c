/* peer_linux.c: see peer.h. */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "../../platform/linux/syscall.h"
#include "../../platform/os.h"
#include "../base/text.h"

#define PATH_SIZE 64

static ssize_t read_of(uint32_t pid, const char *name, char *buffer, size_t size)
{
    char path[PATH_SIZE];
    struct text text = text_in(path, sizeof path);
    text_addf(&text, "/proc/%u/%s", (uint64_t) pid, name);
    return os_read_file(path, buffer, size);
}

static uint64_t number_at(const char *p)
{
    uint64_t number = 0;
    while (*p == ' ')
        p++;
    for (; *p >= '0' && *p <= '9'; p++)
        number = number * 10 + (uint64_t) (*p - '0');
    return number;
}

/* A line "Name:   1234 kB" of a text. */
static bool find_kilobytes(const char *text, const char *name, uint64_t *bytes)
{
    const char *at = strstr(text, name);
    if (at)
        *bytes = number_at(at + strlen(name)) * 1024;
    return at;
}

static bool find_sizes(const char *text, uint64_t *resident, uint64_t *proportional)
{
    return find_kilobytes(text, "\nRss:", resident) && find_kilobytes(text, "\nPss:", proportional) &&
           *proportional <= *resident;
}

/* The fields of /proc/PID/stat after the program's name, which may have anything in it (proc(5)). */
enum { STATE = 0, THREADS = 17, BIRTH = 19, RESIDENT = 21 };

static const char *field(const char *fields, int number)
{
    for (; number > 0 && fields; number--)
        fields = (fields = strchr(fields, ' ')) ? fields + 1 : NULL;
    return fields ? fields : "";
}

uint64_t peer_namespace(void)
{
    struct stat status;
    return SYS4(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/pid", &status, 0) == 0 ? status.st_ino : 0;
}

bool peer_look(uint32_t pid, struct peer *out)
{
    char text[512];
    *out = (struct peer){0};
    if (pid > INT32_MAX)
        return false;
    if (read_of(pid, "stat", text, sizeof text) <= 0) /* gone, or hidden from this user (proc(5), hidepid) */
        return SYS2(SYS_kill, pid, 0) != -ESRCH;
    const char *name_end = strrchr(text, ')'), *fields = name_end && name_end[1] ? name_end + 2 : "";
    /* A main thread that has ended is a zombie too, while others go on. */
    if (strchr("ZX", *fields) && *fields && number_at(field(fields, THREADS)) <= 1)
        return false;
    out->birth = number_at(field(fields, BIRTH));
    out->use = number_at(field(fields, RESIDENT)) * os_page_size();
    uint64_t resident, proportional;
    if (read_of(pid, "smaps_rollup", text, sizeof text) > 0 && find_sizes(text, &resident, &proportional)) {
        out->use = proportional;
        out->shared = resident - proportional;
    }
    return true;
}

/* thread-self: the main thread may have ended before the process does. */
bool peer_self(uint64_t *resident, uint64_t *proportional)
{
    static struct os_proc_file rollup = {.path = "/proc/thread-self/smaps_rollup"};
    for (int tries = 0; tries < 2; tries++) {
        char text[512];
        ssize_t length = os_proc_read(&rollup, text, sizeof text - 1, 0);
        text[length > 0 ? length : 0] = 0;
        if (find_sizes(text, resident, proportional))
            return true;
        os_proc_close(&rollup); /* the thread that had opened it is gone */
    }
    return false;
}
