/* matrix_channels.c: every call that moves bytes, on every object that has bytes: the product of two tables. */
#include "matrix.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <termios.h>

/* ---- objects ---- */

enum {
    SEEKS = 1,   /* has positions */
    SOCKET = 2,  /* recv and send */
    VECTORS = 4, /* takes a message in pieces */
    SILENT = 8,  /* nobody can write to it */
};

struct object {
    const char *name;
    bool (*open)(int ends[2]); /* read from 0 what was written to 1 */
    void (*feed)(int fd);      /* what to read, where writing bytes is not the way */
    size_t size, more;         /* of the message that the row moves, and of the next one */
    unsigned flags;
};

static bool open_file(int ends[2], int flags)
{
    static const char name[] = "matrix-file";
    ends[1] = open(name, O_CREAT | O_TRUNC | O_WRONLY | flags, 0600);
    ends[0] = open(name, O_RDONLY | flags);
    unlink(name);
    return ends[0] >= 0 && ends[1] >= 0;
}

static bool regular(int ends[2])
{
    return open_file(ends, 0);
}

static bool direct(int ends[2])
{
    return open_file(ends, O_DIRECT);
}

static bool make_pipe(int ends[2])
{
    return pipe(ends) == 0 && fcntl(ends[0], F_SETPIPE_SZ, (int)MIB) > 0;
}

static bool unix_pair(int ends[2], int type)
{
    const int room_wanted = 1 << 20; /* the kernel caps it */
    return socketpair(AF_UNIX, type, 0, ends) == 0 &&
           setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room_wanted, sizeof room_wanted) == 0;
}

static bool unix_stream(int ends[2])
{
    return unix_pair(ends, SOCK_STREAM);
}

static bool unix_datagram(int ends[2])
{
    return unix_pair(ends, SOCK_DGRAM);
}

static bool unix_seqpacket(int ends[2])
{
    return unix_pair(ends, SOCK_SEQPACKET);
}

static bool bound(int fd, struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return fd >= 0 && bind(fd, (struct sockaddr *)address, length) == 0 &&
           getsockname(fd, (struct sockaddr *)address, &length) == 0;
}

static bool udp(int ends[2])
{
    struct sockaddr_in address;
    ends[0] = socket(AF_INET, SOCK_DGRAM, 0);
    ends[1] = socket(AF_INET, SOCK_DGRAM, 0);
    return bound(ends[0], &address) && connect(ends[1], (struct sockaddr *)&address, sizeof address) == 0;
}

static bool tcp(int ends[2])
{
    struct sockaddr_in address;
    const int listener = own(socket(AF_INET, SOCK_STREAM, 0));
    ends[1] = socket(AF_INET, SOCK_STREAM, 0);
    const int at_once = 1;
    CHECK(setsockopt(ends[1], IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once) == 0);
    return bound(listener, &address) && listen(listener, 1) == 0 &&
           connect(ends[1], (struct sockaddr *)&address, sizeof address) == 0 &&
           (ends[0] = accept(listener, NULL, NULL)) >= 0;
}

static bool pty(int ends[2])
{
    struct termios raw;
    ends[1] = posix_openpt(O_RDWR | O_NOCTTY);
    if (ends[1] < 0 || grantpt(ends[1]) != 0 || unlockpt(ends[1]) != 0)
        return false;
    ends[0] = open(ptsname(ends[1]), O_RDWR | O_NOCTTY);
    if (ends[0] < 0 || tcgetattr(ends[0], &raw) != 0)
        return false;
    cfmakeraw(&raw);
    return tcsetattr(ends[0], TCSANOW, &raw) == 0;
}

static bool event(int ends[2])
{
    ends[0] = eventfd(0, 0);
    ends[1] = dup(ends[0]);
    return ends[0] >= 0;
}

static void feed_event(int fd)
{
    CHECK(eventfd_write(fd, 7) == 0);
}

static bool timer(int ends[2])
{
    ends[0] = timerfd_create(CLOCK_MONOTONIC, 0);
    ends[1] = dup(ends[0]);
    return ends[0] >= 0;
}

static void feed_timer(int fd)
{
    CHECK(timerfd_settime(fd, 0, &(struct itimerspec){.it_value = {0, 1}}, NULL) == 0);
    CHECK(poll(&(struct pollfd){fd, POLLIN, 0}, 1, 5000) == 1);
}

static bool signals(int ends[2])
{
    ends[0] = signalfd(-1, waited_for(), 0);
    ends[1] = dup(ends[0]);
    return ends[0] >= 0;
}

/* Two: a call that fails after taking the first from the queue reads the second. */
static void feed_signals(int fd)
{
    (void)fd;
    for (int i = 1; i <= 2; i++)
        CHECK(sigqueue(getpid(), WAITED_FOR, (union sigval){.sival_int = i}) == 0);
}

static bool watch(int ends[2])
{
    ends[0] = inotify_init();
    ends[1] = dup(ends[0]);
    if (mkdir("matrix-watched", 0700) != 0)
        return false;
    return inotify_add_watch(ends[0], "matrix-watched", IN_CREATE) >= 0;
}

static void feed_watch(int fd)
{
    (void)fd;
    static const char *const names[] = {"matrix-watched/a", "matrix-watched/b"};
    for (int i = 0; i < 2; i++)
        CHECK(close(open(names[i], O_CREAT | O_WRONLY, 0600)) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(unlink(names[i]) == 0);
    CHECK(rmdir("matrix-watched") == 0);
}

/* Sizes that the object takes as one message, or without anybody reading meanwhile. */
static const struct object object_table[] = {
    {"file", regular, NULL, 300000, 1000, SEEKS | VECTORS},
    {"O_DIRECT file", direct, NULL, 262144, 4096, SEEKS | VECTORS},
    {"pipe", make_pipe, NULL, 200000, 1000, VECTORS},
    {"unix stream", unix_stream, NULL, 150000, 1000, SOCKET | VECTORS},
    {"unix datagram", unix_datagram, NULL, 100000, 1000, SOCKET | VECTORS},
    {"unix seqpacket", unix_seqpacket, NULL, 100000, 1000, SOCKET | VECTORS},
    {"udp", udp, NULL, 60000, 1000, SOCKET | VECTORS},
    {"tcp", tcp, NULL, 60000, 1000, SOCKET | VECTORS},
    {"pty", pty, NULL, 3000, 500, VECTORS},
    {"eventfd", event, feed_event, 8, 0, 0},
    {"timerfd", timer, feed_timer, 8, 0, SILENT},
    {"signalfd", signals, feed_signals, sizeof(struct signalfd_siginfo), 0, SILENT},
    {"inotify", watch, feed_watch, sizeof(struct inotify_event) + 16, 0, SILENT},
};

/* ---- calls ---- */

/* Two pieces, in an array that is absent too; a whole number of blocks for O_DIRECT. */
static struct iovec *halves(unsigned char *p, size_t size)
{
    const size_t cut = size >= 16384 ? size / 2 & ~(size_t)4095 : size / 2;
    const struct iovec pieces[2] = {{p, cut}, {p + cut, size - cut}};
    return copied(pieces, sizeof pieces);
}

static struct msghdr *message(unsigned char *p, size_t size)
{
    return GIVEN(struct msghdr, .msg_iov = halves(p, size), .msg_iovlen = 2);
}

#define PLAIN(function, ...)                                                                                           \
    static long function(int fd, unsigned char *p, size_t size)                                                        \
    {                                                                                                                  \
        begin();                                                                                                       \
        return CALL(__VA_ARGS__);                                                                                      \
    }
#define BY_ARRAY(function, type, made, ...)                                                                            \
    static long function(int fd, unsigned char *p, size_t size)                                                        \
    {                                                                                                                  \
        type *const array = made(p, size);                                                                             \
        begin();                                                                                                       \
        return CALL(__VA_ARGS__);                                                                                      \
    }

PLAIN(do_read, read, fd, p, size)
PLAIN(do_write, write, fd, p, size)
PLAIN(do_pread, pread64, fd, p, size, 4096)
PLAIN(do_pwrite, pwrite64, fd, p, size, 4096)
PLAIN(do_recv, recvfrom, fd, p, size, 0, NULL, NULL)
PLAIN(do_send, sendto, fd, p, size, 0, NULL, 0)
BY_ARRAY(do_readv, struct iovec, halves, readv, fd, array, 2)
BY_ARRAY(do_writev, struct iovec, halves, writev, fd, array, 2)
BY_ARRAY(do_preadv, struct iovec, halves, preadv, fd, array, 2, 4096, 0)
BY_ARRAY(do_pwritev, struct iovec, halves, pwritev, fd, array, 2, 4096, 0)
BY_ARRAY(do_preadv2, struct iovec, halves, preadv2, fd, array, 2, -1, -1, 0)
BY_ARRAY(do_pwritev2, struct iovec, halves, pwritev2, fd, array, 2, -1, -1, 0)
BY_ARRAY(do_recvmsg, struct msghdr, message, recvmsg, fd, array, 0)
BY_ARRAY(do_sendmsg, struct msghdr, message, sendmsg, fd, array, 0)

static const struct transfer {
    const char *name;
    bool input;
    unsigned needs; /* of the object */
    long (*run)(int fd, unsigned char *p, size_t size);
} transfer_table[] = {
    {"read", true, 0, do_read},
    {"readv", true, VECTORS, do_readv},
    {"pread", true, SEEKS, do_pread},
    {"preadv", true, SEEKS, do_preadv},
    {"preadv2", true, SEEKS, do_preadv2},
    {"recv", true, SOCKET, do_recv},
    {"recvmsg", true, SOCKET, do_recvmsg},
    {"write", false, 0, do_write},
    {"writev", false, VECTORS, do_writev},
    {"pwrite", false, SEEKS, do_pwrite},
    {"pwritev", false, SEEKS, do_pwritev},
    {"pwritev2", false, SEEKS, do_pwritev2},
    {"send", false, SOCKET, do_send},
    {"sendmsg", false, SOCKET, do_sendmsg},
};

/* ---- the product ---- */

static const struct object *object;
static const struct transfer *transfer;

static void feed(int fd)
{
    static unsigned char content[512 * 1024] __attribute__((aligned(4096)));
    if (object->feed) {
        object->feed(fd);
        return;
    }
    pattern(content, object->size, 1);
    CHECK(write(fd, content, object->size) == (ssize_t)object->size);
    pattern(content, object->more, 2);
    CHECK(write(fd, content, object->more) == (ssize_t)object->more);
}

static void input(const int ends[2])
{
    const bool messages = strstr(object->name, "datagram") || strstr(object->name, "udp");
    unsigned char *const p = room_aligned(object->size, 4096);
    feed(ends[1]);
    await(ends[0], object->size + (messages ? 0 : object->more));
    const long result = transfer->run(ends[0], p, object->size);
    finish();
    outcome(transfer->name, result);
    note_bytes("delivered", p, object->size);
}

static void output(const int ends[2])
{
    unsigned char *const p = place(object->size, 4096);
    pattern(p, object->size, 3);
    const long result = transfer->run(ends[1], p, object->size);
    finish();
    outcome(transfer->name, result);
    note_bytes("given", p, object->size);
    if (result > 0)
        await(ends[0], (size_t)result);
}

static void product(void)
{
    int ends[2] = {-1, -1};
    if (!object->open(ends)) {
        skip("no such object here");
        return;
    }
    own(ends[0]);
    own(ends[1]);
    if (transfer->input)
        input(ends);
    else
        output(ends);
    if (object->flags & SEEKS) {
        position("position of the reader", ends[0]);
        position("position of the writer", ends[1]);
    }
    drain(ends[0]);
}

void rows_channels(void)
{
    for (object = object_table; object < object_table + sizeof object_table / sizeof *object_table; object++)
        for (size_t i = 0; i < sizeof transfer_table / sizeof *transfer_table; i++) {
            char name[64];
            transfer = &transfer_table[i];
            if ((transfer->needs & object->flags) != transfer->needs || (!transfer->input && object->flags & SILENT))
                continue;
            snprintf(name, sizeof name, "%s: %s", object->name, transfer->name);
            run_row(name, product, 0);
        }
}
