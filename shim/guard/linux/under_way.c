/*
 * under_way.c: see under_way.h.
 *
 * The thread that looks opens files of /proc all the time. It has a table of descriptors of its own: in the program's, each
 * of them would for a moment take a number that the program expects to get.
 *
 * It has no thread-local storage to speak of (os_thread_start): the rules of pager/fault.c hold here too.
 */
#include "under_way.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "../../../platform/linux/syscall.h"
#include "../../../platform/os.h"
#include "../../base/text.h"
#include "lease.h"
#include "proc.h"

/* Entries, of which memory is taken as they are used; what exceeds them is held for ever. */
#define ENTRIES (UINT32_C(1) << 16)

/* No kernel has thread ids above (PID_MAX_LIMIT). */
#define THREAD_IDS (UINT32_C(1) << 22)

/* How long after a call's begin it is looked at, and then, twice as long each time, again. */
#define LOOK_MIN_NS (UINT64_C(1) * 1000000)
#define LOOK_MAX_NS (UINT64_C(128) * 1000000)

/* The processor time that a call may take without ever waiting: a second, and what copying takes at 50 MB/s. */
#define CALL_BASE_NS     UINT64_C(1000000000)
#define CALL_NS_PER_BYTE UINT64_C(20)

/* Threads that run while paging arms are looked at this often, a millisecond apart. */
#define ADOPT_LOOKS 4

/* Everything but `thread` belongs to who has the turn. */
struct entry {
    uint32_t thread; /* 0: free; written with the turn, read by any thread */
    uint32_t turn;   /* 1 while somebody works on the entry: never for long, never with a signal in between */
    uint32_t sequence;
    long number;
    uint64_t arguments[CALL_ARGUMENTS];
    uint64_t ends_at;            /* of the thread's processor time */
    uint64_t look_at, look_after; /* ns; the looking thread's */
    struct lease lease;
};

static struct {
    struct entry *entries;     /* sparse */
    struct entry **by_thread;  /* sparse; an entry's own thread looks itself up here */
    uint32_t used;             /* entries that were ever in use; the one who begins writes */
    uint32_t cursor;           /* where a free one is looked for */
    uint32_t count;            /* in use; atomically */
    uint32_t bell;             /* futex: rings for the looking thread */
    uint32_t adopted;          /* futex: 1 wanted, 2 done */
} table;

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

enum whereabouts { GONE, ELSEWHERE, INSIDE, UNKNOWN };

/* What the thread is doing in the kernel: "running", "-1 SP PC" (nothing), or "NUMBER ARGUMENTS SP PC". */
static enum whereabouts look_at(uint32_t thread, long *number, uint64_t arguments[CALL_ARGUMENTS])
{
    char path[64], content[256];
    struct text text = text_in(path, sizeof path);
    text_addf(&text, "/proc/thread-self/../%u/syscall", (uint64_t) thread); /* not another namespace's thread */
    ssize_t length = os_read_file(path, content, sizeof content);
    if (length < 0) /* /proc may be out of reach: only what says so itself is gone */
        return SYS2(SYS_tkill, thread, 0) == -ESRCH ? GONE : UNKNOWN;
    if (content[0] == 'r' || length == 0)
        return UNKNOWN;
    if (content[0] == '-')
        return ELSEWHERE;
    const char *at = content;
    *number = (long) proc_number(&at);
    for (unsigned i = 0; i < CALL_ARGUMENTS; i++)
        arguments[i] = proc_number(&at);
    return INSIDE;
}

/* ---- entries ---- */

static bool try_turn(struct entry *entry) { return !__atomic_exchange_n(&entry->turn, 1, __ATOMIC_ACQUIRE); }

static void end_turn(struct entry *entry) { __atomic_store_n(&entry->turn, 0, __ATOMIC_RELEASE); }

static uint32_t thread_of(const struct entry *entry) { return __atomic_load_n(&entry->thread, __ATOMIC_ACQUIRE); }

static struct entry **place_of(uint32_t thread) { return &table.by_thread[thread % THREAD_IDS]; }

/* The thread's entry, with the turn; or NULL. */
static struct entry *take_entry_of(uint32_t thread)
{
    struct entry *entry = __atomic_load_n(place_of(thread), __ATOMIC_ACQUIRE);
    if (!entry)
        return NULL;
    while (!try_turn(entry))
        os_yield();
    if (thread_of(entry) == thread)
        return entry;
    end_turn(entry);
    return NULL;
}

/* A free entry, with the turn; or NULL. */
static struct entry *take_free_entry(void)
{
    for (uint32_t i = 0; i < table.used; i++) {
        struct entry *entry = &table.entries[(table.cursor + i) % table.used];
        if (thread_of(entry) || !try_turn(entry))
            continue;
        table.cursor = (uint32_t) (entry - table.entries) + 1;
        return entry;
    }
    if (table.used == ENTRIES)
        return NULL;
    struct entry *entry = &table.entries[table.used];
    entry->turn = 1;
    __atomic_store_n(&table.used, table.used + 1, __ATOMIC_RELEASE);
    return entry;
}

/* Ends the lease and gives the entry up. The caller has the turn, which ends too. */
static void give_up(struct entry *entry)
{
    lease_end(&entry->lease);
    if (entry->thread) {
        __atomic_store_n(place_of(entry->thread), NULL, __ATOMIC_RELEASE);
        __atomic_fetch_sub(&table.count, 1, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&entry->thread, 0, __ATOMIC_RELEASE);
    end_turn(entry);
}

static void assign(struct entry *entry, uint32_t thread)
{
    if (entry->thread == thread)
        return;
    __atomic_store_n(&entry->thread, thread, __ATOMIC_RELEASE);
    __atomic_store_n(place_of(thread), entry, __ATOMIC_RELEASE);
    if (__atomic_fetch_add(&table.count, 1, __ATOMIC_SEQ_CST) == 0) {
        __atomic_fetch_add(&table.bell, 1, __ATOMIC_SEQ_CST);
        os_futex_wake(&table.bell, 1, false);
    }
}

static void hold_for_ever(const struct call *call, const uint64_t *arguments)
{
    struct lease lease;
    lease_take(&lease, call, arguments);
}

bool under_way_begin(uint32_t thread, const struct call *call, const uint64_t arguments[CALL_ARGUMENTS])
{
    struct entry *entry = take_entry_of(thread);
    if (entry)
        lease_end(&entry->lease);
    else if (!(entry = take_free_entry())) {
        hold_for_ever(call, arguments);
        return true;
    }
    lease_take(&entry->lease, call, arguments);
    if (entry->lease.count == 0) {
        give_up(entry);
        return false;
    }
    entry->sequence++;
    entry->number = call->number;
    memcpy(entry->arguments, arguments, sizeof entry->arguments);
    entry->ends_at = thread_time(thread) + CALL_BASE_NS + entry->lease.bytes * CALL_NS_PER_BYTE;
    entry->look_after = LOOK_MIN_NS;
    entry->look_at = os_now_ns() + LOOK_MIN_NS;
    assign(entry, thread);
    end_turn(entry);
    return true;
}

void under_way_cancel(uint32_t thread)
{
    struct entry *entry = take_entry_of(thread);
    if (entry)
        give_up(entry);
}

void under_way_thread_is_back(void)
{
    if (!table.by_thread || !__atomic_load_n(&table.count, __ATOMIC_RELAXED))
        return;
    uint32_t me = os_thread_id();
    struct entry *entry = __atomic_load_n(place_of(me), __ATOMIC_ACQUIRE);
    struct os_sigmask saved;
    if (!entry)
        return;
    os_signals_block(&saved); /* a handler could be stopped in a call, and that would wait for the turn */
    if (try_turn(entry)) {
        if (entry->thread == me)
            lease_end(&entry->lease); /* the looking thread tidies up */
        end_turn(entry);
    }
    os_signals_restore(&saved);
}

/* ---- looking ---- */

/* What is to be compared, copied under the turn: /proc is read without. */
struct view {
    uint32_t thread, sequence;
    long number;
    uint64_t arguments[CALL_ARGUMENTS], ends_at;
    bool ended; /* its thread has said so */
};

static bool view_of(struct entry *entry, struct view *view)
{
    if (!try_turn(entry))
        return false;
    view->thread = entry->thread;
    view->sequence = entry->sequence;
    view->number = entry->number;
    memcpy(view->arguments, entry->arguments, sizeof view->arguments);
    view->ends_at = entry->ends_at;
    view->ended = entry->lease.count == 0;
    end_turn(entry);
    return view->thread != 0;
}

/* Whether the thread may still be in that call. restart_syscall() goes on with a call that a stop has interrupted. */
static bool is_inside(const struct view *view)
{
    long number;
    uint64_t arguments[CALL_ARGUMENTS];
    if (view->ended)
        return false;
    switch (look_at(view->thread, &number, arguments)) {
    case GONE:
    case ELSEWHERE:
        return false;
    case UNKNOWN:
        return thread_time(view->thread) < view->ends_at;
    default:
        return number == SYS_restart_syscall ||
               (number == view->number && memcmp(arguments, view->arguments, sizeof arguments) == 0);
    }
}

static void look(struct entry *entry, uint64_t now)
{
    struct view view;
    if (!view_of(entry, &view))
        return;
    bool inside = is_inside(&view);
    if (!try_turn(entry))
        return;
    if (entry->thread != view.thread || entry->sequence != view.sequence) {
        end_turn(entry); /* another call by now */
    } else if (!inside) {
        give_up(entry);
    } else {
        entry->look_after = entry->look_after < LOOK_MAX_NS ? entry->look_after * 2 : LOOK_MAX_NS;
        entry->look_at = now + entry->look_after;
        end_turn(entry);
    }
}

/* Looks at those that are due. Returns when the next one is. */
static uint64_t look_at_all(uint64_t now)
{
    uint64_t next = now + LOOK_MAX_NS;
    uint32_t used = __atomic_load_n(&table.used, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < used; i++) {
        struct entry *entry = &table.entries[i];
        if (!thread_of(entry))
            continue;
        if (__atomic_load_n(&entry->look_at, __ATOMIC_RELAXED) <= now)
            look(entry, now);
        uint64_t due = __atomic_load_n(&entry->look_at, __ATOMIC_RELAXED);
        if (thread_of(entry) && due < next)
            next = due;
    }
    return next;
}

/* ---- calls that were there before ---- */

/* Returns false when the thread was running, and has to be looked at again. */
static bool adopt(uint32_t thread)
{
    long number;
    uint64_t arguments[CALL_ARGUMENTS];
    enum whereabouts where = look_at(thread, &number, arguments);
    const struct call *call = where == INSIDE ? call_find(number) : NULL;
    if (call)
        under_way_begin(thread, call, arguments);
    return where != UNKNOWN;
}

static bool adopt_once(uint32_t me)
{
    struct directory threads;
    const char *name;
    bool all = true;
    directory_open(&threads, "/proc/thread-self/../../task");
    while ((name = directory_next(&threads)) != NULL) {
        uint32_t thread = (uint32_t) proc_number(&name);
        if (thread && thread != me)
            all &= adopt(thread);
    }
    directory_close(&threads);
    return all;
}

static void sleep_for(uint64_t ns)
{
    static const uint32_t never;
    os_futex_wait(&never, 0, ns, false);
}

static void adopt_all(void)
{
    uint32_t me = os_thread_id();
    for (int looks = 0; looks < ADOPT_LOOKS && !adopt_once(me); looks++)
        sleep_for(LOOK_MIN_NS);
    __atomic_store_n(&table.adopted, 2, __ATOMIC_SEQ_CST);
    os_futex_wake(&table.adopted, INT_MAX, false);
}

void under_way_adopt(void)
{
    __atomic_store_n(&table.adopted, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&table.bell, 1, __ATOMIC_SEQ_CST);
    os_futex_wake(&table.bell, 1, false);
    while (__atomic_load_n(&table.adopted, __ATOMIC_SEQ_CST) == 1)
        os_futex_wait(&table.adopted, 1, 0, false);
}

/* ---- the thread ---- */

/* Of its own table: nothing of the program's may stay open because of it. */
static void close_all(void)
{
    struct directory descriptors;
    const char *name;
    if (SYS3(SYS_close_range, 0, UINT_MAX, 0) == 0)
        return;
    directory_open(&descriptors, "/proc/thread-self/fd");
    while ((name = directory_next(&descriptors)) != NULL) {
        int fd = (int) proc_number(&name);
        if (fd != descriptors.fd)
            SYS1(SYS_close, fd);
    }
    directory_close(&descriptors);
}

static void run(void *unused)
{
    (void) unused;
    close_all();
    for (;;) {
        uint32_t bell = __atomic_load_n(&table.bell, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&table.adopted, __ATOMIC_SEQ_CST) == 1)
            adopt_all();
        uint64_t now = os_now_ns(), next = look_at_all(now), done = os_now_ns();
        bool idle = !__atomic_load_n(&table.count, __ATOMIC_SEQ_CST);
        os_futex_wait(&table.bell, bell, idle ? 0 : next > done + LOOK_MIN_NS ? next - done : LOOK_MIN_NS, false);
    }
}

int under_way_start(void)
{
    table.entries = os_map(ENTRIES * sizeof *table.entries);
    table.by_thread = os_map(THREAD_IDS * sizeof *table.by_thread);
    int result = table.entries && table.by_thread ? os_thread_start_apart(run, NULL, "vp-look") : -ENOMEM;
    if (result < 0)
        under_way_after_fork_child();
    return result;
}

void under_way_after_fork_child(void)
{
    if (table.entries)
        os_unmap(table.entries, ENTRIES * sizeof *table.entries);
    if (table.by_thread)
        os_unmap(table.by_thread, THREAD_IDS * sizeof *table.by_thread);
    memset(&table, 0, sizeof table);
}
