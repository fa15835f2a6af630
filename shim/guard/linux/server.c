/*
 * server.c: see server.h.
 *
 * The thread has no thread-local storage to speak of (os_thread_start): the rules of pager/fault.c hold here too. It
 * never touches the program's memory itself, and it never waits for a thread that may be waiting for it: while somebody
 * keeps everybody from paging (fork, arming), that thread's own calls go on at once, the others' are put aside.
 */
#include "server.h"

#include <errno.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include "../../../platform/linux/syscall.h"
#include "../../../platform/os.h"
#include "../../lifecycle.h"
#include "../guard.h"
#include "filter.h"
#include "under_way.h"

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS      _IOW('!', 4, __u64)
#endif

/* The kernel may know larger messages than we do (SECCOMP_GET_NOTIF_SIZES). */
#define MESSAGE_ROOM 512

/* Stopped calls that are put aside while nobody may page; more wait in the kernel. */
#define ASIDE_MAX 1024

/* Between looks whether paging may go on. */
#define ASIDE_NS (UINT64_C(200) * 1000)

struct request {
    uint64_t id;
    uint32_t thread;
    struct seccomp_data data;
};

static struct {
    uint32_t given; /* futex: 1 when `listener` is set */
    int listener;
    uint32_t process;
    unsigned aside_count;
    struct request *aside;
} server;

/* ---- answers ---- */

/* Returns whether the call has gone on; a signal may have taken it back, then it comes again. */
static bool answer(uint64_t id, int error)
{
    _Alignas(8) char room[MESSAGE_ROOM];
    struct seccomp_notif_resp *response = (struct seccomp_notif_resp *) room;
    long sent;
    memset(room, 0, sizeof room);
    response->id = id;
    response->error = error;
    response->flags = error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    do /* a stop signal interrupts even a thread that has all of them blocked */
        sent = SYS3(SYS_ioctl, server.listener, SECCOMP_IOCTL_NOTIF_SEND, response);
    while (sent == -EINTR);
    return sent == 0;
}

static bool is_ours(uint32_t thread) { return SYS3(SYS_tgkill, server.process, thread, 0) == 0; }

bool server_is_here(void) { return server.process == os_process_id(); }

/* A process that wants to know whether this filter is on it (filter_covers()). */
static bool is_probe(const struct request *request)
{
    return request->data.nr == SYS_read && (int) request->data.args[0] == -1 &&
           request->data.args[2] == FILTER_PROBE_SIZE && !is_ours(request->thread);
}

/* ---- one stopped call ---- */

static void serve(const struct request *request)
{
    const struct call *call = call_find(request->data.nr);
    uint64_t arguments[CALL_ARGUMENTS];
    memcpy(arguments, request->data.args, sizeof arguments);
    bool held = call && under_way_begin(request->thread, call, arguments);
    if (!answer(request->id, 0) && held)
        under_way_cancel(request->thread);
}

/* Serves it if paging may go on now. */
static bool try_to_serve(const struct request *request)
{
    if (!engine_try_enter(&vp.engine))
        return false;
    serve(request);
    engine_leave_entered(&vp.engine);
    return true;
}

static bool keeps_the_gate(uint32_t thread) { return __atomic_load_n(&vp.engine.gate, __ATOMIC_SEQ_CST) == thread; }

static void handle(const struct request *request)
{
    __atomic_fetch_add(&guard.stopped, 1, __ATOMIC_RELAXED);
    if (is_probe(request))
        answer(request->id, -FILTER_PROBE_REPLY);
    else if (keeps_the_gate(request->thread))
        answer(request->id, 0);
    else if (!try_to_serve(request))
        server.aside[server.aside_count++] = *request;
}

/* A signal may have taken it back meanwhile, and the thread may be in another call. */
static bool still_waits(const struct request *request)
{
    return SYS3(SYS_ioctl, server.listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &request->id) == 0;
}

static void serve_aside(void)
{
    unsigned served = 0;
    while (served < server.aside_count &&
           (!still_waits(&server.aside[served]) || try_to_serve(&server.aside[served])))
        served++;
    server.aside_count -= served;
    memmove(server.aside, server.aside + served, server.aside_count * sizeof *server.aside);
}

/* ---- the thread ---- */

static bool has_one(void)
{
    struct timespec timeout = {0, (long) ASIDE_NS};
    struct pollfd listener = {.fd = server.listener, .events = POLLIN};
    /* Room for one that comes between the look and the answer. */
    return server.aside_count < ASIDE_MAX && SYS5(SYS_ppoll, &listener, 1, &timeout, NULL, 0) > 0;
}

/* Returns 0 with a request, or a negative errno. */
static long receive(struct request *request)
{
    _Alignas(8) char room[MESSAGE_ROOM];
    struct seccomp_notif *message = (struct seccomp_notif *) room;
    memset(room, 0, sizeof room);
    long got = SYS3(SYS_ioctl, server.listener, SECCOMP_IOCTL_NOTIF_RECV, message);
    if (got == 0)
        *request = (struct request){message->id, message->pid, message->data};
    return got;
}

static bool is_transient(long error) { return error == -EINTR || error == -ENOENT; }

static void run(void *unused)
{
    struct request request;
    long got;
    (void) unused;
    while (!__atomic_load_n(&server.given, __ATOMIC_SEQ_CST))
        os_futex_wait(&server.given, 0, 0, false);
    if (server.listener < 0)
        return;
    for (;;) {
        serve_aside();
        if (server.aside_count > 0 && !has_one()) {
            os_yield();
            continue;
        }
        got = receive(&request);
        if (got == 0)
            handle(&request);
        else if (!is_transient(got))
            break;
    }
    guard_lost_listener();
}

int server_prepare(void)
{
    struct seccomp_notif_sizes sizes;
    if (SYS3(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0 || sizes.seccomp_notif > MESSAGE_ROOM ||
        sizes.seccomp_notif_resp > MESSAGE_ROOM)
        return -ENOTSUP;
    server.process = os_process_id();
    server.aside = os_map(ASIDE_MAX * sizeof *server.aside);
    return server.aside ? os_thread_start(run, NULL, "vp-guard") : -ENOMEM;
}

void server_serve(int listener)
{
    if (listener >= 0)
        SYS3(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    server.listener = listener;
    __atomic_store_n(&server.given, 1, __ATOMIC_SEQ_CST);
    os_futex_wake(&server.given, INT_MAX, false);
}

void server_after_fork_child(void)
{
    if (server.given && server.listener >= 0)
        os_close(server.listener);
    if (server.aside)
        os_unmap(server.aside, ASIDE_MAX * sizeof *server.aside);
    memset(&server, 0, sizeof server);
}
