/* matrix_edges.c: calls that wait, are interrupted, end early or fail, as they do on ordinary memory. */
#include "matrix.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

enum { SIZE = 200000 };

static void note_result(const char *what, long result)
{
    note("%s: %ld %s", what, result, result < 0 ? strerror((int)-result) : "");
}

static void make_pipe(int ends[2])
{
    CHECK(pipe(ends) == 0);
    own(ends[0]);
    own(ends[1]);
}

/* ---- waiting ---- */

struct slow_reader {
    int fd;
    size_t size;
    uint64_t sum;
};

static void *read_slowly(void *arg)
{
    struct slow_reader *const reader = arg;
    unsigned char some[50000];
    for (ssize_t n; reader->size > 0 && (n = read(reader->fd, some, sizeof some)) > 0; reader->size -= (size_t)n) {
        for (ssize_t i = 0; i < n; i++)
            reader->sum = mix64(reader->sum ^ some[i]);
        usleep(500);
    }
    return NULL;
}

/* More than the object holds: the call waits with its pages half used. */
static void write_slowly(const int ends[2], size_t size)
{
    struct slow_reader reader = {.fd = ends[0], .size = size};
    pthread_t thread;
    const unsigned char *const p = filled(size, 1);
    CHECK(pthread_create(&thread, NULL, read_slowly, &reader) == 0);
    begin();
    const long result = CALL(write, ends[1], p, size);
    finish();
    if (result != (long)size)
        CHECK(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 && shutdown(ends[1], SHUT_RDWR) <= 0);
    pthread_join(thread, NULL);
    outcome("write", result);
    note("left %zu, sum %016llx", reader.size, (unsigned long long)reader.sum);
}

static void write_stream_waiting(void)
{
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    own(ends[0]);
    own(ends[1]);
    write_slowly(ends, MIB);
}

static void *write_late(void *arg)
{
    static unsigned char content[1000];
    pattern(content, sizeof content, 1);
    usleep(10000);
    CHECK(write(*(int *)arg, content, sizeof content) == sizeof content);
    return NULL;
}

static void read_waiting(void)
{
    int ends[2];
    pthread_t thread;
    make_pipe(ends);
    unsigned char *const p = room(SIZE);
    begin();
    CHECK(pthread_create(&thread, NULL, write_late, &ends[1]) == 0);
    const long result = CALL(read, ends[0], p, SIZE);
    finish();
    pthread_join(thread, NULL);
    outcome("read", result);
    note_bytes("delivered", p, SIZE);
    drain(ends[0]);
}

/* ---- as much as goes ---- */

static void write_some(void)
{
    int ends[2];
    make_pipe(ends);
    CHECK(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    const unsigned char *const p = filled(SIZE, 1);
    begin();
    outcome("write", CALL(write, ends[1], p, SIZE));
    note_result("write again", CALL(write, ends[1], p, SIZE));
    finish();
    drain(ends[0]);
}

static void read_end(void)
{
    const int fd = scratch_with(SIZE, 1);
    unsigned char *const p = room(2 * SIZE);
    begin();
    outcome("read", CALL(read, fd, p, 2 * SIZE));
    outcome("read at the end", CALL(read, fd, p, 2 * SIZE));
    finish();
    note_bytes("delivered", p, 2 * SIZE);
    position("position", fd);
}

static void nothing_there(void)
{
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    const struct timeval limit = {0, 5000};
    CHECK(setsockopt(own(ends[0]), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    own(ends[1]);
    unsigned char *const p = room(SIZE);
    struct epoll_event *const event = ROOM(struct epoll_event);
    struct pollfd *const fds = GIVEN(struct pollfd, ends[0], POLLIN, 7);
    const struct timespec *const timeout = GIVEN(struct timespec, 0, 3000000);
    const int epoll = own(epoll_create1(0));
    begin();
    note_result("recv at once", CALL(recvfrom, ends[0], p, SIZE, MSG_DONTWAIT, NULL, NULL));
    note_result("recv with a limit", CALL(recvfrom, ends[0], p, SIZE, 0, NULL, NULL));
    finish();
    begin();
    note_result("ppoll", CALL(ppoll, fds, 1, timeout, NULL, 8));
    note_result("epoll_pwait", CALL(epoll_pwait, epoll, event, 1, 3, NULL, 8));
    finish();
    note("revents %d", fds->revents);
    note_bytes("delivered", p, SIZE);
}

/* ---- interrupted by a signal ---- */

static void read_interrupted(void)
{
    int ends[2];
    make_pipe(ends);
    unsigned char *const p = room(SIZE);
    begin();
    signal_every(100);
    note_result("read", CALL(read, ends[0], p, SIZE));
    signal_every(0);
    finish();
    CHECK(write(ends[1], "still there", 11) == 11);
    begin();
    outcome("read", CALL(read, ends[0], p, SIZE));
    finish();
    note_bytes("delivered", p, SIZE);
}

static void recv_interrupted(void)
{
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    own(ends[0]);
    own(ends[1]);
    unsigned char *const p = room(SIZE);
    begin();
    signal_every(100);
    note_result("recv", CALL(recvfrom, ends[0], p, SIZE, 0, NULL, NULL));
    signal_every(0);
    finish();
    CHECK(send(ends[1], "still there", 11, 0) == 11);
    drain(ends[0]);
}

/* Nothing can be delivered to this thread meanwhile, as libc itself does around its own children. */
static void signals_blocked(void)
{
    int ends[2];
    sigset_t all, before;
    make_pipe(ends);
    CHECK(fcntl(ends[1], F_SETPIPE_SZ, (int)MIB) > 0);
    const int file = scratch_with(SIZE, 1);
    unsigned char *const p = room(SIZE);
    const unsigned char *const q = filled(SIZE, 2);
    sigfillset(&all);
    begin();
    CHECK(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
    const long in = CALL(read, file, p, SIZE), out = CALL(write, ends[1], q, SIZE);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    finish();
    outcome("read", in);
    outcome("write", out);
    note_bytes("delivered", p, SIZE);
    drain(ends[0]);
}

static void *read_for_ever(void *arg)
{
    const long *const arguments = arg;
    CALL(read, arguments[0], arguments[1], arguments[2]);
    return NULL;
}

/* What the call held is let go with the thread: the next variants take the same memory away. */
static void read_cancelled(void)
{
    int ends[2];
    pthread_t thread;
    void *ending = NULL;
    make_pipe(ends);
    unsigned char *const p = room(SIZE);
    long arguments[] = {ends[0], (long)p, SIZE};
    begin();
    CHECK(pthread_create(&thread, NULL, read_for_ever, arguments) == 0);
    usleep(5000);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &ending) == 0);
    finish();
    note("%s", ending == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
    CHECK(write(ends[1], "still there", 11) == 11);
    drain(ends[0]);
}

/* ---- calls that fail, for a reason of their own ---- */

static void failures(void)
{
    int ends[2];
    make_pipe(ends);
    CHECK(write(ends[1], "still there", 11) == 11);
    unsigned char *const p = room(SIZE);
    const struct iovec pieces[2] = {{p, 4}, {NULL, 100}};
    const struct iovec *const vector = copied(pieces, sizeof pieces);
    const char *const name = text("matrix-no-such-file");
    begin();
    note_result("not open", CALL(read, -1, p, SIZE));
    note_result("the wrong end", CALL(read, ends[1], p, SIZE));
    note_result("not a socket", CALL(recvfrom, ends[0], p, SIZE, 0, NULL, NULL));
    note_result("no such file", CALL(openat, AT_FDCWD, name, O_RDONLY, 0));
    note_result("no address", CALL(read, ends[0], NULL, SIZE));
    finish();
    begin();
    note_result("too many pieces", CALL(readv, ends[0], vector, 5000));
    note_result("no address after a piece", CALL(readv, ends[0], vector, 2));
    finish();
    note_bytes("delivered", p, SIZE);
    drain(ends[0]);
}

void rows_edges(void)
{
    static const struct row rows[] = {
        {"write that waits", write_stream_waiting, 0},
        {"read that waits", read_waiting, 0},
        {"write of a part", write_some, 0},
        {"read to the end", read_end, 0},
        {"nothing there", nothing_there, 0},
        {"read interrupted", read_interrupted, 0},
        {"recv interrupted", recv_interrupted, 0},
        {"all signals blocked", signals_blocked, 0},
        {"read cancelled", read_cancelled, LIBC_ONLY},
        {"failures", failures, 0},
    };
    RUN_ROWS(rows);
}
