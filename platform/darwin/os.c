/*
 * os.c: the services of os.h on Darwin.
 *
 * System calls by number are no interface there, so libSystem's functions are called, whose errno is put back. Calls
 * out of this library reach the originals: dyld does not interpose the library that brings the replacements.
 */
#include "../os.h"
#include "../posix/own_fds.h"
#include "mach.h"

#include <errno.h>
#include <fcntl.h>
#include <mach-o/dyld.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* What the call gives, or its negative errno; errno as it was. */
#define QUIETLY(call)                                                          \
    __extension__({                                                            \
        int saved_ = errno;                                                    \
        __auto_type result_ = (call);                                          \
        if (result_ < 0)                                                       \
            result_ = -errno;                                                  \
        errno = saved_;                                                        \
        result_;                                                               \
    })

size_t os_page_size(void) { return vm_page_size; }

uint64_t os_now_ns(void) { return clock_gettime_nsec_np(CLOCK_UPTIME_RAW); }

/* The port's name: no two live threads of a process have the same. */
uint32_t os_thread_id(void) { return pthread_mach_thread_np(pthread_self()); }

bool os_is_privileged(void) { return issetugid(); }

ssize_t os_program_path(char *out, size_t size)
{
    uint32_t room = (uint32_t) size;
    return _NSGetExecutablePath(out, &room) == 0 ? (ssize_t) strlen(out) : -ENAMETOOLONG;
}

uint32_t os_process_id(void) { return (uint32_t) getpid(); }

static uint32_t ulock(uint32_t kind, bool shared)
{
    return kind | ULOCK_NO_ERRNO | (shared ? ULOCK_COMPARE_AND_WAIT_SHARED : ULOCK_COMPARE_AND_WAIT);
}

void os_futex_wait(const uint32_t *word, uint32_t expected, uint64_t timeout_ns, bool shared)
{
    uint64_t us = (timeout_ns + 999) / 1000; /* 0 is without limit there too */
    __ulock_wait(ulock(0, shared), (void *) (uintptr_t) word, expected, us > UINT32_MAX ? UINT32_MAX : (uint32_t) us);
}

void os_futex_wake(const uint32_t *word, int count, bool shared)
{
    __ulock_wake(ulock(count > 1 ? ULOCK_WAKE_ALL : 0, shared), (void *) (uintptr_t) word, 0);
}

void os_yield(void) { sched_yield(); }

void os_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

_Static_assert(sizeof(sigset_t) <= sizeof(struct os_sigmask), "a mask fits");

void os_signals_block(struct os_sigmask *saved)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, (sigset_t *) saved->bits);
}

void os_signals_restore(const struct os_sigmask *saved)
{
    pthread_sigmask(SIG_SETMASK, (const sigset_t *) saved->bits, NULL);
}

/* ---- memory ---- */

static void *map(void *at, size_t size, int flags)
{
    int saved = errno;
    void *start = mmap(at, size, PROT_READ | PROT_WRITE, flags | MAP_ANON | MAP_NORESERVE, -1, 0);
    errno = saved;
    return start == MAP_FAILED ? NULL : start;
}

void *os_map(size_t size) { return map(NULL, size, MAP_PRIVATE); }

void *os_map_now(size_t size)
{
    char *start = map(NULL, size, MAP_PRIVATE);
    for (size_t at = 0; start && at < size; at += os_page_size())
        ((volatile char *) start)[at] = 0;
    return start;
}

void *os_map_shared(size_t size) { return map(NULL, size, MAP_SHARED); }

void os_unmap(void *start, size_t size) { QUIETLY(munmap(start, size)); }

/* No advice there is sure to leave zeros: new memory in its place is. */
int os_discard(void *start, size_t size) { return map(start, size, MAP_PRIVATE | MAP_FIXED) ? 0 : -ENOMEM; }

/* ---- files ---- */

ssize_t os_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
    return QUIETLY(pread(fd, buffer, size, (off_t) offset));
}

ssize_t os_pwrite(int fd, const void *buffer, size_t size, uint64_t offset)
{
    return QUIETLY(pwrite(fd, buffer, size, (off_t) offset));
}

ssize_t os_read(int fd, void *buffer, size_t size) { return QUIETLY(read(fd, buffer, size)); }

ssize_t os_write(int fd, const void *buffer, size_t size) { return QUIETLY(write(fd, buffer, size)); }

/* The descriptor is asked for EPIPE alone, for the time of the call: a signal could reach any thread. */
ssize_t os_write_no_sigpipe(int fd, const void *buffer, size_t size)
{
    int before = QUIETLY(fcntl(fd, F_GETNOSIGPIPE));
    QUIETLY(fcntl(fd, F_SETNOSIGPIPE, 1));
    ssize_t put = os_write(fd, buffer, size);
    if (before == 0)
        QUIETLY(fcntl(fd, F_SETNOSIGPIPE, 0));
    return put;
}

int os_close(int fd)
{
    own_fds_remove(fd);
    return QUIETLY(close(fd));
}

int os_open(const char *path, int flags, int mode)
{
    int fd = QUIETLY(open(path, flags | O_CLOEXEC, mode));
    return fd < 0 ? fd : os_fd_raise(fd);
}

int os_fd_raise(int fd)
{
    if (os_fd_is_own(fd))
        return fd;
    /* Below the usual soft limit of 256, then wherever there is room. */
    static const int floors[] = {200, 100};
    for (size_t i = 0; i < sizeof floors / sizeof *floors; i++) {
        int raised = QUIETLY(fcntl(fd, F_DUPFD_CLOEXEC, floors[i]));
        if (raised >= 0) {
            os_close(fd);
            own_fds_add(raised);
            return raised;
        }
    }
    own_fds_add(fd);
    return fd;
}

ssize_t os_read_file(const char *path, char *buffer, size_t size)
{
    int fd = os_open(path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    size_t length = 0;
    ssize_t got = 0;
    while (length + 1 < size && (got = os_read(fd, buffer + length, size - 1 - length)) > 0)
        length += (size_t) got;
    os_close(fd);
    buffer[length] = 0;
    return got < 0 ? got : (ssize_t) length;
}

/* There is no /proc. */
ssize_t os_proc_read(struct os_proc_file *file, void *buffer, size_t size, uint64_t offset)
{
    (void) file, (void) buffer, (void) size, (void) offset;
    return -ENOENT;
}

void os_proc_close(struct os_proc_file *file) { (void) file; }

#define ENTROPY_MAX 256

int os_random(void *buffer, size_t size)
{
    for (size_t done = 0; done < size;) {
        size_t step = size - done < ENTROPY_MAX ? size - done : ENTROPY_MAX;
        int error = QUIETLY(getentropy((char *) buffer + done, step));
        if (error < 0)
            return error;
        done += step;
    }
    return 0;
}

/*
 * Threads of our own are libpthread's: nothing public makes others. A process whose main thread has called
 * pthread_exit() therefore outlives its last own thread there (README, limits).
 */
#define THREAD_STACK (256u << 10)

struct thread_start {
    void (*run)(void *);
    void *arg;
    char name[16];
};

static void *thread_main(void *arg)
{
    struct thread_start start = *(struct thread_start *) arg;
    os_unmap(arg, sizeof start);
    pthread_setname_np(start.name);
    start.run(start.arg);
    return NULL;
}

static int start_thread(struct thread_start *start)
{
    pthread_attr_t attributes;
    pthread_t thread;
    struct os_sigmask saved;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    os_signals_block(&saved);
    int error = pthread_create(&thread, &attributes, thread_main, start);
    os_signals_restore(&saved);
    pthread_attr_destroy(&attributes);
    return -error;
}

int os_thread_start(void (*run)(void *), void *arg, const char *name)
{
    struct thread_start *start = os_map(sizeof *start);
    if (!start)
        return -ENOMEM;
    *start = (struct thread_start){.run = run, .arg = arg};
    strncpy(start->name, name, sizeof start->name - 1);
    int saved = errno, result = start_thread(start);
    errno = saved;
    if (result < 0)
        os_unmap(start, sizeof *start);
    return result;
}

/* All threads of a Darwin process have the same descriptors. */
int os_thread_start_apart(void (*run)(void *), void *arg, const char *name)
{
    (void) run, (void) arg, (void) name;
    return -ENOTSUP;
}
