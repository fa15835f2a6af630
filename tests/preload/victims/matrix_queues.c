/* matrix_queues.c: message queues of both kinds. */
#include "matrix.h"

#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <time.h>

enum { SIZE = 8192 };

static unsigned char content[SIZE];

/* Two messages can be in it; -1 where there is none to be had. */
static mqd_t posix_queue(void)
{
    char name[64];
    struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = SIZE};
    snprintf(name, sizeof name, "/vp-matrix-%d", getpid());
    const mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &attributes);
    if (queue < 0)
        skip("no message queue to be had");
    else
        CHECK(mq_unlink(name) == 0);
    return queue < 0 ? queue : own(queue);
}

static void note_rest(mqd_t queue)
{
    unsigned priority = 0;
    const ssize_t n = mq_receive(queue, (char *)content, SIZE, &priority);
    note("next %zd of priority %u", n, priority);
    if (n > 0)
        note_bytes("next", content, (size_t)n);
}

static void posix_receive(void)
{
    const mqd_t queue = posix_queue();
    if (queue < 0)
        return;
    for (unsigned i = 2; i >= 1; i--) {
        pattern(content, SIZE, i);
        CHECK(mq_send(queue, (char *)content, SIZE, i) == 0);
    }
    unsigned char *const p = room(SIZE);
    unsigned *const priority = ROOM(unsigned);
    const struct timespec *const until = GIVEN(struct timespec, time(NULL) + 5, 0);
    begin();
    const long result = CALL(mq_timedreceive, queue, p, SIZE, priority, until);
    finish();
    outcome("mq_receive", result);
    note("priority %u", *priority);
    note_bytes("delivered", p, SIZE);
    note_rest(queue);
}

static void posix_send(void)
{
    const mqd_t queue = posix_queue();
    if (queue < 0)
        return;
    const unsigned char *const p = filled(SIZE, 3);
    begin();
    const long result = CALL(mq_timedsend, queue, p, SIZE, 5, NULL);
    finish();
    outcome("mq_send", result);
    note_rest(queue);
}

struct message {
    long type;
    unsigned char bytes[SIZE];
};

static struct message message_of(uint64_t seed)
{
    struct message made = {.type = 7};
    pattern(made.bytes, SIZE, seed);
    return made;
}

static void drain_system(int queue)
{
    static struct message left;
    ssize_t n;
    while ((n = msgrcv(queue, &left, SIZE, 0, IPC_NOWAIT)) >= 0) {
        note("left %zd of type %ld", n, left.type);
        note_bytes("left", left.bytes, (size_t)n);
    }
    note("then %s", strerror(errno));
    CHECK(msgctl(queue, IPC_RMID, NULL) == 0);
}

static int system_queue(void)
{
    const int queue = msgget(IPC_PRIVATE, 0600);
    if (queue < 0)
        skip("no message queue to be had");
    return queue;
}

static void system_receive(void)
{
    const int queue = system_queue();
    if (queue < 0)
        return;
    const struct message first = message_of(1);
    CHECK(msgsnd(queue, &first, SIZE, 0) == 0 && msgsnd(queue, &first, 10, 0) == 0);
    struct message *const p = ROOM(struct message);
    begin();
    const long result = CALL(msgrcv, queue, p, SIZE, 0, 0);
    finish();
    outcome("msgrcv", result);
    note("type %ld", p->type);
    note_bytes("delivered", p->bytes, SIZE);
    drain_system(queue);
}

static void system_send(void)
{
    const int queue = system_queue();
    if (queue < 0)
        return;
    const struct message made = message_of(3), *const p = copied(&made, sizeof made);
    begin();
    const long result = CALL(msgsnd, queue, p, SIZE, 0);
    finish();
    outcome("msgsnd", result);
    drain_system(queue);
}

void rows_queues(void)
{
    static const struct row rows[] = {
        {"mq_receive", posix_receive, 0},
        {"mq_send", posix_send, 0},
        {"msgrcv", system_receive, 0},
        {"msgsnd", system_send, 0},
    };
    RUN_ROWS(rows);
}
