/*
 * holds_waits: sets, times, statuses and events in absent memory, for the calls that wait.
 */
#include "holds.h"

#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

static const struct timespec none = {0, 0}, moment = {0, 1000000};

static void descriptors(int fd)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN}, *polled;
    SHOW(poll(polled = GONE(wanted), 1, 1000));
    SHOW(polled->revents);
    SHOW(ppoll(polled = GONE(wanted), 1, GONE(moment), FRESH(sigset_t)));
    SHOW(polled->revents);
    fd_set set, *selected;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    struct timeval second = {1, 0};
    SHOW(select(fd + 1, selected = GONE(set), FRESH(fd_set), FRESH(fd_set), GONE(second)));
    SHOW(FD_ISSET(fd, selected) != 0);
    SHOW(pselect(fd + 1, selected = GONE(set), NULL, NULL, GONE(moment), FRESH(sigset_t)));
    SHOW(FD_ISSET(fd, selected) != 0);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77}, *events = fresh(10 * sizeof event);
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, GONE(event)));
    SHOW(epoll_wait(epoll, events, 10, 1000));
    SHOW((long)events->data.u64);
    SHOW(epoll_pwait(epoll, events = fresh(10 * sizeof event), 10, 1000, FRESH(sigset_t)));
    SHOW((long)events->data.u64);
    SHOW(epoll_wait(epoll, nowhere, 10, 0));
    SHOW(poll(nowhere, 1, 0));
}

static void times(void)
{
    SHOW(nanosleep(FRESH(struct timespec), NULL));
    SHOW(nanosleep(GONE(moment), FRESH(struct timespec)));
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, 0, GONE(moment), NULL));
    SHOW(nanosleep(nowhere, NULL));
}

static pid_t child(int status)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(status);
    CHECK(pid > 0);
    return pid;
}

static void children(void)
{
    int *status;
    pid_t pid = child(11);
    SHOW(waitpid(pid, status = FRESH(int), 0) == pid);
    SHOW(WEXITSTATUS(*status));
    pid = child(12);
    SHOW(wait(status = FRESH(int)) == pid);
    SHOW(WEXITSTATUS(*status));
    pid = child(13);
    SHOW(wait4(pid, status = FRESH(int), 0, FRESH(struct rusage)) == pid);
    SHOW(WEXITSTATUS(*status));
    pid = child(14);
    siginfo_t *info = FRESH(siginfo_t);
    SHOW(waitid(P_PID, (id_t)pid, info, WEXITED));
    SHOW(info->si_status);
    SHOW(wait(FRESH(int)));
}

static void signals(void)
{
    sigset_t set;
    int *number = FRESH(int);
    siginfo_t *info = FRESH(siginfo_t);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(raise(SIGUSR1) == 0);
    sigset_t *pending = FRESH(sigset_t);
    SHOW(sigpending(pending));
    SHOW(sigismember(pending, SIGUSR1));
    SHOW(sigwait(GONE(set), number));
    SHOW(*number);
    CHECK(raise(SIGUSR1) == 0);
    SHOW(sigwaitinfo(GONE(set), info));
    SHOW(info->si_signo);
    SHOW(sigtimedwait(GONE(set), FRESH(siginfo_t), GONE(none)));
}

/* A handler that runs while all other signals are blocked uses absent memory. */
static long *touched;

static void touch(int number)
{
    *touched += number;
}

static void masks(int fd)
{
    sigset_t others, *all;
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    long start = 100;
    CHECK(signal(SIGUSR1, touch) != SIG_ERR);
    sigfillset(&others);
    sigdelset(&others, SIGUSR1);
    for (int i = 0; i < 4; i++) {
        touched = GONE(start);
        all = GONE(others);
        CHECK(raise(SIGUSR1) == 0); /* which is blocked now, and comes in the call */
        if (i == 0)
            SHOW(ppoll(GONE(wanted), 0, NULL, all));
        else if (i == 1)
            SHOW(pselect(0, NULL, NULL, NULL, NULL, all));
        else if (i == 2)
            SHOW(sigsuspend(all));
        else
            SHOW(epoll_pwait(epoll_create1(0), FRESH(struct epoll_event), 1, -1, all));
        SHOW(*touched);
    }
    SHOW(sigsuspend(nowhere));
}

static void messages(void)
{
    struct {
        long type;
        char bytes[100];
    } message = {5, "through a queue"}, *got = fresh(sizeof message);
    int queue = msgget(IPC_PRIVATE, 0600);
    if (queue >= 0) {
        CHECK(msgsnd(queue, GONE(message), sizeof message.bytes, 0) == 0);
        CHECK(msgrcv(queue, got, sizeof got->bytes, 0, 0) == sizeof got->bytes);
        CHECK(got->type == 5 && strcmp(got->bytes, message.bytes) == 0);
        msgctl(queue, IPC_RMID, NULL);
    }
    mqd_t named = mq_open("/holds_waits", O_RDWR | O_CREAT, 0600, NULL);
    if (named != (mqd_t)-1) {
        struct mq_attr attributes;
        CHECK(mq_unlink("/holds_waits") == 0 && mq_getattr(named, &attributes) == 0);
        size_t room = (size_t)attributes.mq_msgsize;
        unsigned *priority = FRESH(unsigned);
        char *bytes = fresh(room);
        CHECK(mq_send(named, text("message"), 8, 3) == 0);
        CHECK(mq_receive(named, bytes, room, priority) == 8);
        CHECK(*priority == 3 && strcmp(bytes, "message") == 0);
        CHECK(mq_timedsend(named, text("another"), 8, 4, GONE(moment)) == 0);
        CHECK(mq_timedreceive(named, bytes = fresh(room), room, priority = FRESH(unsigned), GONE(moment)) == 8);
        CHECK(*priority == 4 && strcmp(bytes, "another") == 0);
        mq_close(named);
    }
    char source[100] = "across processes", *target = fresh(sizeof source);
    struct iovec here = {target, sizeof source}, there = {source, sizeof source};
    CHECK(process_vm_readv(getpid(), GONE(here), 1, GONE(there), 1, 0) == sizeof source);
    CHECK(strcmp(source, target) == 0);
}

/* A thread that is cancelled in a call lets go of what the call held: the page can leave and come back. */
static void *sleeper(void *held)
{
    struct timespec *hour = held;
    nanosleep(hour, hour + 1);
    return NULL;
}

static void cancellation(void)
{
    pthread_t *thread = FRESH(pthread_t);
    struct timespec times[2] = {{3600, 0}, {0, 0}}, *hour = GONE(times);
    SHOW(pthread_create(thread, NULL, sleeper, hour));
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    SHOW(pthread_cancel(*thread));
    void *result;
    SHOW(pthread_join(*thread, &result));
    SHOW(result == PTHREAD_CANCELED);
    page_out(hour, sizeof times);
    SHOW(hour->tv_sec);
    SHOW(leaves(hour));
}

/* Its holder ends: the kernel marks it, wherever it is. */
static void *abandon(void *mutex)
{
    pthread_mutex_lock(mutex);
    page_out(mutex, PAGE);
    return NULL;
}

static void robust(void)
{
    pthread_mutexattr_t attributes;
    pthread_t thread;
    pthread_mutex_t *mutex = FRESH(pthread_mutex_t);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    SHOW(pthread_mutex_init(mutex, &attributes));
    CHECK(pthread_create(&thread, NULL, abandon, mutex) == 0);
    pthread_join(thread, NULL);
    SHOW(pthread_mutex_lock(mutex) == EOWNERDEAD);
    SHOW(pthread_mutex_consistent(mutex));
    SHOW(pthread_mutex_unlock(mutex));
    SHOW(pthread_mutex_destroy(mutex));
    SHOW(leaves(mutex));
}

int main(void)
{
    fill_memory();
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
    descriptors(ends[0]);
    times();
    children();
    signals();
    masks(ends[0]);
    messages();
    cancellation();
    robust();
    return 0;
}
