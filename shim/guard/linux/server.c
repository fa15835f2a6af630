/*
 * server.c: see server.h.
 *
 * A stopped call's memory is pinned, then the call goes on by itself (CONTINUE). Nobody tells when it has left the
 * kernel, so its lease ends when the thread is seen elsewhere: in /proc/TID/syscall, at its next stopped call, or gone.
 * A thread that runs is seen nowhere (/proc says "running"): its lease ends when it says itself that it is back
 * (server_thread_is_back()), or has used more processor time than the call can have taken.
 *
 * The thread has no thread-local storage to speak of (os_thread_start): the rules of pager/fault.c hold here too. It
 * never touches the program's memory itself.
 */
#include "server.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include "../../../platform/linux/syscall.h"
#include "../../../platform/os.h"
#include "../../base/text.h"
#include "../guard.h"
#include "../pin.h"
#include "filter.h"
#include "lease.h"
#include "proc.h"

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS      _IOW('!', 4, __u64)
#endif

/* Calls under way at once that can be told apart; what exceeds them is made present, not held. */
#define LEASES 1024

/* How often those under way are looked at: soon after the last stop, then less and less. */
#define LOOK_MIN_NS (UINT64_C(1) * 1000000)
#define LOOK_MAX_NS (UINT64_C(100) * 1000000)

/* The processor time that a call may take without ever waiting: a second, and what copying takes at 50 MB/s. */
#define CALL_BASE_NS      UINT64_C(1000000000)
#define CALL_NS_PER_BYTE  UINT64_C(20)

/* The kernel may know larger messages than we do (SECCOMP_GET_NOTIF_SIZES). */
#define MESSAGE_ROOM 512

/* The thread of the server makes entries and frees them; an entry's own thread may end its lease. */
struct under_way {
    uint32_t thread; /* 0: free */
    uint32_t turn;   /* 1 while somebody works on the lease */
    struct lease lease;
    long number;
    uint64_t arguments[CALL_ARGUMENTS];
    uint64_t ends_at; /* of the thread's processor time: then the call is over even if nobody saw it */
};

struct server {
    int listener;
    uint32_t process;
    uint32_t ready; /* futex: 1 when the thread has adopted what was under way */
    uint64_t look_ns, looked_at;
    unsigned busy; /* entries in use are all below this */
    size_t request_size, response_size;
    struct under_way calls[LEASES];
};

static struct server *server;

/* ---- threads ---- */

/* Processor time of a thread of this process; wall time where that cannot be asked (a child of vfork). */
static uint64_t thread_time(uint32_t thread)
{
    struct timespec time;
    int clock = (int) (~thread << 3 | 6); /* CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED */
    if (SYS2(SYS_clock_gettime, clock, &time) < 0)
        return os_now_ns();
    return (uint64_t) time.tv_sec * 1000000000u + (uint64_t) time.tv_nsec;
}

enum whereabouts { ELSEWHERE, INSIDE, UNKNOWN };

/* What the thread is doing in the kernel: "running", "-1 SP PC" (nothing), or "NUMBER ARGUMENTS SP PC". */
static enum whereabouts look_at(uint32_t thread, long *number, uint64_t arguments[CALL_ARGUMENTS])
{
    char path[64], content[256];
    struct text text = text_in(path, sizeof path);
    text_addf(&text, "/proc/%u/syscall", (uint64_t) thread);
    ssize_t length = os_read_file(path, content, sizeof content);
    if (length < 0)
        return length == -EACCES || length == -EPERM ? UNKNOWN : ELSEWHERE;
    if (content[0] == 'r')
        return UNKNOWN;
    if (content[0] == '-')
        return ELSEWHERE;
    const char *at = content;
    *number = (long) proc_number(&at);
    for (unsigned i = 0; i < CALL_ARGUMENTS; i++)
        arguments[i] = proc_number(&at);
    return INSIDE;
}

/* ---- leases ---- */

static struct under_way *find(uint32_t thread)
{
    for (unsigned i = 0; i < server->busy; i++)
        if (server->calls[i].thread == thread)
            return &server->calls[i];
    return NULL;
}

static struct under_way *new_entry(void)
{
    struct under_way *entry = find(0);
    if (entry)
        return entry;
    return server->busy < LEASES ? &server->calls[server->busy++] : NULL;
}

static bool try_turn(struct under_way *entry) { return !__atomic_exchange_n(&entry->turn, 1, __ATOMIC_ACQUIRE); }

static void end_turn(struct under_way *entry) { __atomic_store_n(&entry->turn, 0, __ATOMIC_RELEASE); }

/* Only for a few decrements: nobody is stopped for long while he has it, signals or not. */
static void take_turn(struct under_way *entry)
{
    while (!try_turn(entry))
        os_yield();
}

static void end(struct under_way *entry)
{
    take_turn(entry);
    lease_end(&entry->lease);
    __atomic_store_n(&entry->thread, 0, __ATOMIC_RELEASE);
    end_turn(entry);
    while (server->busy > 0 && !server->calls[server->busy - 1].thread)
        server->busy--;
}

static void begin(struct under_way *entry, uint32_t thread, const struct call *call, const uint64_t *arguments)
{
    lease_take(&entry->lease, call, arguments);
    __atomic_store_n(&entry->thread, thread, __ATOMIC_RELEASE);
    entry->number = call->number;
    memcpy(entry->arguments, arguments, sizeof entry->arguments);
    uint64_t bytes = guard_window() - entry->lease.room;
    entry->ends_at = thread_time(thread) + CALL_BASE_NS + bytes * CALL_NS_PER_BYTE;
}

/* Whether the thread may still be in that call. restart_syscall() goes on with a call that a stop has interrupted. */
static bool is_inside(const struct under_way *entry)
{
    long number;
    uint64_t arguments[CALL_ARGUMENTS];
    if (entry->lease.count == 0)
        return false; /* it has said so itself */
    switch (look_at(entry->thread, &number, arguments)) {
    case ELSEWHERE:
        return false;
    case UNKNOWN:
        return thread_time(entry->thread) < entry->ends_at;
    default:
        return number == SYS_restart_syscall ||
               (number == entry->number && memcmp(arguments, entry->arguments, sizeof arguments) == 0);
    }
}

static void end_what_is_over(void)
{
    bool ended = false;
    for (unsigned i = 0; i < server->busy; i++) {
        if (server->calls[i].thread && !is_inside(&server->calls[i])) {
            end(&server->calls[i]);
            ended = true;
        }
    }
    server->looked_at = os_now_ns();
    if (!ended && server->look_ns < LOOK_MAX_NS)
        server->look_ns *= 2;
}

/* ---- one stopped call ---- */

static bool is_ours(uint32_t thread) { return SYS3(SYS_tgkill, server->process, thread, 0) == 0; }

/* A process that wants to know whether this filter is on it (filter_covers()). */
static bool is_probe(const struct seccomp_notif *request)
{
    return request->data.nr == SYS_read && (int) request->data.args[0] == -1 &&
           request->data.args[2] == FILTER_PROBE_SIZE && !is_ours(request->pid);
}

/* Whether the thread keeps everybody from paging (fork, arming): it would wait for us and we for it. */
static bool keeps_the_gate(uint32_t thread) { return __atomic_load_n(&vp.engine.gate, __ATOMIC_SEQ_CST) == thread; }

static struct under_way *hold(uint32_t thread, const struct seccomp_data *data)
{
    const struct call *call = call_find(data->nr);
    struct under_way *entry = find(thread); /* its last call is over, then */
    if (entry)
        end(entry);
    if (!call || keeps_the_gate(thread) || !(entry = new_entry()))
        return NULL;
    uint64_t arguments[CALL_ARGUMENTS];
    memcpy(arguments, data->args, sizeof arguments);
    begin(entry, thread, call, arguments);
    if (entry->lease.count > 0)
        return entry;
    end(entry);
    return NULL;
}

static void serve(const struct seccomp_notif *request)
{
    _Alignas(8) char room[MESSAGE_ROOM];
    struct seccomp_notif_resp *response = (struct seccomp_notif_resp *) room;
    struct under_way *entry = NULL;
    memset(room, 0, sizeof room);
    response->id = request->id;
    if (is_probe(request)) {
        response->error = -FILTER_PROBE_REPLY;
    } else {
        entry = hold(request->pid, &request->data);
        response->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    }
    long sent = SYS3(SYS_ioctl, server->listener, SECCOMP_IOCTL_NOTIF_SEND, response);
    if (sent < 0 && entry)
        end(entry); /* a signal has taken the call back: it will come again */
    __atomic_fetch_add(&guard.stopped, 1, __ATOMIC_RELAXED);
}

/* ---- the thread ---- */

/* Waits for a stopped call, no longer than until the next look at those under way. */
static bool wait_for_one(void)
{
    if (!server->busy && server->listener >= 0)
        return true;
    uint64_t now = os_now_ns(), due = server->looked_at + server->look_ns;
    uint64_t left = due > now ? due - now : 0;
    struct timespec timeout = {(time_t) (left / 1000000000u), (long) (left % 1000000000u)};
    struct pollfd listener = {.fd = server->listener, .events = POLLIN};
    long ready = SYS5(SYS_ppoll, &listener, 1, &timeout, NULL, 0);
    if (os_now_ns() >= due)
        end_what_is_over();
    return ready > 0;
}

/* Memory of calls that wait in the kernel since before there was a filter. */
static void adopt(uint32_t thread)
{
    long number;
    uint64_t arguments[CALL_ARGUMENTS];
    if (look_at(thread, &number, arguments) != INSIDE)
        return;
    const struct call *call = call_find(number);
    struct under_way *entry = call ? new_entry() : NULL;
    if (!entry)
        return;
    begin(entry, thread, call, arguments);
    if (entry->lease.count == 0)
        end(entry);
}

static void adopt_all(void)
{
    struct directory threads;
    const char *name;
    directory_open(&threads, "/proc/thread-self/../../task");
    while ((name = directory_next(&threads)) != NULL) {
        uint32_t thread = (uint32_t) proc_number(&name);
        if (thread && thread != os_thread_id())
            adopt(thread);
    }
    directory_close(&threads);
}

static void run(void *unused)
{
    _Alignas(8) char room[MESSAGE_ROOM];
    struct seccomp_notif *request = (struct seccomp_notif *) room;
    (void) unused;
    adopt_all();
    __atomic_store_n(&server->ready, 1, __ATOMIC_SEQ_CST);
    os_futex_wake(&server->ready, 1, false);
    while (server->listener >= 0 || server->busy) {
        if (!wait_for_one())
            continue;
        memset(room, 0, sizeof room);
        long got = SYS3(SYS_ioctl, server->listener, SECCOMP_IOCTL_NOTIF_RECV, request);
        if (got == 0) {
            server->look_ns = LOOK_MIN_NS;
            serve(request);
        } else if (got != -EINTR && got != -ENOENT) {
            return; /* the listener has been taken away */
        }
    }
}

void server_thread_is_back(void)
{
    if (!server || !__atomic_load_n(&server->busy, __ATOMIC_RELAXED))
        return;
    uint32_t me = os_thread_id();
    for (unsigned i = 0; i < server->busy; i++) {
        struct under_way *entry = &server->calls[i];
        if (__atomic_load_n(&entry->thread, __ATOMIC_ACQUIRE) != me || !try_turn(entry))
            continue;
        if (entry->thread == me)
            lease_end(&entry->lease);
        end_turn(entry);
    }
}

static int refuse(int listener, int error)
{
    if (listener >= 0)
        os_close(listener);
    if (server)
        os_unmap(server, sizeof *server);
    server = NULL;
    return error;
}

int server_start(int listener)
{
    struct seccomp_notif_sizes sizes;
    if (listener >= 0)
        listener = os_fd_raise(listener);
    server = os_map(sizeof *server);
    if (!server)
        return refuse(listener, -ENOMEM);
    if (SYS3(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0 || sizes.seccomp_notif > MESSAGE_ROOM ||
        sizes.seccomp_notif_resp > MESSAGE_ROOM)
        return refuse(listener, -ENOTSUP);
    SYS3(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    server->listener = listener;
    server->process = os_process_id();
    server->look_ns = LOOK_MIN_NS;
    int result = os_thread_start(run, NULL, "vp-guard");
    if (result < 0)
        return refuse(listener, result);
    while (!__atomic_load_n(&server->ready, __ATOMIC_SEQ_CST))
        os_futex_wait(&server->ready, 0, 0, false);
    return 0;
}

void server_after_fork_child(void)
{
    if (!server)
        return;
    if (server->listener >= 0)
        os_close(server->listener);
    os_unmap(server, sizeof *server); /* the parent's leases are the parent's: engine_fork() has forgotten its pins */
    server = NULL;
}
