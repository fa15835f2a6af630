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

/* More parts than one call can be given at once: it may do fewer messages, and does all of those. */
enum { COUNT = 8, PARTS = 300 };

static struct mmsghdr *make_many_parts(int letter)
{
    static struct mmsghdr messages[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char *bytes = fresh(PARTS);
        struct iovec parts[PARTS];
        if (letter)
            memset(bytes, letter + i, PARTS);
        page_out(bytes, PARTS);
        for (int j = 0; j < PARTS; j++)
            parts[j] = (struct iovec){bytes + j, 1};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = GONE(parts), .msg_iovlen = PARTS}};
    }
    return messages;
}

static void more_parts_than_fit(void)
{
    int ends[2], n;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    struct mmsghdr *messages = make_many_parts('a');
    for (int sent = 0; sent < COUNT; sent += n)
        CHECK((n = sendmmsg(ends[1], messages + sent, COUNT - (unsigned)sent, 0)) > 0);
    messages = make_many_parts(0);
    for (int got = 0; got < COUNT; got += n)
        CHECK((n = recvmmsg(ends[0], messages + got, COUNT - (unsigned)got, MSG_DONTWAIT, NULL)) > 0);
    for (int i = 0; i < COUNT; i++) {
        const char *bytes = messages[i].msg_hdr.msg_iov->iov_base;
        CHECK(messages[i].msg_len == PARTS && bytes[0] == 'a' + i && bytes[PARTS - 1] == 'a' + i);
    }
    SHOW(COUNT);
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
