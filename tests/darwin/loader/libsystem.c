/* libsystem.c: see libsystem.h. Flags and layouts are those of the x86_64 headers of macOS 11 and later. */
#include "libsystem.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "xnu.h"

/* ---- clocks, words to sleep on, threads' own slots ---- */

static uint64_t x_clock_gettime_nsec_np(int clock)
{
    struct timespec now;
    (void) clock;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

static int x___ulock_wait(uint32_t operation, uint32_t *word, uint64_t value, uint32_t us)
{
    struct timespec timeout = {us / 1000000, us % 1000000 * 1000};
    int saved = errno;
    (void) operation;
    syscall(SYS_futex, word, FUTEX_WAIT, (uint32_t) value, us ? &timeout : NULL);
    errno = saved;
    return 0;
}

static int x___ulock_wake(uint32_t operation, uint32_t *word, uint64_t unused)
{
    (void) unused;
    syscall(SYS_futex, word, FUTEX_WAKE, operation & 0x100 ? INT32_MAX : 1);
    return 0;
}

static int x_pthread_key_create(unsigned long *key, void (*end)(void *))
{
    pthread_key_t made;
    int error = pthread_key_create(&made, end);
    *key = made;
    return error;
}

static void *x_pthread_getspecific(unsigned long key) { return pthread_getspecific((pthread_key_t) key); }
static int x_pthread_setspecific(unsigned long key, void *value) { return pthread_setspecific((pthread_key_t) key, value); }

/* Darwin's begins with a number that is no state of Linux's. */
static int x_pthread_once(uint64_t *once, void (*run)(void))
{
    if (__atomic_exchange_n(once, 0, __ATOMIC_SEQ_CST) != 0)
        run();
    return 0;
}

static int x_pthread_atfork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
    return pthread_atfork(before, parent, child);
}

/* ---- files ---- */

enum { X_CREATE = 0x200, X_EXCLUSIVE = 0x800, X_TRUNCATE = 0x400, X_APPEND = 8 };

static int x_open(const char *path, int flags, int mode)
{
    int ours = flags & 3;
    ours |= (flags & X_CREATE ? O_CREAT : 0) | (flags & X_EXCLUSIVE ? O_EXCL : 0) | (flags & X_TRUNCATE ? O_TRUNC : 0) |
            (flags & X_APPEND ? O_APPEND : 0);
    return open(path, ours | O_CLOEXEC, mode);
}

struct preallocation {
    uint32_t flags;
    int mode;
    int64_t offset, length, allocated;
};

struct hole {
    uint32_t flags, reserved;
    int64_t offset, length;
};

static int x_fcntl(int fd, int command, void *argument)
{
    const struct preallocation *more = argument;
    const struct hole *hole = argument;
    switch (command) {
    case 67: return fcntl(fd, F_DUPFD_CLOEXEC, (int) (intptr_t) argument);
    case 42: return more->mode == 3 && more->offset == 0 ? 0 : (errno = EINVAL, -1); /* from the end of what there is */
    case 99: return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, hole->offset, hole->length);
    case 48: case 73: case 74: return 0; /* caching, SIGPIPE */
    default:
        fprintf(stderr, "fcntl %d\n", command);
        _exit(98);
    }
}

struct x_stat {
    int32_t device;
    uint16_t mode, links;
    uint64_t inode;
    uint32_t user, group;
    int32_t special, pad;
    int64_t times[8], size, blocks;
    char rest[32];
};

static int x_fstat(int fd, struct x_stat *out)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return -1;
    *out = (struct x_stat){.device = (int32_t) status.st_dev, .mode = (uint16_t) status.st_mode, .inode = status.st_ino,
                           .size = status.st_size, .blocks = status.st_blocks};
    return 0;
}

/* A disk with much room. */
static int x_fstatfs(int fd, char *out)
{
    (void) fd;
    memset(out, 0, 2168);
    *(uint32_t *) out = 4096;
    *(uint64_t *) (out + 8) = 1 << 30;
    *(uint64_t *) (out + 24) = 1 << 30;
    memcpy(out + 72, "apfs", 5);
    return 0;
}

static int x_statvfs(const char *path, uint32_t *out)
{
    (void) path;
    memset(out, 0, 64);
    *(uint64_t *) out = *(uint64_t *) (out + 2) = 4096;
    out[4] = out[5] = out[6] = 1 << 26;
    return 0;
}

static int x_getrlimit(int what, uint64_t limits[2])
{
    (void) what;
    limits[0] = limits[1] = INT64_MAX;
    return 0;
}

/* ---- programs ---- */

static char executed_with[16][256];

static int x_execve(const char *path, char *const arguments[], char *const environment[])
{
    (void) path, (void) arguments;
    memset(executed_with, 0, sizeof executed_with);
    for (size_t i = 0; environment[i] && i < 16; i++)
        snprintf(executed_with[i], sizeof executed_with[i], "%s", environment[i]);
    errno = ENOEXEC;
    return -1;
}

const char *libsystem_executed_with(const char *variable)
{
    size_t length = strlen(variable);
    for (size_t i = 0; i < 16; i++)
        if (strncmp(executed_with[i], variable, length) == 0 && executed_with[i][length] == '=')
            return executed_with[i] + length + 1;
    return NULL;
}

/* ---- the machine ---- */

static int x_sysctlbyname(const char *name, uint64_t *out, size_t *size)
{
    (void) size;
    if (strcmp(name, "hw.memsize") != 0)
        return -1;
    *out = UINT64_C(8) << 30;
    return 0;
}

static int x_host_statistics64(uint32_t host, int what, uint32_t *out, uint32_t *n)
{
    (void) host, (void) what;
    memset(out, 0, *n * 4);
    out[0] = 1 << 20; /* free pages */
    return 0;
}

#define FOOTPRINT_AT 144 /* task_vm_info.phys_footprint */

static int x_task_info(uint32_t task, int what, char *out, uint32_t *n)
{
    (void) task;
    if (what != 22 || *n * 4 < FOOTPRINT_AT + 8)
        return 4;
    *(uint64_t *) (out + FOOTPRINT_AT) = xnu_footprint();
    return 0;
}

static int x__NSGetExecutablePath(char *out, uint32_t *size)
{
    return snprintf(out, *size, "/made/up/program") < (int) *size ? 0 : -1;
}

/* _SC_PAGESIZE */
static long x_sysconf(int what) { return what == 29 ? 4096 : -1; }

static int x_zero(void) { return 0; }

static void x___assert_rtn(const char *function, const char *file, int line, const char *text)
{
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, function, text);
    _exit(97);
}

static void x_memset_pattern16(char *to, const char *pattern, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = pattern[i % 16];
}

static void x___bzero(void *to, size_t size) { memset(to, 0, size); }

/* ---- symbols ---- */

static uint64_t page_size = 4096, canary = 0x0123456789abcd00;

#define X(name) {"_" #name, (void *) x_##name}

static const struct {
    const char *symbol;
    void *address;
} table[] = {
    X(_NSGetExecutablePath), X(__assert_rtn), X(__bzero), X(__ulock_wait), X(__ulock_wake), X(clock_gettime_nsec_np),
    X(execve), X(fcntl),
    X(getrlimit), X(host_statistics64), X(memset_pattern16), X(open), X(pthread_atfork), X(pthread_getspecific),
    X(pthread_key_create), X(pthread_once), X(pthread_setspecific), X(statvfs), X(sysconf), X(sysctlbyname), X(task_info),
    {"_fstat$INODE64", (void *) x_fstat},
    {"_fstatfs$INODE64", (void *) x_fstatfs},
    {"___error", (void *) __errno_location},
    {"___stack_chk_guard", &canary},
    {"___stack_chk_fail", (void *) abort},
    {"_vm_page_size", &page_size},
    {"___memcpy_chk", (void *) memcpy}, /* a fourth argument, the room, is not looked at */
    {"___memmove_chk", (void *) memmove},
    {"___strcpy_chk", (void *) strcpy},
    {"___cxa_atexit", (void *) x_zero},
    {"__dyld_image_count", (void *) x_zero},
    {"_issetugid", (void *) x_zero},
    {"_mach_host_self", (void *) x_zero},
    {"_malloc_zone_register", (void *) x_zero},
    {"_pthread_mutex_lock", (void *) x_zero}, /* libsodium's start, by one thread here */
    {"_pthread_mutex_unlock", (void *) x_zero},
    {"_mach_msg_destroy", (void *) abort},
    {"_read$NOCANCEL", (void *) read},
    {"_write$NOCANCEL", (void *) write},
    {"_pread$NOCANCEL", (void *) pread},
    {"_pwrite$NOCANCEL", (void *) pwrite},
    {"_readv$NOCANCEL", (void *) readv},
    {"_writev$NOCANCEL", (void *) writev},
    {"_close$NOCANCEL", (void *) close},
};

/* The same on both systems, for what the shim gives them. */
static const char *const common[] = {
    "abort",   "aligned_alloc", "calloc", "close",   "free",      "ftruncate",      "getentropy", "getenv",
    "getpid",  "malloc",        "memchr", "memcmp",  "memcpy",    "memmove",        "memset",     "mprotect",
    "pread",   "preadv",        "pwrite", "pwritev", "raise",     "posix_memalign", "read",       "readv",
    "realloc", "sched_yield",   "snprintf", "strchr", "strcmp",   "strcspn",        "strerror",   "strlen",
    "strncmp", "strncpy",       "strnlen", "strspn", "strstr",    "unlink",         "valloc",     "write",
    "writev",  "mlock",         "munlock",
};

static void missing(const char *symbol)
{
    fprintf(stderr, "libsystem: %s is called, which nobody has made up\n", symbol);
    _exit(96);
}

/* A little function that calls missing() with the symbol's name: mov rdi, NAME; mov rax, missing; jmp rax. */
static void *missing_stub(const char *symbol)
{
    static unsigned char *room;
    static size_t used;
    if (!room)
        room = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *code = room + used;
    const char *name = strdup(symbol);
    void (*target)(const char *) = missing;
    memcpy(code, "\x48\xbf", 2);
    memcpy(code + 2, &name, 8);
    memcpy(code + 10, "\x48\xb8", 2);
    memcpy(code + 12, &target, 8);
    memcpy(code + 20, "\xff\xe0", 2);
    used += 24;
    return code;
}

void *libsystem_resolve(const char *symbol)
{
    void *found = xnu_import(symbol);
    for (size_t i = 0; !found && i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].symbol, symbol) == 0)
            found = table[i].address;
    for (size_t i = 0; !found && i < sizeof common / sizeof *common; i++)
        if (strcmp(common[i], symbol + 1) == 0)
            found = dlsym(RTLD_DEFAULT, symbol + 1);
    return found ? found : missing_stub(symbol);
}
