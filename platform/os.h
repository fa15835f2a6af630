/*
 * os.h: the operating-system services the shim needs besides paging itself.
 *
 * One implementation a system (linux/os.c, darwin/os.c), chosen by the build, never by #ifdef. The trap backends
 * have a contract of their own, platform.h.
 *
 * Unless said otherwise a function
 *   - is async-signal-safe and thread-safe, and may be called in the fault path,
 *   - neither reads nor writes errno: it returns a negative errno value on failure,
 *   - never allocates.
 */
#ifndef VP_PLATFORM_OS_H
#define VP_PLATFORM_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** Bytes in a system page. Constant for the life of the process. */
size_t os_page_size(void);

/** Nanoseconds of the monotonic clock. */
uint64_t os_now_ns(void);

/** Kernel thread id of the caller; never 0. */
uint32_t os_thread_id(void);

/** Whether the process has more rights than its user (setuid and the like): it takes no orders from the environment. */
bool os_is_privileged(void);

/** The path of the program that runs, not ended with NUL. Returns its length (at most `size`), or a negative errno.
 *  Not for the fault path. */
ssize_t os_program_path(char *out, size_t size);

/** Process id as the kernel knows it now (right also in a child that raw clone() made). */
uint32_t os_process_id(void);

/**
 * Sleeps while *word == expected; may wake spuriously.
 * timeout_ns: 0 waits without limit. Works between processes where `shared` is true and the word is in shared memory.
 */
void os_futex_wait(const uint32_t *word, uint32_t expected, uint64_t timeout_ns, bool shared);

/** Wakes up to `count` sleepers on `word`. */
void os_futex_wake(const uint32_t *word, int count, bool shared);

/** Gives up the processor once. */
void os_yield(void);

/** Lets the processor know that this is a spin loop. */
void os_relax(void);

/** A saved signal mask, opaque; large enough for every system's kernel mask. */
struct os_sigmask { uint64_t bits[2]; };

/** Blocks every signal in the calling thread, SIGSEGV and SIGBUS too, and saves the mask before. */
void os_signals_block(struct os_sigmask *saved);

/** Restores what os_signals_block() saved. */
void os_signals_restore(const struct os_sigmask *saved);

/* ---- memory of the shim's own (never arena memory) ---- */

/** Maps `size` bytes of zeroed private memory, not reserved beforehand (sparse tables cost only what they touch).
 *  Returns NULL when refused. */
void *os_map(size_t size);

/** As os_map(), but all of it is in memory at once: for buffers whose first use must not come as a surprise. */
void *os_map_now(size_t size);

/** As os_map(), but shared with children made by fork. */
void *os_map_shared(size_t size);

void os_unmap(void *start, size_t size);

/** Gives the memory of [start, start + size) back; it reads as zero afterwards. Both multiples of the page size. */
int os_discard(void *start, size_t size);

/* ---- files ---- */

ssize_t os_pread(int fd, void *buffer, size_t size, uint64_t offset);
ssize_t os_pwrite(int fd, const void *buffer, size_t size, uint64_t offset);
ssize_t os_read(int fd, void *buffer, size_t size);
ssize_t os_write(int fd, const void *buffer, size_t size);
int os_close(int fd);

/** As os_write(); a pipe that nobody reads is -EPIPE, and no signal. */
ssize_t os_write_no_sigpipe(int fd, const void *buffer, size_t size);

/** Opens with O_CLOEXEC added, and raises what it has opened; returns a descriptor or a negative errno. */
int os_open(const char *path, int flags, int mode);

/** Moves a descriptor of the shim's own to a high number, close-on-exec, out of the way of programs that count on low
 *  ones: at once where the kernel has given it, for until then the program can close it or put another in its place.
 *  Returns the new descriptor (the old one is closed), or the old one where it is one of ours already or there is no
 *  room. */
int os_fd_raise(int fd);

/** Makes `fd`, open at its number already, one of ours: a descriptor that came over exec. */
void os_fd_adopt(int fd);

/** Whether os_fd_raise() or os_fd_adopt() has made `fd` one of ours and os_close() has not closed it since. */
bool os_fd_is_own(int fd);

/** The lowest of our own descriptors that is at least `from`, or -1. */
int os_fd_next_own(unsigned from);

/* A file of /proc/self that is read again and again: opened once, out of the program's way. */
struct os_proc_file {
    const char *path;
    int fd;           /* valid while `process` is this process */
    uint32_t process; /* 0: not open */
};

/** Reads `size` bytes at `offset`; a forked child opens its own. Returns the bytes read or a negative errno. One thread at
 *  a time for each file. */
ssize_t os_proc_read(struct os_proc_file *file, void *buffer, size_t size, uint64_t offset);

void os_proc_close(struct os_proc_file *file);

/** Reads a small file (a /proc or /sys entry) whole into `buffer` and ends it with NUL.
 *  Returns the length, or a negative errno. */
ssize_t os_read_file(const char *path, char *buffer, size_t size);

/** Fills `buffer` with random bytes of cryptographic quality. Returns 0, or a negative errno. */
int os_random(void *buffer, size_t size);

/* ---- threads of the shim's own ---- */

/**
 * Starts a thread that the program's own thread library does not count: all signals blocked, exits with the process.
 * `run` may use neither thread-local storage nor anything of libc that does: raw os_* services and pure code only.
 * Returns 0, or a negative errno when refused. Not for the fault path.
 */
int os_thread_start(void (*run)(void *arg), void *arg, const char *name);

/** The same, with descriptors of its own: at first those of the process, to be closed by the thread. One at a time. */
int os_thread_start_apart(void (*run)(void *arg), void *arg, const char *name);

#endif
