/* The services of os.h, on this system. */
#include "contract.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

/* ---- sleeping ---- */

static uint32_t word;
static uint32_t woken;

static void a_wait_ends_in_time(void)
{
    uint64_t before = os_now_ns();
    errno = 4242;
    os_futex_wait(&word, 0, 50 * MS, false);
    uint64_t took = os_now_ns() - before;
    CHECK_EQ(errno, 4242);
    CHECK(took >= 49 * MS && took < 2000 * MS);
    os_futex_wait(&word, 0, 1001 * MS, false); /* more than a second: both halves of the timeout */
    CHECK(os_now_ns() - before - took >= 1000 * MS);
}

static void another_value_is_not_waited_for(void)
{
    uint64_t before = os_now_ns();
    os_futex_wait(&word, 1, 0, false);
    CHECK(os_now_ns() - before < 1000 * MS);
}

static void *wait_for_word(void *shared)
{
    while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) == 0)
        os_futex_wait(&word, 0, 0, shared != NULL);
    __atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void wake_threads(bool shared)
{
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, wait_for_word, shared ? &word : NULL), 0);
    usleep(50000);
    CHECK_EQ(__atomic_load_n(&woken, __ATOMIC_SEQ_CST), 0);
    __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
    os_futex_wake(&word, 1, shared);
    usleep(50000);
    CHECK(__atomic_load_n(&woken, __ATOMIC_SEQ_CST) < 4); /* more than one only by waking early, which is allowed */
    os_futex_wake(&word, 100, shared);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static void sleepers_are_woken_by_count(void) { wake_threads(false); }

static void shared_sleepers_are_woken_by_count(void) { wake_threads(true); }

static void processes_wake_each_other(void)
{
    uint32_t *shared = os_map_shared(os_page_size());
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        while (__atomic_load_n(shared, __ATOMIC_SEQ_CST) == 0)
            os_futex_wait(shared, 0, 0, true);
        _exit(0);
    }
    usleep(50000);
    __atomic_store_n(shared, 1, __ATOMIC_SEQ_CST);
    os_futex_wake(shared, 1, true);
    check_child(child);
}

/* ---- signals ---- */

static void every_signal_is_blocked_and_restored(void)
{
    sigset_t before, during, after;
    struct os_sigmask saved;
    sigemptyset(&before);
    sigaddset(&before, SIGHUP);
    sigaddset(&before, SIGRTMAX);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    os_signals_block(&saved);
    pthread_sigmask(SIG_SETMASK, NULL, &during);
    os_signals_restore(&saved);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int i = 1; i <= SIGRTMAX; i++) {
        if (i != SIGKILL && i != SIGSTOP && (i < 32 || i >= SIGRTMIN))
            CHECK_EQ(sigismember(&during, i), 1);
        if (i < 32 || i >= SIGRTMIN)
            CHECK_EQ(sigismember(&after, i), i == SIGHUP || i == SIGRTMAX);
    }
}

/* ---- memory ---- */

static void memory_is_zero_and_can_be_given_back(void)
{
    size_t size = MIB(1);
    for (int shared = 0; shared < 2; shared++) {
        unsigned char *memory = shared ? os_map_shared(size) : os_map(size);
        CHECK(memory && all_zero(memory, size));
        memset(memory, 7, size);
        if (!shared) {
            CHECK_EQ(os_discard(memory + os_page_size(), os_page_size()), 0);
            CHECK(all_zero(memory + os_page_size(), os_page_size()));
            CHECK_EQ(memory[0], 7);
            CHECK_EQ(memory[2 * os_page_size()], 7);
        }
        os_unmap(memory, size);
        CHECK_EQ(msync(memory, size, MS_ASYNC), -1);
    }
    errno = 4242;
    CHECK(os_map(SIZE_MAX / 2) == NULL);
    CHECK_EQ(errno, 4242);
}

static void huge_tables_cost_only_what_they_touch(void)
{
    size_t before = resident_bytes();
    char *table = os_map(GIB(512));
    CHECK(table);
    table[GIB(300)] = 1;
    CHECK(resident_bytes() < before + MIB(4));
    os_unmap(table, GIB(512));
}

static void shared_memory_is_shared_with_children(void)
{
    char *shared = os_map_shared(os_page_size()), *own = os_map(os_page_size());
    pid_t child = fork();
    if (child == 0) {
        shared[0] = own[0] = 5;
        _exit(0);
    }
    check_child(child);
    CHECK_EQ(shared[0], 5);
    CHECK_EQ(own[0], 0);
}

/* ---- files ---- */

static void check_raised(int fd, int least)
{
    int raised = os_fd_raise(fd);
    CHECK(raised >= least);
    CHECK(fcntl(raised, F_GETFD) & FD_CLOEXEC);
    if (raised != fd)
        CHECK(fcntl(fd, F_GETFD) < 0);
    CHECK_EQ(write(raised, "x", 1), 1);
    close(raised);
}

static void limit_descriptors(rlim_t n)
{
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = n;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void descriptors_are_raised(void)
{
    limit_descriptors(1024);
    check_raised(open("/dev/null", O_WRONLY), 1000);
    limit_descriptors(256);
    check_raised(open("/dev/null", O_WRONLY), 200);
    limit_descriptors(32); /* no room up there: it stays where it is, and works */
    check_raised(open("/dev/null", O_WRONLY), 3);
}

static void full_tables_leave_a_descriptor_where_it_is(void)
{
    limit_descriptors(1010);
    int low = open("/dev/null", O_WRONLY);
    for (int i = 100; i < 1010; i++)
        dup2(low, i);
    errno = 4242;
    CHECK_EQ(os_fd_raise(low), low);
    CHECK_EQ(errno, 4242);
    CHECK(fcntl(low, F_GETFD) & FD_CLOEXEC);
}

static void files_open_and_errors_are_returned(void)
{
    char text[64];
    errno = 4242;
    CHECK_EQ(os_open("/nonexistent/file", O_RDONLY, 0), -ENOENT);
    CHECK_EQ(os_pread(-1, text, 1, 0), -EBADF);
    CHECK_EQ(os_pwrite(-1, text, 1, 0), -EBADF);
    CHECK_EQ(os_read(-1, text, 1), -EBADF);
    CHECK_EQ(os_write(-1, text, 1), -EBADF);
    CHECK_EQ(os_close(-1), -EBADF);
    CHECK_EQ(errno, 4242);
    int fd = os_open("/var/tmp", O_TMPFILE | O_RDWR, 0600);
    CHECK(fd >= 100 && (fcntl(fd, F_GETFD) & FD_CLOEXEC)); /* out of the program's way at once */
    CHECK_EQ(os_pwrite(fd, "hello", 5, UINT64_C(5) << 32), 5);
    CHECK_EQ(os_pread(fd, text, sizeof text, (UINT64_C(5) << 32) + 1), 4);
    CHECK(memcmp(text, "ello", 4) == 0);
    CHECK_EQ(os_close(fd), 0);
}

static void small_files_are_read_whole(void)
{
    char text[4096];
    size_t descriptors = count_descriptors();
    memset(text, 'x', sizeof text);
    CHECK(os_read_file("/proc/self/stat", text, sizeof text) > 20);
    CHECK_EQ(atoi(text), getpid());
    ssize_t length = os_read_file("/proc/self/maps", text, sizeof text); /* comes in pieces; cut off where it is long */
    CHECK_EQ(strlen(text), length);
    memset(text, 'x', sizeof text);
    CHECK_EQ(os_read_file("/proc/self/stat", text, 3), 2);
    CHECK(text[2] == 0 && text[3] == 'x');
    CHECK_EQ(os_read_file("/proc/self/nothing", text, sizeof text), -ENOENT);
    CHECK_EQ(os_read_file("/proc/self", text, sizeof text), -EISDIR);
    CHECK_EQ(count_descriptors(), descriptors);
}

static void random_bytes_differ(void)
{
    unsigned char a[5000], b[5000];
    CHECK_EQ(os_random(a, sizeof a), 0);
    CHECK_EQ(os_random(b, sizeof b), 0);
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK(!all_zero(a + sizeof a - 16, 16));
}

/* ---- threads ---- */

static uint32_t thread_ran, thread_go;
static char thread_status[4096];
static void *thread_pointer;

static bool await(const uint32_t *flag)
{
    for (uint64_t end = milliseconds() + 5000; milliseconds() < end; os_yield())
        if (__atomic_load_n(flag, __ATOMIC_SEQ_CST))
            return true;
    return false;
}

static void run_thread(void *argument)
{
    thread_pointer = __builtin_thread_pointer();
    os_read_file("/proc/thread-self/status", thread_status, sizeof thread_status);
    __atomic_store_n(&thread_ran, (uint32_t) (uintptr_t) argument, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&thread_go, __ATOMIC_SEQ_CST))
        os_futex_wait(&thread_go, 0, 0, false);
    __atomic_store_n(&thread_ran, 9, __ATOMIC_SEQ_CST);
}

static void a_thread_runs_with_signals_blocked(void)
{
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    errno = 4242;
    CHECK_EQ(os_thread_start(run_thread, (void *) 5, "vp-test"), 0);
    CHECK_EQ(errno, 4242);
    CHECK(await(&thread_ran));
    CHECK_EQ(thread_ran, 5);
    CHECK(thread_pointer && thread_pointer != __builtin_thread_pointer()); /* errno and the like are nobody else's */
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    CHECK(memcmp(&before, &after, 8) == 0);
    CHECK(strncmp(thread_status, "Name:\tvp-test\n", 14) == 0);
    const char *blocked = strstr(thread_status, "SigBlk:\t");
    CHECK(blocked);
    CHECK_EQ(strtoull(blocked + 8, NULL, 16), 0xfffffffffffbfeff); /* but SIGKILL and SIGSTOP */
    __atomic_store_n(&thread_go, 1, __ATOMIC_SEQ_CST);
    os_futex_wake(&thread_go, 1, false);
}

static volatile sig_atomic_t signalled_on;

static void note_signal(int number)
{
    (void) number;
    signalled_on = (sig_atomic_t) os_thread_id();
}

/* The program's signals go to the program's threads. */
static void a_thread_gets_no_signal_of_the_program(void)
{
    signal(SIGUSR1, note_signal);
    CHECK_EQ(os_thread_start(run_thread, (void *) 5, "vp-test"), 0);
    CHECK(await(&thread_ran));
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(kill(getpid(), SIGUSR1), 0);
        CHECK_EQ(signalled_on, os_thread_id());
    }
}

static void fail_system_calls(void *unused)
{
    (void) unused;
    for (int i = 0; i < 100000; i++)
        os_close(-1);
    __atomic_store_n(&thread_ran, 1, __ATOMIC_SEQ_CST);
}

static void a_thread_touches_nobodys_errno(void)
{
    errno = 4242;
    CHECK_EQ(os_thread_start(fail_system_calls, NULL, "a name that is far too long"), 0);
    while (!__atomic_load_n(&thread_ran, __ATOMIC_SEQ_CST))
        CHECK_EQ(errno, 4242);
    CHECK_EQ(errno, 4242);
}

static void use_stack(void *unused)
{
    volatile char deep[KIB(128)];
    (void) unused;
    for (size_t i = 0; i < sizeof deep; i += 512)
        deep[i] = (char) i;
    __atomic_store_n(&thread_ran, (uint32_t) (deep[1024] + 1), __ATOMIC_SEQ_CST);
}

static void a_thread_has_a_stack(void)
{
    CHECK_EQ(os_thread_start(use_stack, NULL, "vp-stack"), 0);
    CHECK(await(&thread_ran));
}

/* The process ends when its own threads have ended, with the status that they say. */
static void a_thread_does_not_keep_the_process(void)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(10);
        CHECK_EQ(os_thread_start(run_thread, (void *) 5, "vp-test"), 0);
        pthread_exit(NULL);
    }
    check_child(child);
}

static void check_refusal(void)
{
    size_t before = virtual_bytes();
    sigset_t mask;
    for (int i = 0; i < 100; i++) {
        errno = 4242;
        CHECK(os_thread_start(run_thread, (void *) 5, "vp-test") < 0);
        CHECK_EQ(errno, 4242);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    CHECK(!sigismember(&mask, SIGTERM));
    CHECK(virtual_bytes() < before + MIB(1));
    CHECK_EQ(thread_ran, 0);
}

static void a_refused_thread_is_an_error(void)
{
    if (geteuid() == 0) {
        refuse_system_call(SYS_clone, EAGAIN); /* limits do not hold for root */
        check_refusal();
        return;
    }
    CHECK_EQ(setrlimit(RLIMIT_NPROC, &(struct rlimit){1, 1}), 0);
    pid_t child = fork(); /* refused as well, where the limit works */
    if (child == 0)
        _exit(0);
    if (child > 0)
        skip("no limit on processes");
    check_refusal();
}

static void no_memory_for_a_thread_is_an_error(void)
{
    size_t now = virtual_bytes();
    CHECK_EQ(setrlimit(RLIMIT_AS, &(struct rlimit){now, now}), 0);
    CHECK_EQ(os_thread_start(run_thread, (void *) 5, "vp-test"), -ENOMEM);
}

/* ---- identity ---- */

static void identities_are_the_kernels(void)
{
    CHECK_EQ(os_process_id(), getpid());
    CHECK_EQ(os_thread_id(), gettid());
    CHECK_EQ(os_page_size(), sysconf(_SC_PAGESIZE));
    pid_t child = fork();
    if (child == 0) {
        CHECK_EQ(os_process_id(), syscall(SYS_getpid));
        CHECK(os_process_id() != (uint32_t) getppid());
        _exit(0);
    }
    check_child(child);
    uint64_t before = os_now_ns();
    usleep(2000);
    CHECK(os_now_ns() - before >= 2 * MS && os_now_ns() - before < 5000 * MS);
}

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(a_wait_ends_in_time),
        CASE(another_value_is_not_waited_for),
        CASE(sleepers_are_woken_by_count),
        CASE(shared_sleepers_are_woken_by_count),
        CASE(processes_wake_each_other),
        CASE(every_signal_is_blocked_and_restored),
        CASE(memory_is_zero_and_can_be_given_back),
        CASE(huge_tables_cost_only_what_they_touch),
        CASE(shared_memory_is_shared_with_children),
        CASE(descriptors_are_raised),
        CASE(full_tables_leave_a_descriptor_where_it_is),
        CASE(files_open_and_errors_are_returned),
        CASE(small_files_are_read_whole),
        CASE(random_bytes_differ),
        CASE(a_thread_runs_with_signals_blocked),
        CASE(a_thread_gets_no_signal_of_the_program),
        CASE(a_thread_touches_nobodys_errno),
        CASE(a_thread_has_a_stack),
        CASE(a_thread_does_not_keep_the_process),
        CASE(a_refused_thread_is_an_error),
        CASE(no_memory_for_a_thread_is_an_error),
        CASE(identities_are_the_kernels),
        CASES_END,
    };
    return services_main(argc, argv, cases);
}
