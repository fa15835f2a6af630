/* matrix_waits.c: calls that wait, and say what for or for how long in memory. */
#include "matrix.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>

/* [0] can be read, [2] cannot. */
static void two_pipes(int ends[4])
{
    CHECK(pipe(ends) == 0 && pipe(ends + 2) == 0);
    for (int i = 0; i < 4; i++)
        own(ends[i]);
    CHECK(write(ends[1], "x", 1) == 1);
}

enum { MANY = 300 };

static struct pollfd *poll_array(const int ends[4])
{
    struct pollfd *const fds = place(MANY * sizeof *fds, 16);
    for (int i = 0; i < MANY; i++)
        fds[i] = (struct pollfd){ends[i % 2 * 2], POLLIN, -1};
    return fds;
}

static void note_polled(const struct pollfd *fds)
{
    int ready = 0;
    for (int i = 0; i < MANY; i++)
        ready += fds[i].revents == POLLIN;
    note("%d ready; first %d, last %d", ready, fds[0].revents, fds[MANY - 1].revents);
}

static void ppoll_row(void)
{
    int ends[4];
    two_pipes(ends);
    struct pollfd *const fds = poll_array(ends);
    struct timespec *const timeout = GIVEN(struct timespec, 5, 0);
    const sigset_t *const mask = GIVEN(sigset_t, 0);
    begin();
    const long result = CALL(ppoll, fds, MANY, timeout, mask, 8);
    finish();
    outcome("ppoll", result);
    note_polled(fds);
}

#ifdef SYS_poll
static void poll_row(void)
{
    int ends[4];
    two_pipes(ends);
    struct pollfd *const fds = poll_array(ends);
    begin();
    const long result = CALL(poll, fds, MANY, 5000);
    finish();
    outcome("poll", result);
    note_polled(fds);
}

static void select_row(void)
{
    int ends[4];
    two_pipes(ends);
    fd_set *const set = GIVEN(fd_set, 0);
    FD_SET(ends[0], set);
    FD_SET(ends[2], set);
    struct timeval *const timeout = GIVEN(struct timeval, 5, 0);
    begin();
    const long result = CALL(select, ends[3] + 1, set, NULL, NULL, timeout);
    finish();
    outcome("select", result);
    note("set: %d %d", FD_ISSET(ends[0], set) != 0, FD_ISSET(ends[2], set) != 0);
}

static void epoll_row(void)
{
    int ends[4];
    const int epoll = own(epoll_create1(0));
    two_pipes(ends);
    /* Reported once: an event that does not arrive never comes back. */
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0],
                    &(struct epoll_event){EPOLLIN | EPOLLET | EPOLLONESHOT, {.u64 = 77}}) == 0);
    struct epoll_event *const events = room(64 * sizeof *events);
    begin();
    const long result = CALL(epoll_wait, epoll, events, 64, 5000);
    finish();
    outcome("epoll_wait", result);
    note_bytes("events", events, sizeof *events);
    note("then %d", epoll_wait(epoll, &(struct epoll_event){0}, 1, 0));
}
#endif

static void pselect_row(void)
{
    int ends[4];
    two_pipes(ends);
    fd_set *const set = GIVEN(fd_set, 0);
    FD_SET(ends[0], set);
    FD_SET(ends[2], set);
    struct timespec *const timeout = GIVEN(struct timespec, 5, 0);
    const struct {
        const sigset_t *mask;
        size_t size;
    } pair = {GIVEN(sigset_t, {0}), 8}, *const mask = copied(&pair, sizeof pair);
    begin();
    const long result = CALL(pselect6, ends[3] + 1, set, NULL, NULL, timeout, mask);
    finish();
    outcome("pselect", result);
    note("set: %d %d", FD_ISSET(ends[0], set) != 0, FD_ISSET(ends[2], set) != 0);
}

static void epoll_pwait_row(void)
{
    int ends[4];
    const int epoll = own(epoll_create1(0));
    two_pipes(ends);
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &(struct epoll_event){EPOLLIN, {.u64 = 78}}) == 0);
    struct epoll_event *const events = room(64 * sizeof *events);
    const sigset_t *const mask = GIVEN(sigset_t, 0);
    begin();
    const long result = CALL(epoll_pwait, epoll, events, 64, 5000, mask, 8);
    finish();
    outcome("epoll_pwait", result);
    note_bytes("events", events, sizeof *events);
}

static void epoll_ctl_row(void)
{
    int ends[4];
    const int epoll = own(epoll_create1(0));
    two_pipes(ends);
    struct epoll_event *const event = GIVEN(struct epoll_event, EPOLLIN, {.u64 = 79});
    begin();
    const long result = CALL(epoll_ctl, epoll, EPOLL_CTL_ADD, ends[0], event);
    finish();
    outcome("epoll_ctl", result);
    struct epoll_event found = {0};
    note("then %d", epoll_wait(epoll, &found, 1, 0));
    note_bytes("event", &found, sizeof found);
}

/* ---- children: what is not delivered now is gone with the child ---- */

static void wait4_row(void)
{
    const pid_t pid = spawn_exit(3);
    int *const status = ROOM(int);
    struct rusage *const usage = ROOM(struct rusage);
    begin();
    const long result = CALL(wait4, pid, status, 0, usage);
    finish();
    outcome("wait4", result < 0 ? result : result == pid);
    note("status %x; usage %s", *status, usage->ru_maxrss > 0 && usage->ru_oublock >= 0 ? "there" : "not there");
    note("then %d", waitpid(pid, NULL, WNOHANG));
}

static void waitid_row(void)
{
    const pid_t pid = spawn_exit(4);
    siginfo_t *const info = ROOM(siginfo_t);
    begin();
    const long result = CALL(waitid, P_PID, pid, info, WEXITED, NULL);
    finish();
    outcome("waitid", result);
    note("status %d, pid %s", info->si_status, info->si_pid == pid ? "right" : "wrong");
    note("then %d", waitpid(pid, NULL, WNOHANG));
}

/* ---- time and signals ---- */

static void nanosleep_row(void)
{
    const struct timespec *const wanted = GIVEN(struct timespec, 0, 1000000);
    begin();
    outcome("nanosleep", CALL(nanosleep, wanted, NULL));
    finish();
}

static void nanosleep_interrupted(void)
{
    const struct timespec *const wanted = GIVEN(struct timespec, 8, 0);
    struct timespec *const left = ROOM(struct timespec);
    begin();
    signal_every(200);
    const long result = CALL(nanosleep, wanted, left);
    signal_every(0);
    finish();
    note("nanosleep %ld; left %s", result, left->tv_sec == 7 ? "most of it" : "something else");
}

static void sigtimedwait_row(void)
{
    CHECK(sigqueue(getpid(), WAITED_FOR, (union sigval){.sival_int = 99}) == 0);
    const sigset_t *const given = copied(waited_for(), sizeof(sigset_t));
    siginfo_t *const info = ROOM(siginfo_t);
    const struct timespec *const timeout = GIVEN(struct timespec, 5, 0);
    begin();
    const long result = CALL(rt_sigtimedwait, given, info, timeout, 8);
    finish();
    outcome("sigtimedwait", result);
    note("signal %d, value %d", info->si_signo, info->si_value.sival_int);
    note("then %d", sigtimedwait(waited_for(), NULL, &(struct timespec){0}));
}

/* ---- futexes: the kernel reads the word itself ---- */

static void futex_timeout(int flags)
{
    unsigned *const word = GIVEN(unsigned, 5);
    const struct timespec *const timeout = GIVEN(struct timespec, 0, 3000000);
    begin();
    const long changed = CALL(futex, word, FUTEX_WAIT | flags, 6, timeout, NULL, 0);
    const long timed_out = CALL(futex, word, FUTEX_WAIT | flags, 5, timeout, NULL, 0);
    finish();
    note("another value: %s; the value: %s; word %u", strerror((int)-changed), strerror((int)-timed_out), *word);
}

static void futex_private(void)
{
    futex_timeout(FUTEX_PRIVATE_FLAG);
}

static void futex_shared(void)
{
    futex_timeout(0);
}

static void futex_wake(void)
{
    unsigned *const word = GIVEN(unsigned, 5);
    begin();
    outcome("private", CALL(futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    outcome("shared", CALL(futex, word, FUTEX_WAKE, 1, NULL, NULL, 0));
    finish();
    note("word %u", *word);
}

/* The kernel writes to the second word itself, and cannot wait for anybody when it is absent. */
static void futex_operation(void)
{
    const int operation = FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 6);
    unsigned *const word = GIVEN(unsigned, 5), *const other = GIVEN(unsigned, 6);
    begin();
    outcome("futex", CALL(futex, word, FUTEX_WAKE_OP_PRIVATE, 1, 1, other, operation));
    finish();
    note("words %u %u", *word, *other);
}

void rows_waits(void)
{
    static const struct row rows[] = {
#ifdef SYS_poll
        {"poll", poll_row, 0},
        {"select", select_row, 0},
        {"epoll_wait", epoll_row, 0},
#endif
        {"ppoll", ppoll_row, 0},
        {"pselect", pselect_row, 0},
        {"epoll_pwait", epoll_pwait_row, 0},
        {"epoll_ctl", epoll_ctl_row, 0},
        {"wait4", wait4_row, 0},
        {"waitid", waitid_row, 0},
        {"nanosleep", nanosleep_row, 0},
        {"nanosleep interrupted", nanosleep_interrupted, 0},
        {"sigtimedwait", sigtimedwait_row, 0},
        {"futex wait private", futex_private, 0},
        {"futex wait shared", futex_shared, 0},
        {"futex wake", futex_wake, 0},
        {"futex wake and operation", futex_operation, UNSERVED},
    };
    RUN_ROWS(rows);
}
