/*
 * exc_port.c: traps as messages to an exception port.
 *
 * The port is each thread's, not the task's: a task's is inherited by children, where nobody would answer it. Mach asks
 * the thread's port first, then the task's and the host's (debuggers, crash reporters), then sends a signal;
 * KERN_FAILURE passes a fault on. Threads get the port as they start, from libpthread's introspection hook; those that
 * were there already when paging arms, then. A thread that has a port of the program's keeps it being asked: what is
 * not ours is relayed there, if it takes messages of the same kind; else the thread is left alone and served by
 * signals.
 *
 * The receivers are threads of ours. They never touch arena memory (Mach would ask them about it), allocate nothing,
 * and have no port themselves. When they cannot be had, now or in a forked child, the signals' handlers serve.
 */
#include "../os.h"
#include "../posix/mprotect.h"
#include "exc.h"
#include "mach.h"
#include "vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RECEIVERS  2 /* one may wait for the disk */
#define FOREIGN    64
#define BEHAVIOUR  ((exception_behavior_t) (EXCEPTION_DEFAULT | MACH_EXCEPTION_CODES))
#define TRAILER    sizeof(mach_msg_max_trailer_t)

/* A thread that had a port of the program's before ours. */
struct foreign_port {
    thread_t thread; /* 0: an empty place; any thread, atomically */
    mach_port_t port;
};

static struct {
    struct platform *pf;                  /* set before any message can come */
    mach_port_t port;                     /* 0 while signals serve; atomically */
    introspection_hook outer_hook;        /* constant once hooked */
    bool hooked;                          /* for the life of the process and its children */
    struct foreign_port foreign[FOREIGN]; /* a thread's own place is changed by that thread, or while paging arms */
    thread_t receivers[RECEIVERS];        /* each written by its own thread, read while paging arms; atomically */
} exc;

static mach_port_t port_now(void) { return __atomic_load_n(&exc.port, __ATOMIC_ACQUIRE); }

/* ---- ports of the program's ---- */

static struct foreign_port *foreign_find(thread_t thread)
{
    for (size_t i = 0; i < FOREIGN; i++)
        if (__atomic_load_n(&exc.foreign[i].thread, __ATOMIC_ACQUIRE) == thread)
            return &exc.foreign[i];
    return NULL;
}

/* The port first: a receiver that finds the thread finds it too. */
static bool foreign_keep(thread_t thread, mach_port_t port)
{
    struct foreign_port *place = foreign_find(thread);
    if (!place)
        place = foreign_find(0);
    if (!place)
        return false;
    __atomic_store_n(&place->port, port, __ATOMIC_RELAXED);
    __atomic_store_n(&place->thread, thread, __ATOMIC_RELEASE);
    return true;
}

static void foreign_forget(thread_t thread)
{
    struct foreign_port *place = foreign_find(thread);
    if (place)
        __atomic_store_n(&place->thread, 0, __ATOMIC_RELEASE);
}

/* ---- threads ---- */

/* What a thread had for the exceptions of one mask. */
struct before {
    exception_mask_t masks[EXC_TYPES_COUNT];
    mach_port_t ports[EXC_TYPES_COUNT];
    exception_behavior_t behaviours[EXC_TYPES_COUNT];
    thread_state_flavor_t flavors[EXC_TYPES_COUNT];
    mach_msg_type_number_t count;
};

static void attach(thread_t thread)
{
    struct before before = {.count = EXC_TYPES_COUNT};
    mach_port_t port = port_now();
    if (!port || thread_swap_exception_ports(thread, EXC_MASK_BAD_ACCESS, port, BEHAVIOUR, THREAD_STATE_NONE, before.masks,
                                             &before.count, before.ports, before.behaviours,
                                             before.flavors) != KERN_SUCCESS)
        return;
    mach_port_t other = before.count ? before.ports[0] : MACH_PORT_NULL;
    if (other == MACH_PORT_NULL || other == port)
        return;
    if (before.behaviours[0] != BEHAVIOUR || !foreign_keep(thread, other))
        thread_set_exception_ports(thread, EXC_MASK_BAD_ACCESS, other, before.behaviours[0], before.flavors[0]);
}

static void detach(thread_t thread)
{
    thread_set_exception_ports(thread, EXC_MASK_BAD_ACCESS, MACH_PORT_NULL, BEHAVIOUR, THREAD_STATE_NONE);
}

static bool is_receiver(thread_t thread)
{
    for (size_t i = 0; i < RECEIVERS; i++)
        if (__atomic_load_n(&exc.receivers[i], __ATOMIC_SEQ_CST) == thread)
            return true;
    return false;
}

/* A receiver says that it is one and detaches itself: looked at after attaching, none is missed. */
static void attach_all(void)
{
    thread_act_array_t threads;
    mach_msg_type_number_t count;
    if (task_threads(mach_task_self(), &threads, &count) != KERN_SUCCESS)
        return;
    for (mach_msg_type_number_t i = 0; i < count; i++) {
        attach(threads[i]);
        if (is_receiver(threads[i]))
            detach(threads[i]);
        mach_port_deallocate(mach_task_self(), threads[i]);
    }
    os_unmap(threads, count * sizeof *threads);
}

/* On the thread itself, when it starts and when it ends. */
static void on_thread(unsigned event, pthread_t thread, void *start, size_t size)
{
    if (event == THREAD_STARTED)
        attach(pthread_mach_thread_np(pthread_self()));
    if (event == THREAD_TERMINATES)
        foreign_forget(pthread_mach_thread_np(pthread_self()));
    if (exc.outer_hook)
        exc.outer_hook(event, thread, start, size);
}

/* ---- messages ---- */

#if defined(__x86_64__)
#define STATE_FLAVOR x86_EXCEPTION_STATE64
#define STATE_COUNT  x86_EXCEPTION_STATE64_COUNT
#define STATE_WORD   __err
typedef x86_exception_state64_t exception_state;
#else
#define STATE_FLAVOR ARM_EXCEPTION_STATE64
#define STATE_COUNT  ARM_EXCEPTION_STATE64_COUNT
#define STATE_WORD   __esr
typedef arm_exception_state64_t exception_state;
#endif

/* A thread that cannot be asked is taken for a writer: that needs no second trap. */
static struct trap trap_of(const struct exc_message *message)
{
    struct trap trap = {.address = vm_untagged((uint64_t) message->code[1]), .write = true};
    exception_state state;
    mach_msg_type_number_t count = STATE_COUNT;
    if (thread_get_state(message->thread.name, STATE_FLAVOR, (thread_state_t) &state, &count) == KERN_SUCCESS)
        vm_decode_access(state.STATE_WORD, &trap);
    return trap;
}

static bool is_access(const struct exc_message *message)
{
    return message->head.msgh_id == EXC_MESSAGE_ID && message->body.msgh_descriptor_count == 2 &&
           message->exception == EXC_BAD_ACCESS && message->code_count == 2;
}

static bool serve(const struct exc_message *message)
{
    const struct platform *pf = exc.pf;
    if (vm_untagged((uint64_t) message->code[1]) - pf->base >= pf->size)
        return false;
    struct trap trap = trap_of(message);
    return pf->serve(pf->serve_context, &trap);
}

/* Hands the message on with its reply port: the program's receiver answers the kernel itself. */
static bool relay(struct exc_message *message)
{
    const struct foreign_port *foreign = foreign_find(message->thread.name);
    if (!foreign)
        return false;
    struct exc_message passed = *message;
    passed.head.msgh_bits = MACH_MSGH_BITS_COMPLEX | MACH_MSGH_BITS(MACH_MSG_TYPE_COPY_SEND, MACH_MSG_TYPE_MOVE_SEND_ONCE);
    passed.head.msgh_local_port = message->head.msgh_remote_port;
    passed.head.msgh_remote_port = __atomic_load_n(&foreign->port, __ATOMIC_RELAXED);
    return mach_msg(&passed.head, MACH_SEND_MSG, sizeof passed, 0, MACH_PORT_NULL, MACH_MSG_TIMEOUT_NONE, MACH_PORT_NULL) ==
           MACH_MSG_SUCCESS;
}

static void reply(const struct exc_message *message, bool served)
{
    struct exc_reply answer = {
        .head = {.msgh_bits = MACH_MSGH_BITS(MACH_MSGH_BITS_REMOTE(message->head.msgh_bits), 0),
                 .msgh_size = sizeof answer,
                 .msgh_remote_port = message->head.msgh_remote_port,
                 .msgh_id = EXC_REPLY_ID},
        .ndr = message->ndr,
        .result = served ? KERN_SUCCESS : KERN_FAILURE,
    };
    mach_msg(&answer.head, MACH_SEND_MSG, sizeof answer, 0, MACH_PORT_NULL, MACH_MSG_TIMEOUT_NONE, MACH_PORT_NULL);
}

static void handle(struct exc_message *message)
{
    if (!is_access(message)) {
        mach_msg_destroy(&message->head);
        return;
    }
    bool served = serve(message);
    if (!served && relay(message))
        return; /* its rights went along */
    reply(message, served);
    mach_port_deallocate(mach_task_self(), message->thread.name);
    mach_port_deallocate(mach_task_self(), message->task.name);
}

static void receive(void *own_place)
{
    struct {
        struct exc_message message;
        char trailer[TRAILER];
    } buffer;
    mach_port_t port = port_now();
    thread_t self = pthread_mach_thread_np(pthread_self());
    __atomic_store_n((thread_t *) own_place, self, __ATOMIC_SEQ_CST);
    detach(self);
    for (;;) {
        kern_return_t result = mach_msg(&buffer.message.head, MACH_RCV_MSG, 0, sizeof buffer, port,
                                        MACH_MSG_TIMEOUT_NONE, MACH_PORT_NULL);
        if (result == MACH_MSG_SUCCESS)
            handle(&buffer.message);
        else if (result != MACH_RCV_INTERRUPTED && result != MACH_RCV_TOO_LARGE)
            return; /* the port is gone */
    }
}

/* ---- on and off ---- */

static bool open_port(mach_port_t *out)
{
    mach_port_t port;
    if (mach_port_allocate(mach_task_self(), MACH_PORT_RIGHT_RECEIVE, &port) != KERN_SUCCESS)
        return false;
    if (mach_port_insert_right(mach_task_self(), port, port, MACH_MSG_TYPE_MAKE_SEND) == KERN_SUCCESS) {
        *out = port;
        return true;
    }
    mach_port_mod_refs(mach_task_self(), port, MACH_PORT_RIGHT_RECEIVE, -1);
    return false;
}

/* A thread whose port dies is asked about by the next one, in the end by a signal. */
static void close_port(mach_port_t port)
{
    mach_port_mod_refs(mach_task_self(), port, MACH_PORT_RIGHT_RECEIVE, -1);
    mach_port_deallocate(mach_task_self(), port);
}

static bool start_receivers(void)
{
    int started = 0;
    while (started < RECEIVERS && os_thread_start(receive, &exc.receivers[started], "vp-exc") == 0)
        started++;
    return started > 0;
}

/* Receivers before senders: nobody waits for an answer that cannot come. */
static void deliver(struct platform *pf)
{
    mach_port_t port;
    exc.pf = pf;
    if (!open_port(&port))
        return;
    __atomic_store_n(&exc.port, port, __ATOMIC_RELEASE);
    if (!start_receivers()) {
        __atomic_store_n(&exc.port, 0, __ATOMIC_RELEASE);
        close_port(port);
        return;
    }
    if (!exc.hooked) {
        exc.hooked = true;
        exc.outer_hook = pthread_introspection_hook_install(on_thread);
    }
    attach_all();
}

/* ---- the contract ---- */

static int exc_port_probe(struct platform_caps *caps, char *why, size_t size)
{
    mach_port_t port;
    if (!open_port(&port)) {
        snprintf(why, size, "no Mach port can be made");
        return -ENOTSUP;
    }
    close_port(port);
    return exc_probe(caps, why, size);
}

static int exc_port_arm(struct platform *pf, const struct extent *live, size_t n)
{
    int result = mprotect_arm(pf, live, n);
    if (result == 0)
        deliver(pf);
    return result;
}

/* A child has memory, but neither ports nor receivers: they are made anew. */
static int exc_port_fork(struct platform *pf, enum platform_fork phase)
{
    bool delivered = port_now() != 0;
    if (phase == FORK_CHILD) {
        __atomic_store_n(&exc.port, 0, __ATOMIC_RELEASE);
        memset(exc.foreign, 0, sizeof exc.foreign);
    }
    int result = exc_fork(pf, phase);
    if (phase == FORK_CHILD && delivered)
        deliver(pf);
    return result;
}

const struct platform_ops platform_exc_port = {
    .name = "exc-port",
    .probe = exc_port_probe,
    .arm = exc_port_arm,
    .fork = exc_port_fork,
    MPROTECT_PAGES,
};
