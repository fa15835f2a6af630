/* matrix_helpers.c: what many rows need, with memory that is never absent. */
#include "matrix.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <time.h>

enum { DESCRIPTORS = 64 };

static int descriptors[DESCRIPTORS];
static size_t descriptor_count;

int own(int fd)
{
    if (fd < 0)
        die("no descriptor: %s", strerror(errno));
    CHECK(descriptor_count < DESCRIPTORS);
    return descriptors[descriptor_count++] = fd;
}

void close_owned(void)
{
    while (descriptor_count > 0)
        close(descriptors[--descriptor_count]);
}

int scratch(void)
{
    char name[] = "matrix-XXXXXX";
    const int fd = own(mkstemp(name));
    CHECK(unlink(name) == 0);
    return fd;
}

static unsigned char outside[4 * MIB] __attribute__((aligned(4096))); /* aligned for O_DIRECT */

int scratch_with(size_t size, uint64_t seed)
{
    const int fd = scratch();
    CHECK(size <= sizeof outside);
    pattern(outside, size, seed);
    CHECK(pwrite(fd, outside, size, 0) == (ssize_t)size);
    return fd;
}

void await(int fd, size_t bytes)
{
    for (int i = 0, ready = 0; i < 10000 && ioctl(fd, FIONREAD, &ready) == 0 && (size_t)ready < bytes; i++)
        usleep(200);
}

void drain(int fd)
{
    ssize_t n;
    CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
    for (int i = 0; i < 10; i++) {
        n = read(fd, outside, sizeof outside);
        if (n <= 0)
            break;
        note_bytes("left", outside, (size_t)n);
    }
    note("then %zd %s", n, n < 0 ? strerror(errno) : "");
}

void position(const char *what, int fd)
{
    note("%s %ld", what, (long)lseek(fd, 0, SEEK_CUR));
}

static timer_t timer;

static void nothing(int number)
{
    (void)number;
}

void signal_every(long milliseconds)
{
    static bool made;
    if (!made) {
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
        event._sigev_un._tid = gettid();
        CHECK(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = nothing}, NULL) == 0);
        CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
        made = true;
    }
    const struct timespec when = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    CHECK(timer_settime(timer, 0, &(struct itimerspec){when, when}, NULL) == 0);
}

const sigset_t *waited_for(void)
{
    static sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, WAITED_FOR);
    return &set;
}

/* Without an environment: the child's own start is none of this test's business. */
int spawn_exit(int status)
{
    char command[] = "exit 0";
    char *arguments[] = {"sh", "-c", command, NULL}, *none[] = {NULL};
    pid_t pid;
    command[5] = (char)('0' + status);
    CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, arguments, none) == 0);
    return pid;
}
