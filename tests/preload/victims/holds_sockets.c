/*
 * holds_sockets: addresses, options, descriptor pairs and whole vectors of messages in absent memory.
 */
#include "holds.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static void connections(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof any;
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    SHOW(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, GONE(one), sizeof one));
    int *value = FRESH(int);
    SHOW(getsockopt(server, SOL_SOCKET, SO_REUSEADDR, value, GONE(size)));
    SHOW(*value);
    SHOW(bind(server, GONE(any), sizeof any));
    SHOW(listen(server, 5));
    struct sockaddr_in *bound = FRESH(struct sockaddr_in), *peer = FRESH(struct sockaddr_in);
    socklen_t *length;
    SHOW(getsockname(server, (struct sockaddr *)bound, length = GONE(size)));
    SHOW(*length);
    CHECK(bound->sin_port != 0);
    SHOW(connect(client, GONE(*bound), sizeof *bound));
    int accepted = accept(server, (struct sockaddr *)peer, length = GONE(size));
    SHOW(accepted >= 0);
    SHOW(*length);
    struct sockaddr_in *own = FRESH(struct sockaddr_in);
    SHOW(getsockname(client, (struct sockaddr *)own, GONE(size)));
    SHOW(own->sin_port == peer->sin_port);
    SHOW(getpeername(client, (struct sockaddr *)FRESH(struct sockaddr_in), GONE(size)));
    SHOW(accept4(-1, NULL, NULL, 0));
    SHOW(connect(client, nowhere, sizeof any));
}

static void pairs(void)
{
    int *ends = fresh(2 * sizeof *ends);
    SHOW(pipe(ends));
    SHOW(write(ends[1], "x", 1));
    ends = fresh(2 * sizeof *ends);
    SHOW(pipe2(ends, 0));
    ends = fresh(2 * sizeof *ends);
    SHOW(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
    SHOW(write(ends[1], "x", 1));
}

enum { MESSAGES = 8, LENGTH = 5000 };

static unsigned char first_byte(int i) { return (unsigned char)(i * 7 + 1); }

/* Messages of two pieces each; everything they are made of is in absent memory. */
static struct mmsghdr *make_messages(int full)
{
    struct mmsghdr messages[MESSAGES];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < MESSAGES; i++) {
        struct iovec pieces[2] = {{fresh(LENGTH), 1000}, {fresh(LENGTH), LENGTH - 1000}};
        for (int j = 0; full && j < 2; j++) {
            memset(pieces[j].iov_base, first_byte(i) + j, pieces[j].iov_len);
            page_out(pieces[j].iov_base, pieces[j].iov_len);
        }
        messages[i].msg_hdr.msg_iov = GONE(pieces);
        messages[i].msg_hdr.msg_iovlen = 2;
    }
    return GONE(messages);
}

static void check_messages(const struct mmsghdr *messages, int count)
{
    for (int i = 0; i < count; i++)
        for (int j = 0; j < 2; j++) {
            const unsigned char *bytes = messages[i].msg_hdr.msg_iov[j].iov_base;
            CHECK(messages[i].msg_len == LENGTH);
            CHECK(bytes[0] == first_byte(i) + j && bytes[messages[i].msg_hdr.msg_iov[j].iov_len - 1] == bytes[0]);
        }
}

static void many(void)
{
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    SHOW(sendmmsg(ends[1], make_messages(1), MESSAGES, 0));
    struct timespec second = {1, 0};
    struct mmsghdr *got = make_messages(0);
    SHOW(recvmmsg(ends[0], got, MESSAGES, MSG_DONTWAIT, GONE(second)));
    check_messages(got, MESSAGES);
    SHOW(recvmmsg(ends[0], got, MESSAGES, MSG_DONTWAIT, NULL));
}

/* More parts than one call can be given at once: it may do fewer, and does all of those. */
static void more_parts_than_fit(void)
{
    enum { COUNT = 20, PARTS = 100 };
    int ends[2], size = 1 << 20, sent = 0, seen = 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    char *bytes = fresh(PARTS);
    struct iovec parts[PARTS];
    for (int i = 0; i < PARTS; i++)
        parts[i] = (struct iovec){bytes + i, 1};
    struct iovec *vector = GONE(parts);
    struct mmsghdr messages[COUNT];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < COUNT; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = vector, .msg_iovlen = PARTS};
    while (sent < COUNT) {
        int n = sendmmsg(ends[1], messages + sent, COUNT - (unsigned)sent, 0);
        CHECK(n > 0);
        sent += n;
    }
    char got[COUNT * PARTS];
    while (seen < COUNT * PARTS) {
        ssize_t n = read(ends[0], got, sizeof got);
        CHECK(n > 0);
        seen += (int)n;
    }
    SHOW(seen);
}

int main(void)
{
    fill_memory();
    connections();
    pairs();
    many();
    more_parts_than_fit();
    return 0;
}
