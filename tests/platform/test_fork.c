/* fork(): parent and child go on apart from each other. */
#include "contract.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 16

/* Parent and child take turns: each waits for the other's byte. */
static int turns[2][2];

static void make_turns(void)
{
    CHECK_EQ(pipe(turns[0]), 0);
    CHECK_EQ(pipe(turns[1]), 0);
}

static void pass_turn(bool child) { CHECK_EQ(write(turns[child][1], "", 1), 1); }

static void await_turn(bool child)
{
    char byte;
    CHECK_EQ(read(turns[!child][0], &byte, 1), 1);
}

/* Forks; each side keeps its own ends, so that the other one's failure is noticed. */
static pid_t fork_sides(void)
{
    make_turns();
    pid_t child = fork_arena();
    close(turns[child > 0][1]);
    close(turns[child == 0][0]);
    return child;
}

/* Even pages have content. */
static void start_half_filled(void)
{
    start_armed(PAGES);
    for (size_t i = 0; i < PAGES; i += 2)
        fill_page(page_at(i), i, true);
}

static void absent_pages_trap_in_both(void)
{
    start_half_filled();
    pid_t child = fork_sides();
    unsigned before = trap_count();
    if (child == 0) {
        check_read_traps(page_at(1), heal_zero);
        check_write_traps(page_at(3) + 8, heal_zero);
        fill_page(page_at(5), 55, true);
        for (size_t i = 0; i < PAGES; i += 2)
            CHECK(pattern_is((void *) page_at(i), pf.page, i));
        CHECK_EQ(trap_count() - before, 2);
        pass_turn(true);
        await_turn(true);
        CHECK(all_zero((void *) page_at(1), pf.page));
        CHECK(pattern_is((void *) page_at(5), pf.page, 55));
        check_read_traps(page_at(7), heal_zero); /* the parent filled its own */
        CHECK(all_zero((void *) page_at(7), pf.page));
        _exit(0);
    }
    await_turn(false);
    for (size_t i = 0; i < PAGES; i++)
        CHECK_EQ(is_resident(page_at(i)), i % 2 == 0);
    check_read_traps(page_at(1), heal_zero);
    check_write_traps(page_at(3), heal_zero);
    fill_page(page_at(7), 77, true);
    CHECK_EQ(trap_count() - before, 2);
    pass_turn(false);
    check_child(child);
    CHECK(pattern_is((void *) page_at(7), pf.page, 77));
    check_read_traps(page_at(11), heal_zero);
}

static void writes_stay_apart(void)
{
    start_half_filled();
    pid_t child = fork_sides();
    if (child == 0) {
        store(page_at(0), 1);
        pass_turn(true);
        await_turn(true);
        CHECK_EQ(load(page_at(0)), 1);
        CHECK(pattern_is((void *) page_at(2), pf.page, 2));
        _exit(0);
    }
    await_turn(false);
    CHECK(pattern_is((void *) page_at(0), pf.page, 0));
    store(page_at(2), 2);
    pass_turn(false);
    check_child(child);
    CHECK_EQ(load(page_at(2)), 2);
    CHECK_EQ(trap_count(), 0);
}

/* What eviction does, on one side, while the other looks on. */
static void evict(size_t page)
{
    static unsigned char scratch[KIB(64)];
    CHECK_EQ(OP(protect, page_at(page), pf.page), 0);
    const void *content = OP(peek, page_at(page), scratch);
    CHECK(content && pattern_is(content, pf.page, page));
    CHECK_EQ(OP(drop, &(struct extent){page_at(page), pf.page}, 1), 0);
    CHECK(!is_resident(page_at(page)));
}

static void evict_and_fill(size_t page)
{
    evict(page);
    fill_page(page_at(page), page + 100, true);
    CHECK(pattern_is((void *) page_at(page), pf.page, page + 100));
    CHECK_EQ(OP(protect, page_at(page), pf.page), 0);
    check_write_traps(page_at(page), heal_unprotect);
}

static void both_can_evict(void)
{
    start_half_filled();
    pid_t child = fork_sides();
    if (child == 0) {
        evict_and_fill(0);
        evict(2);
        pass_turn(true);
        await_turn(true);
        CHECK(pattern_is((void *) page_at(4), pf.page, 4));
        CHECK(pattern_is((void *) page_at(6), pf.page, 6));
        _exit(0);
    }
    await_turn(false);
    CHECK(pattern_is((void *) page_at(0), pf.page, 0));
    CHECK(pattern_is((void *) page_at(2), pf.page, 2));
    evict_and_fill(4);
    evict(6);
    pass_turn(false);
    check_child(child);
    check_read_traps(page_at(6), heal_zero);
}

static void ranges_open_and_close_apart(void)
{
    start_half_filled();
    pid_t child = fork_sides();
    if (child == 0) {
        CHECK_EQ(OP(close, page_at(0), 4 * pf.page), 0);
        CHECK_EQ(OP(open, page_at(100), 4 * pf.page), 0);
        check_read_traps(page_at(100), heal_zero);
        check_closed(page_at(2));
        _exit(0);
    }
    check_child(child);
    CHECK(pattern_is((void *) page_at(2), pf.page, 2));
    check_closed(page_at(100));
    check_read_traps(page_at(3), heal_zero);
}

static void grandchildren_trap_too(void)
{
    start_half_filled();
    pid_t child = fork_arena();
    if (child == 0) {
        pid_t grandchild = fork_arena();
        check_read_traps(page_at(1), heal_zero);
        CHECK(pattern_is((void *) page_at(2), pf.page, 2));
        if (grandchild == 0)
            _exit(0);
        check_child(grandchild);
        check_read_traps(page_at(3), heal_zero);
        _exit(0);
    }
    check_child(child);
    check_read_traps(page_at(1), heal_zero);
}

/* The parent is gone: nothing of it may be needed. */
static void a_child_outlives_its_parent(void)
{
    make_turns();
    start_half_filled();
    uint64_t end = milliseconds() + 200;
    pid_t parent = fork_arena();
    if (parent == 0) {
        if (fork_arena() > 0)
            _exit(0);
        for (pid_t parent_then = getppid(); getppid() == parent_then && milliseconds() < end;)
            usleep(1000);
        check_read_traps(page_at(1), heal_zero);
        check_read_traps(page_at(3), heal_zero);
        CHECK(pattern_is((void *) page_at(2), pf.page, 2));
        pass_turn(true);
        _exit(0);
    }
    check_child(parent);
    close(turns[1][1]);
    await_turn(false); /* end of file where it failed */
}

static void an_unarmed_parent_arms_later(void)
{
    start(GIB(16));
    CHECK_EQ(OP(open, pf.base, PAGES * pf.page), 0);
    store(page_at(0), 5);
    pid_t child = fork_arena();
    CHECK_EQ(OP(arm, &(struct extent){pf.base, PAGES * pf.page}, 1), 0);
    CHECK_EQ(OP(unprotect, page_at(0), pf.page), 0);
    CHECK_EQ(load(page_at(0)), 5);
    check_read_traps(page_at(1), heal_zero);
    if (child == 0)
        _exit(0);
    check_child(child);
    check_read_traps(page_at(2), heal_zero);
}

/* A child that nobody has told of: it may die of an absent page, but not take it for zeros. Before and after a fork that
 * was told of, which has to let the memory through. */
static void strangers_read_no_zeros(void)
{
    start_half_filled();
    for (int i = 0; i < 2; i++) {
        int status;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL);
            signal(SIGBUS, SIG_DFL);
            load(page_at(1));
            _exit(0);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS));
        child = fork_arena();
        check_read_traps(page_at(3 + 2 * (size_t) i), heal_zero);
        CHECK(pattern_is((void *) page_at(2), pf.page, 2));
        if (child == 0)
            _exit(0);
        check_child(child);
    }
}

/* Nothing can be opened in the child. */
static void a_child_without_descriptors_reads_no_zeros(void)
{
    int status;
    struct rlimit none = {0, 0};
    start_half_filled();
    CHECK_EQ(OP(fork, FORK_BEFORE), 0);
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_NOFILE, &none);
        CHECK(OP(fork, FORK_CHILD) < 0);
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        load(page_at(1));
        _exit(0);
    }
    CHECK_EQ(OP(fork, FORK_PARENT), 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS));
    check_read_traps(page_at(1), heal_zero);
}

static void forks_leak_no_descriptors(void)
{
    start_half_filled();
    size_t before = count_descriptors();
    for (int i = 0; i < 200; i++) {
        pid_t child = fork_arena();
        if (child == 0) {
            CHECK_EQ(count_descriptors(), before);
            check_read_traps(page_at(1), heal_zero);
            _exit(0);
        }
        check_child(child);
    }
    CHECK_EQ(count_descriptors(), before);
    check_read_traps(page_at(1), heal_zero);
}

static void generations_leak_no_descriptors(void)
{
    start_half_filled();
    size_t before = count_descriptors();
    for (int i = 0; i < 50; i++) {
        pid_t child = fork_arena();
        if (child > 0) {
            check_child(child);
            _exit(0);
        }
        CHECK_EQ(count_descriptors(), before);
    }
    check_read_traps(page_at(1), heal_zero);
}

static void signal_masks_survive(void)
{
    sigset_t some, now;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    CHECK_EQ(sigprocmask(SIG_SETMASK, &some, NULL), 0);
    start_half_filled();
    pid_t child = fork_arena();
    CHECK_EQ(sigprocmask(SIG_SETMASK, NULL, &now), 0);
    CHECK(sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2) && !sigismember(&now, SIGSEGV));
    if (child == 0)
        _exit(0);
    check_child(child);
}

/* Daemons start as root, become somebody else, and fork their workers. */
static void a_process_that_gave_up_root_forks(void)
{
    if (geteuid() != 0)
        skip("not root");
    if (pf.caps.kernel_faults)
        skip("its privilege is gone");
    start_half_filled();
    CHECK_EQ(setresuid(65534, 65534, 65534), 0);
    pid_t child = fork_arena();
    evict_and_fill(0);
    check_read_traps(page_at(1), heal_zero);
    if (child == 0)
        _exit(0);
    check_child(child);
}

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(absent_pages_trap_in_both),
        CASE(writes_stay_apart),
        CASE(both_can_evict),
        CASE(ranges_open_and_close_apart),
        CASE(grandchildren_trap_too),
        CASE(a_child_outlives_its_parent),
        CASE(an_unarmed_parent_arms_later),
        CASE(strangers_read_no_zeros),
        CASE(a_child_without_descriptors_reads_no_zeros),
        CASE(forks_leak_no_descriptors),
        CASE(generations_leak_no_descriptors),
        CASE(signal_masks_survive),
        CASE(a_process_that_gave_up_root_forks),
        CASES_END,
    };
    return contract_main(argc, argv, cases);
}
