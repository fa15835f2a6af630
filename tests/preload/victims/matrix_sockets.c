/* matrix_sockets.c: what sockets know besides bytes: addresses, control messages, options, several messages at once. */
#include "matrix.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { SIZE = 50000 };

static unsigned char content[2 * SIZE];

static void put(int fd, size_t size, uint64_t seed)
{
    pattern(content, size, seed);
    CHECK(send(fd, content, size, 0) == (ssize_t)size);
}

static int inet(int type, struct sockaddr_in *address)
{
    const int fd = own(socket(AF_INET, type, 0));
    socklen_t length = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(fd, (struct sockaddr *)address, length) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

/* ends[1] sends to ends[0]; the sender has an address as well. */
static void udp_pair(int ends[2], struct sockaddr_in *sender)
{
    struct sockaddr_in receiver;
    ends[0] = inet(SOCK_DGRAM, &receiver);
    ends[1] = inet(SOCK_DGRAM, sender);
    CHECK(connect(ends[1], (struct sockaddr *)&receiver, sizeof receiver) == 0);
}

static void unix_pair(int ends[2], int type)
{
    CHECK(socketpair(AF_UNIX, type, 0, ends) == 0);
    own(ends[0]);
    own(ends[1]);
}

static void note_address(const struct sockaddr_in *found, const struct sockaddr_in *right, socklen_t length)
{
    note("address of length %u is %s", length,
         found->sin_family == AF_INET && found->sin_port == right->sin_port &&
                 found->sin_addr.s_addr == right->sin_addr.s_addr
             ? "right"
             : "wrong");
}

static void recvfrom_address(void)
{
    int ends[2];
    struct sockaddr_in sender;
    udp_pair(ends, &sender);
    put(ends[1], SIZE, 1);
    put(ends[1], 100, 2);
    unsigned char *const p = room(SIZE);
    struct sockaddr_in *const address = ROOM(struct sockaddr_in);
    socklen_t *const length = GIVEN(socklen_t, sizeof *address);
    begin();
    const long result = CALL(recvfrom, ends[0], p, SIZE, 0, address, length);
    finish();
    outcome("recvfrom", result);
    note_bytes("delivered", p, SIZE);
    note_address(address, &sender, *length);
    drain(ends[0]);
}

static void sendto_address(void)
{
    struct sockaddr_in address;
    const int receiver = inet(SOCK_DGRAM, &address), sender = own(socket(AF_INET, SOCK_DGRAM, 0));
    unsigned char *const p = filled(SIZE, 3);
    const struct sockaddr_in *const to = copied(&address, sizeof address);
    begin();
    const long result = CALL(sendto, sender, p, SIZE, 0, to, sizeof *to);
    finish();
    outcome("sendto", result);
    await(receiver, result == SIZE ? SIZE : 0);
    drain(receiver);
}

/* Everything that a msghdr leads to, each in pages of its own. */
static void recvmsg_everything(void)
{
    int ends[2];
    struct sockaddr_in sender;
    const int on = 1;
    udp_pair(ends, &sender);
    CHECK(setsockopt(ends[0], IPPROTO_IP, IP_RECVTTL, &on, sizeof on) == 0);
    put(ends[1], SIZE, 1);
    put(ends[1], 100, 2);
    unsigned char *const p = room(SIZE);
    struct sockaddr_in *const address = ROOM(struct sockaddr_in);
    void *const control = room(256);
    struct iovec *const piece = GIVEN(struct iovec, p, SIZE);
    struct msghdr *const message = GIVEN(struct msghdr, address, sizeof *address, piece, 1, control, 256, 0);
    begin();
    const long result = CALL(recvmsg, ends[0], message, 0);
    finish();
    outcome("recvmsg", result);
    note_bytes("delivered", p, SIZE);
    note_address(address, &sender, message->msg_namelen);
    note("flags %x", message->msg_flags);
    note_bytes("control", control, message->msg_controllen);
    drain(ends[0]);
}

static void sendmsg_everything(void)
{
    struct sockaddr_in address;
    const int receiver = inet(SOCK_DGRAM, &address), sender = own(socket(AF_INET, SOCK_DGRAM, 0));
    struct iovec *const piece = GIVEN(struct iovec, filled(SIZE, 3), SIZE);
    struct sockaddr_in *const to = copied(&address, sizeof address);
    struct msghdr *const message = GIVEN(struct msghdr, to, sizeof *to, piece, 1, NULL, 0, 0);
    begin();
    const long result = CALL(sendmsg, sender, message, 0);
    finish();
    outcome("sendmsg", result);
    await(receiver, result == SIZE ? SIZE : 0);
    drain(receiver);
}

/* ---- descriptors as messages ---- */

union descriptor_message {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static union descriptor_message carrying(int fd)
{
    union descriptor_message control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    return control;
}

static void note_carried(const union descriptor_message *control, int original)
{
    struct stat right, found = {0};
    int fd = -1;
    memcpy(&fd, CMSG_DATA(&control->header), sizeof fd);
    CHECK(fstat(original, &right) == 0);
    const bool same = fstat(fd, &found) == 0 && found.st_ino == right.st_ino && fd != original;
    note("descriptor %s", same ? "right" : "wrong");
    if (same)
        own(fd);
}

static long send_carrier(int fd, int carried)
{
    char byte = 'x';
    union descriptor_message control = carrying(carried);
    const struct msghdr message = {.msg_iov = &(struct iovec){&byte, 1},
                                   .msg_iovlen = 1,
                                   .msg_control = &control,
                                   .msg_controllen = sizeof control};
    return sendmsg(fd, &message, 0);
}

static void recvmsg_rights(void)
{
    int ends[2];
    const int carried = scratch();
    unix_pair(ends, SOCK_STREAM);
    CHECK(send_carrier(ends[1], carried) == 1);
    union descriptor_message *const control = ROOM(union descriptor_message);
    struct iovec *const piece = GIVEN(struct iovec, room(1), 1);
    struct msghdr *const message = GIVEN(struct msghdr, NULL, 0, piece, 1, control, sizeof *control, 0);
    begin();
    const long result = CALL(recvmsg, ends[0], message, 0);
    finish();
    outcome("recvmsg", result);
    note("control of %zu, flags %x", message->msg_controllen, message->msg_flags);
    note_carried(control, carried);
    drain(ends[0]);
}

static void sendmsg_rights(void)
{
    int ends[2];
    const int carried = scratch();
    unix_pair(ends, SOCK_DGRAM);
    const union descriptor_message given = carrying(carried);
    struct iovec *const piece = GIVEN(struct iovec, filled(1, 1), 1);
    struct msghdr *const message = GIVEN(struct msghdr, NULL, 0, piece, 1, copied(&given, sizeof given), sizeof given,
                                         0);
    begin();
    const long result = CALL(sendmsg, ends[1], message, 0);
    finish();
    outcome("sendmsg", result);
    union descriptor_message control = {0};
    char byte;
    struct msghdr back = {.msg_iov = &(struct iovec){&byte, 1},
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = sizeof control};
    note("back %zd", recvmsg(ends[0], &back, MSG_DONTWAIT));
    note_carried(&control, carried);
}

/* ---- several at once ---- */

enum { MESSAGES = 3, EACH = 20000 };

static struct mmsghdr *headers(unsigned char *p)
{
    struct iovec *const pieces = place(MESSAGES * sizeof *pieces, 16);
    struct mmsghdr *const made = place(MESSAGES * sizeof *made, 16);
    for (size_t i = 0; i < MESSAGES; i++) {
        pieces[i] = (struct iovec){p + i * EACH, EACH};
        made[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &pieces[i], .msg_iovlen = 1}};
    }
    return made;
}

static void recvmmsg_three(void)
{
    int ends[2];
    unix_pair(ends, SOCK_DGRAM);
    for (unsigned i = 0; i < MESSAGES + 1; i++)
        put(ends[1], EACH - i, i);
    unsigned char *const p = room((size_t)MESSAGES * EACH);
    struct mmsghdr *const made = headers(p);
    struct timespec *const timeout = GIVEN(struct timespec, 5, 0);
    begin();
    const long result = CALL(recvmmsg, ends[0], made, MESSAGES, 0, timeout);
    finish();
    outcome("recvmmsg", result);
    for (size_t i = 0; i < MESSAGES; i++)
        note("length %u", made[i].msg_len);
    note_bytes("delivered", p, (size_t)MESSAGES * EACH);
    drain(ends[0]);
}

static void sendmmsg_three(void)
{
    int ends[2];
    unix_pair(ends, SOCK_DGRAM);
    struct mmsghdr *const made = headers(filled((size_t)MESSAGES * EACH, 4));
    begin();
    const long result = CALL(sendmmsg, ends[1], made, MESSAGES, 0);
    finish();
    outcome("sendmmsg", result);
    for (size_t i = 0; i < MESSAGES; i++)
        note("length %u", made[i].msg_len);
    drain(ends[0]);
}

/* ---- flags ---- */

static void recv_flags(int type, size_t size, int flags)
{
    int ends[2];
    unix_pair(ends, type);
    put(ends[1], SIZE, 1);
    put(ends[1], 100, 2);
    unsigned char *const p = room(size);
    begin();
    const long result = CALL(recvfrom, ends[0], p, size, flags, NULL, NULL);
    finish();
    outcome("recv", result);
    note_bytes("delivered", p, size);
    drain(ends[0]);
}

static void peek_stream(void)
{
    recv_flags(SOCK_STREAM, SIZE, MSG_PEEK);
}

static void peek_datagram(void)
{
    recv_flags(SOCK_DGRAM, SIZE, MSG_PEEK);
}

static void truncated(void)
{
    recv_flags(SOCK_DGRAM, SIZE / 2, MSG_TRUNC);
}

static void *send_the_rest(void *arg)
{
    usleep(5000);
    put(*(int *)arg, SIZE, 2);
    return NULL;
}

static void waitall(void)
{
    int ends[2];
    pthread_t thread;
    unix_pair(ends, SOCK_STREAM);
    put(ends[1], SIZE, 1);
    unsigned char *const p = room(2 * SIZE - 1000);
    CHECK(pthread_create(&thread, NULL, send_the_rest, &ends[1]) == 0);
    begin();
    const long result = CALL(recvfrom, ends[0], p, 2 * SIZE - 1000, MSG_WAITALL, NULL, NULL);
    finish();
    pthread_join(thread, NULL);
    outcome("recv", result);
    note_bytes("delivered", p, 2 * SIZE - 1000);
    drain(ends[0]);
}

/* ---- options and addresses ---- */

static void so_error(void)
{
    struct sockaddr_in closed;
    inet(SOCK_STREAM, &closed); /* bound, so nobody else's; not listening */
    const int fd = own(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    CHECK(connect(fd, (struct sockaddr *)&closed, sizeof closed) == -1);
    CHECK(poll(&(struct pollfd){fd, POLLOUT, 0}, 1, 5000) == 1);
    int *const error = ROOM(int);
    socklen_t *const length = GIVEN(socklen_t, sizeof *error);
    begin();
    const long result = CALL(getsockopt, fd, SOL_SOCKET, SO_ERROR, error, length);
    finish();
    outcome("getsockopt", result);
    note("error %d of length %u", *error, *length);
    int again = -1;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &again, &(socklen_t){sizeof again}) == 0);
    note("then %d", again);
}

static void set_option(void)
{
    const int fd = own(socket(AF_INET, SOCK_STREAM, 0));
    const struct timeval *const limit = GIVEN(struct timeval, 3, 0);
    begin();
    const long result = CALL(setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, limit, sizeof *limit);
    finish();
    outcome("setsockopt", result);
    struct timeval found = {0};
    CHECK(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &found, &(socklen_t){sizeof found}) == 0);
    note("limit %ld", (long)found.tv_sec);
}

static void socket_name(void)
{
    struct sockaddr_in right;
    const int fd = inet(SOCK_STREAM, &right);
    struct sockaddr_in *const address = ROOM(struct sockaddr_in);
    socklen_t *const length = GIVEN(socklen_t, sizeof *address);
    begin();
    const long result = CALL(getsockname, fd, address, length);
    finish();
    outcome("getsockname", result);
    note_address(address, &right, *length);
}

static void peer_name(void)
{
    struct sockaddr_in right;
    const int peer = inet(SOCK_DGRAM, &right), fd = own(socket(AF_INET, SOCK_DGRAM, 0));
    (void)peer;
    CHECK(connect(fd, (struct sockaddr *)&right, sizeof right) == 0);
    struct sockaddr_in *const address = ROOM(struct sockaddr_in);
    socklen_t *const length = GIVEN(socklen_t, sizeof *address);
    begin();
    const long result = CALL(getpeername, fd, address, length);
    finish();
    outcome("getpeername", result);
    note_address(address, &right, *length);
}

/* A connection that is taken from the queue and then refused would be lost. */
static void accept_address(void)
{
    struct sockaddr_in server, client;
    const int listener = inet(SOCK_STREAM, &server), fd = inet(SOCK_STREAM, &client);
    CHECK(listen(listener, 2) == 0 && connect(fd, (struct sockaddr *)&server, sizeof server) == 0);
    struct sockaddr_in *const address = ROOM(struct sockaddr_in);
    socklen_t *const length = GIVEN(socklen_t, sizeof *address);
    begin();
    const long result = CALL(accept4, listener, address, length, SOCK_CLOEXEC);
    finish();
    outcome("accept4", result < 0 ? result : 0);
    note_address(address, &client, *length);
    if (result >= 0) {
        put(fd, 100, 1);
        own((int)result);
        await((int)result, 100);
        drain((int)result);
    }
}

static void bind_connect(void)
{
    const struct sockaddr_un name = {AF_UNIX, "matrix-socket"};
    const int listener = own(socket(AF_UNIX, SOCK_STREAM, 0)), fd = own(socket(AF_UNIX, SOCK_STREAM, 0));
    unlink(name.sun_path);
    const struct sockaddr_un *const given = copied(&name, sizeof name);
    begin();
    outcome("bind", CALL(bind, listener, given, sizeof *given));
    note("listen %d", listen(listener, 1));
    outcome("connect", CALL(connect, fd, given, sizeof *given));
    finish();
    unlink(name.sun_path);
}

static void pair_result(void)
{
    int *const ends = room(2 * sizeof *ends);
    begin();
    const long result = CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, ends);
    finish();
    outcome("socketpair", result);
    if (result != 0)
        return;
    own(ends[0]);
    own(ends[1]);
    put(ends[1], 100, 1);
    drain(ends[0]);
}

static void interfaces(void)
{
    const int fd = own(socket(AF_INET, SOCK_DGRAM, 0));
    struct ifconf *const list = GIVEN(struct ifconf, .ifc_len = sizeof(struct ifreq),
                                      .ifc_buf = room(sizeof(struct ifreq)));
    begin();
    const long result = CALL(ioctl, fd, SIOCGIFCONF, list);
    finish();
    outcome("ioctl", result);
    note_bytes("list", list->ifc_buf, (size_t)list->ifc_len);
}

void rows_sockets(void)
{
    static const struct row rows[] = {
        {"recvfrom with address", recvfrom_address, 0},
        {"sendto with address", sendto_address, 0},
        {"recvmsg with everything", recvmsg_everything, 0},
        {"sendmsg with everything", sendmsg_everything, 0},
        {"recvmsg of a descriptor", recvmsg_rights, 0},
        {"sendmsg of a descriptor", sendmsg_rights, 0},
        {"recvmmsg", recvmmsg_three, 0},
        {"sendmmsg", sendmmsg_three, 0},
        {"recv MSG_PEEK stream", peek_stream, 0},
        {"recv MSG_PEEK datagram", peek_datagram, 0},
        {"recv MSG_TRUNC", truncated, 0},
        {"recv MSG_WAITALL", waitall, 0},
        {"getsockopt SO_ERROR", so_error, 0},
        {"setsockopt", set_option, 0},
        {"getsockname", socket_name, 0},
        {"getpeername", peer_name, 0},
        {"accept4", accept_address, 0},
        {"bind and connect", bind_connect, 0},
        {"socketpair", pair_result, 0},
        {"ioctl SIOCGIFCONF", interfaces, NET},
    };
    RUN_ROWS(rows);
}
