/*
 * os.c: the services of os.h on Linux.
 */
#include "../os.h"
#include "../posix/own_fds.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define KERNEL_SIGSET_SIZE 8

size_t os_page_size(void) { return getauxval(AT_PAGESZ); }

uint64_t os_now_ns(void)
{
    struct timespec now; /* through the vDSO: no system call and, with a valid clock, no errno */
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

uint32_t os_thread_id(void) { return (uint32_t) SYS0(SYS_gettid); }

bool os_is_privileged(void) { return getauxval(AT_SECURE); }

ssize_t os_program_path(char *out, size_t size) { return SYS4(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", out, size); }

uint32_t os_process_id(void) { return (uint32_t) SYS0(SYS_getpid); }

void os_futex_wait(const uint32_t *word, uint32_t expected, uint64_t timeout_ns, bool shared)
{
    struct timespec timeout = {(time_t) (timeout_ns / 1000000000u), (long) (timeout_ns % 1000000000u)};
    SYS4(SYS_futex, word, shared ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE, expected, timeout_ns ? &timeout : NULL);
}

void os_futex_wake(const uint32_t *word, int count, bool shared)
{
    SYS3(SYS_futex, word, shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, count);
}

void os_yield(void) { SYS0(SYS_sched_yield); }

void os_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

void os_signals_block(struct os_sigmask *saved)
{
    uint64_t all = ~UINT64_C(0);
    SYS4(SYS_rt_sigprocmask, SIG_BLOCK, &all, saved->bits, KERNEL_SIGSET_SIZE);
}

void os_signals_restore(const struct os_sigmask *saved)
{
    SYS4(SYS_rt_sigprocmask, SIG_SETMASK, saved->bits, NULL, KERNEL_SIGSET_SIZE);
}

static void *map(size_t size, int sharing)
{
    long at = SYS6(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at < 0 && at > -4096 ? NULL : (void *) at;
}

void *os_map(size_t size) { return map(size, MAP_PRIVATE); }

void *os_map_now(size_t size) { return map(size, MAP_PRIVATE | MAP_POPULATE); }

void *os_map_shared(size_t size) { return map(size, MAP_SHARED); }

void os_unmap(void *start, size_t size) { SYS2(SYS_munmap, start, size); }

int os_discard(void *start, size_t size) { return (int) SYS3(SYS_madvise, start, size, MADV_DONTNEED); }

ssize_t os_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
    return SYS4(SYS_pread64, fd, buffer, size, offset);
}

ssize_t os_pwrite(int fd, const void *buffer, size_t size, uint64_t offset)
{
    return SYS4(SYS_pwrite64, fd, buffer, size, offset);
}

ssize_t os_read(int fd, void *buffer, size_t size) { return SYS3(SYS_read, fd, buffer, size); }

ssize_t os_write(int fd, const void *buffer, size_t size) { return SYS3(SYS_write, fd, buffer, size); }

ssize_t os_write_no_sigpipe(int fd, const void *buffer, size_t size)
{
    const uint64_t sigpipe = UINT64_C(1) << (SIGPIPE - 1);
    struct timespec at_once = {0, 0};
    struct os_sigmask saved;
    uint64_t pending = 0;
    os_signals_block(&saved);
    SYS2(SYS_rt_sigpending, &pending, KERNEL_SIGSET_SIZE);
    ssize_t put = os_write(fd, buffer, size);
    if (put == -EPIPE && !(pending & sigpipe)) /* ours, then: taken before anybody sees it */
        SYS4(SYS_rt_sigtimedwait, &sigpipe, NULL, &at_once, KERNEL_SIGSET_SIZE);
    os_signals_restore(&saved);
    return put;
}

/* The thread with descriptors of its own: their numbers mean nothing to the program. */
static uint32_t apart;

static bool is_apart(void) { return os_thread_id() == __atomic_load_n(&apart, __ATOMIC_RELAXED); }

int os_close(int fd)
{
    if (!is_apart())
        own_fds_remove(fd);
    return (int) SYS1(SYS_close, fd);
}

int os_open(const char *path, int flags, int mode)
{
    int fd = (int) SYS4(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
    return fd < 0 ? fd : os_fd_raise(fd);
}

int os_fd_raise(int fd)
{
    if (is_apart() || os_fd_is_own(fd))
        return fd;
    /* Below the usual soft limit of 1024, above what programs hand out by hand; then wherever there is room. */
    static const int floors[] = {1000, 500, 200, 100};
    for (size_t i = 0; i < sizeof floors / sizeof *floors; i++) {
        long raised = SYS3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, floors[i]);
        if (raised >= 0) {
            os_close(fd);
            own_fds_add((int) raised);
            return (int) raised;
        }
    }
    SYS3(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
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

ssize_t os_proc_read(struct os_proc_file *file, void *buffer, size_t size, uint64_t offset)
{
    uint32_t process = os_process_id();
    if (file->process != process) {
        if (file->process)
            os_close(file->fd); /* the parent's, inherited */
        int fd = os_open(file->path, O_RDONLY, 0);
        file->process = fd < 0 ? 0 : process;
        if (fd < 0)
            return fd;
        file->fd = fd;
    }
    return os_pread(file->fd, buffer, size, offset);
}

void os_proc_close(struct os_proc_file *file)
{
    if (file->process)
        os_close(file->fd);
    file->process = 0;
}

int os_random(void *buffer, size_t size)
{
    for (size_t done = 0; done < size;) {
        long got = SYS3(SYS_getrandom, (char *) buffer + done, size - done, 0);
        if (got < 0 && got != -EINTR)
            return (int) got;
        done += got > 0 ? (size_t) got : 0;
    }
    return 0;
}

/*
 * A thread of our own is made by clone(), not by pthread_create(): glibc ends a process whose main thread called
 * pthread_exit() when its last *own* thread ends, so a pthread of ours would keep such a program alive for ever.
 * It gets a thread control block that only has what compiled code touches by itself (the self pointer and, at 0, the
 * stack protector's canary).
 */
#define THREAD_STACK (256u << 10)
#define THREAD_TLS   (32u << 10)

struct thread_start {
    void (*run)(void *);
    void *arg;
    bool apart;
    char name[16];
};

static int thread_main(void *arg)
{
    struct thread_start start = *(struct thread_start *) arg;
    SYS2(SYS_prctl, PR_SET_NAME, start.name);
    if (start.apart)
        __atomic_store_n(&apart, os_thread_id(), __ATOMIC_RELAXED);
    start.run(start.arg);
    return 0;
}

static int start_thread(void (*run)(void *), void *arg, const char *name, int sharing)
{
    size_t guard = os_page_size(), size = guard + THREAD_STACK + 2 * THREAD_TLS;
    char *block = os_map(size);
    if (!block)
        return -ENOMEM;
    SYS3(SYS_mprotect, block, guard, PROT_NONE);
    char *stack_top = block + guard + THREAD_STACK;
    void **control = (void **) (stack_top + THREAD_TLS);
    control[0] = control; /* x86-64: the block's own address, also at 16 */
    control[2] = control;

    struct thread_start *start = (struct thread_start *) (block + guard); /* the far end of the stack */
    start->run = run;
    start->arg = arg;
    start->apart = !(sharing & CLONE_FILES);
    strncpy(start->name, name, sizeof start->name - 1);

    struct os_sigmask saved;
    os_signals_block(&saved);
    int flags = sharing | CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS;
    int saved_errno = errno;
    int id = clone(thread_main, stack_top, flags, start, NULL, control, NULL);
    int result = id < 0 ? -errno : 0;
    errno = saved_errno;
    os_signals_restore(&saved);
    if (result < 0)
        os_unmap(block, size);
    return result;
}

int os_thread_start(void (*run)(void *), void *arg, const char *name)
{
    return start_thread(run, arg, name, CLONE_FILES);
}

int os_thread_start_apart(void (*run)(void *), void *arg, const char *name) { return start_thread(run, arg, name, 0); }
