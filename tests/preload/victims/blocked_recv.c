/*
 * blocked_recv [SECONDS]: threads that wait inside the kernel, with memory that the kernel will write to or look at
 * when they wake, for so many seconds of heavy eviction. Then the message comes, and must be received, once and whole.
 *
 * Half of the threads wait before there is any need for paging, half after it has begun; each kind of wait is made by
 * libc's function and by the instruction. All objects lie in memory from malloc, in pages of their own.
 */
#include "matrix.h"

#include <linux/futex.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

enum { SIZE = 40000, PRESSURE_MIB = 160 };
#define APART (4 * MIB) /* what one waiter pins must not keep its neighbour's memory */

struct waiter {
    const struct kind *kind;
    bool raw;              /* by the instruction */
    unsigned char *memory; /* two slots */
    int ends[2];
    pthread_t thread;
    bool passed;
};

struct kind {
    const char *name;
    void (*wait)(struct waiter *); /* dies, or has received what wake() sent */
    void (*wake)(struct waiter *);
    bool libc_only;
};

static long call_of(const struct waiter *w, long number, const long arguments[6])
{
    return issue(w->raw ? BY_INSTRUCTION : BY_LIBC, number, arguments);
}
#define WAIT(w, name, ...) call_of(w, SYS_##name, (const long[6]){LONGS(__VA_ARGS__)})

/* matrix_calls.c tells what it sees of errno. */
void note(const char *format, ...)
{
    die("blocked_recv: %s", format);
}

static void expect(const struct waiter *w, long found, long right)
{
    if (found != right)
        die("%s%s: %ld, not %ld", w->kind->name, w->raw ? " by the instruction" : "", found, right);
}

/* ---- datagrams ---- */

static uint64_t byte_at(const struct waiter *w, size_t i)
{
    return mix64((uint64_t)w->ends[0] << 32 | i / 8) >> i % 8 * 8 & 0xff;
}

static void send_datagram(struct waiter *w)
{
    unsigned char content[SIZE];
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (unsigned char)byte_at(w, i);
    expect(w, send(w->ends[1], content, SIZE, 0), SIZE);
    expect(w, send(w->ends[1], "next", 4, 0), 4);
}

static void check_datagram(const struct waiter *w, const unsigned char *p)
{
    char next[8];
    for (size_t i = 0; i < SIZE; i++)
        if (p[i] != byte_at(w, i))
            die("%s%s: byte %zu is wrong", w->kind->name, w->raw ? " by the instruction" : "", i);
    expect(w, recv(w->ends[0], next, sizeof next, 0), 4);
}

static void wait_recv(struct waiter *w)
{
    unsigned char *const p = w->memory + SLOT - SIZE / 2;
    memset(p, 0xa5, SIZE);
    expect(w, WAIT(w, recvfrom, w->ends[0], p, SIZE, 0, NULL, NULL), SIZE);
    check_datagram(w, p);
}

/* A socket pair has no addresses: what is written is their length. */
static void wait_recvfrom(struct waiter *w)
{
    unsigned char *const p = w->memory + 128;
    socklen_t *const length = (socklen_t *)(void *)(w->memory + SLOT);
    struct sockaddr_storage *const address = (void *)(w->memory + SLOT + 4096);
    memset(p, 0xa5, SIZE);
    *length = sizeof *address;
    expect(w, WAIT(w, recvfrom, w->ends[0], p, SIZE, 0, address, length), SIZE);
    expect(w, *length, 0);
    check_datagram(w, p);
}

/* ---- events ---- */

static void wait_epoll(struct waiter *w)
{
    struct epoll_event *const events = (void *)(w->memory + SLOT - sizeof *events / 2 / 4 * 4);
    const int epoll = epoll_create1(0);
    struct epoll_event wanted = {EPOLLIN | EPOLLET | EPOLLONESHOT, {.u64 = 1234}};
    CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, w->ends[0], &wanted) == 0);
    memset(events, 0xa5, sizeof *events);
    expect(w, WAIT(w, epoll_pwait, epoll, events, 1, -1, NULL, 8), 1);
    expect(w, (long)events->data.u64, 1234);
    close(epoll);
}

static void wait_poll(struct waiter *w)
{
    struct pollfd *const fds = (void *)w->memory;
    for (int i = 0; i < 100; i++)
        fds[i] = (struct pollfd){i == 99 ? w->ends[0] : -1, POLLIN, -1};
    expect(w, WAIT(w, ppoll, fds, 100, NULL, NULL, 8), 1);
    expect(w, fds[99].revents, POLLIN);
}

static void send_byte(struct waiter *w)
{
    expect(w, send(w->ends[1], "x", 1, 0), 1);
}

/* ---- futexes ---- */

static void wait_futex(struct waiter *w)
{
    unsigned *const word = (void *)w->memory;
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == 0) {
        const long result = WAIT(w, futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        if (result != 0 && result != -EAGAIN && result != -EINTR)
            expect(w, result, 0);
    }
}

static void wake_futex(struct waiter *w)
{
    unsigned *const word = (void *)w->memory;
    __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    CHECK(WAIT(w, futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) >= 0);
}

struct condition {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    bool true_now;
};

static void wait_condition(struct waiter *w)
{
    struct condition *const c = (void *)w->memory;
    CHECK(pthread_mutex_lock(&c->mutex) == 0);
    while (!c->true_now)
        expect(w, pthread_cond_wait(&c->condition, &c->mutex), 0);
    CHECK(pthread_mutex_unlock(&c->mutex) == 0);
}

static void wake_condition(struct waiter *w)
{
    struct condition *const c = (void *)w->memory;
    CHECK(pthread_mutex_lock(&c->mutex) == 0);
    c->true_now = true;
    CHECK(pthread_cond_signal(&c->condition) == 0 && pthread_mutex_unlock(&c->mutex) == 0);
}

static void wait_semaphore(struct waiter *w)
{
    expect(w, sem_wait((void *)(w->memory + SLOT)), 0);
}

static void wake_semaphore(struct waiter *w)
{
    CHECK(sem_post((void *)(w->memory + SLOT)) == 0);
}

static const struct kind kinds[] = {
    {"recv", wait_recv, send_datagram, false},          {"recvfrom", wait_recvfrom, send_datagram, false},
    {"epoll_wait", wait_epoll, send_byte, false},       {"poll", wait_poll, send_byte, false},
    {"futex", wait_futex, wake_futex, false},           {"pthread_cond_wait", wait_condition, wake_condition, true},
    {"sem_wait", wait_semaphore, wake_semaphore, true},
};
enum { KINDS = sizeof kinds / sizeof *kinds, WAITERS = 2 * 2 * KINDS };

static struct waiter waiters[WAITERS];
static size_t waiter_count;

/* ---- the whole ---- */

static void *run(void *arg)
{
    struct waiter *const w = arg;
    w->kind->wait(w);
    __atomic_store_n(&w->passed, true, __ATOMIC_RELEASE);
    return NULL;
}

static void add(const struct kind *kind, bool raw, unsigned char *memory)
{
    struct waiter *const w = &waiters[waiter_count++];
    *w = (struct waiter){.kind = kind, .raw = raw, .memory = memory};
    memset(memory, 0, 2 * SLOT); /* a valid mutex, condition and semaphore of the value 0 too */
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, w->ends) == 0);
    CHECK(pthread_create(&w->thread, NULL, run, w) == 0);
}

/* One of each kind, and of each way where there is more than libc's. */
static unsigned char *add_all(bool subset)
{
    unsigned char *const memory = memalign(APART, 2 * KINDS * APART);
    CHECK(memory && in_arena(memory) != 0);
    for (size_t i = 0; i < 2 * KINDS; i++)
        if (i % 2 == 0 || (!kinds[i / 2].libc_only && !subset))
            add(&kinds[i / 2], i % 2, memory + i * APART);
    nanosleep(&(struct timespec){0, 100000000}, NULL); /* until they wait */
    return memory;
}

static void page_out(unsigned char *area)
{
    for (size_t i = 0; i < 2 * KINDS; i++)
        CHECK(madvise(area + i * APART, 2 * SLOT, MADV_PAGEOUT) == 0);
}

static void press(unsigned char *const *areas, size_t count, size_t seconds)
{
    const size_t size = PRESSURE_MIB * MIB;
    volatile unsigned char *const pressure = big_malloc(size);
    const time_t end = time(NULL) + (time_t)seconds;
    do {
        for (size_t at = 0; at < size; at += PAGE) {
            pressure[at]++;
            if (at % (8 * MIB) == 0)
                for (size_t i = 0; i < count; i++)
                    page_out(areas[i]);
        }
    } while (time(NULL) < end);
}

static void finish_all(void)
{
    for (size_t i = 0; i < waiter_count; i++) {
        struct waiter *const w = &waiters[i];
        if (__atomic_load_n(&w->passed, __ATOMIC_ACQUIRE))
            die("%s did not wait", w->kind->name);
        w->kind->wake(w);
    }
    for (size_t i = 0; i < waiter_count; i++) {
        struct timespec limit = {time(NULL) + 20, 0};
        if (pthread_timedjoin_np(waiters[i].thread, NULL, &limit) != 0)
            die("%s%s never came back", waiters[i].kind->name, waiters[i].raw ? " by the instruction" : "");
    }
}

int main(int argc, char **argv)
{
    const bool subset = argc > 2 && strcmp(argv[2], "--subset") == 0;
    unsigned char *areas[2];
    areas[0] = add_all(subset);
    press(areas, 1, 0); /* now paging has begun, with those threads inside the kernel */
    areas[1] = add_all(subset);
    press(areas, 2, argument(argc, argv, 1, 3));
    finish_all();
    printf("every message received\n");
    return 0;
}
