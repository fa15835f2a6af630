/* One budget for several processes (shim/process/tree.h): real processes, and bytes that nobody in his senses writes. */
#include "../../shim/process/tree.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../platform/os.h"

#define MIB    ((uint64_t) 1 << 20)
#define BUDGET (1000 * MIB)

static struct tree tree;
static char text[SEGMENT_TEXT_MAX];
static int fd;

static void found(void)
{
    fd = tree_found(text);
    cr_assert_geq(fd, 0, "%d", fd);
    tree_join(&tree, text);
    cr_assert_not_null(tree.table);
    cr_assert_eq(tree.self, 0);
}

static void end(void)
{
    if (tree.table)
        munmap(tree.table, sizeof *tree.table);
}

TestSuite(tree, .init = found, .fini = end, .timeout = 60);

static void pause_ms(long ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

/* A process that has a row and does `run`, then, where there is something, `always`, until it is killed. */
static pid_t start_both(void (*run)(uint64_t), void (*always)(uint64_t), uint64_t bytes)
{
    int ready[2];
    char byte;
    cr_assert_eq(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        tree_after_fork(&tree);
        run(bytes);
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;) {
            pause_ms(5);
            if (always)
                always(bytes);
        }
    }
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static pid_t start(void (*run)(uint64_t), uint64_t bytes) { return start_both(run, NULL, bytes); }

static void reap(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static uint64_t allot(uint64_t use, uint64_t firm, uint64_t demand)
{
    return tree_allot(&tree, BUDGET, &(struct claim){.use = use, .firm = firm, .demand = demand});
}

static void do_nothing(uint64_t bytes) { (void) bytes; }

static void do_want(uint64_t bytes) { allot(8 * MIB, 8 * MIB, bytes); }

static void do_need(uint64_t bytes)
{
    if (!tree_admit(&tree, BUDGET, bytes))
        _exit(1);
}

/* What this process has in memory and shares with the children is left to it on top. */
static void is_about(uint64_t bytes, uint64_t wanted)
{
    cr_assert(bytes >= wanted && bytes <= wanted + 20 * MIB, "%lu MiB, not %lu", bytes / MIB, wanted / MIB);
}

static bool within_a_second(bool (*is_so)(void))
{
    for (int i = 0; i < 100; i++) {
        if (is_so())
            return true;
        pause_ms(10);
    }
    return false;
}

/* ---- shares ---- */

Test(tree, alone_it_has_all)
{
    cr_assert_eq(allot(1, 1, 1), BUDGET);
    cr_assert(!tree_has_others(&tree));
    cr_assert(tree_admit(&tree, BUDGET, BUDGET));
    cr_assert(!tree_admit(&tree, BUDGET, BUDGET + 1));
}

Test(tree, without_a_table_it_has_all)
{
    struct tree alone;
    memset(&alone, 0, sizeof alone);
    tree_join(&alone, NULL);
    tree_join(&alone, "nonsense");
    tree_after_fork(&alone);
    cr_assert_eq(tree_allot(&alone, BUDGET, &(struct claim){0}), BUDGET);
    cr_assert(tree_admit(&alone, BUDGET, BUDGET));
    tree_give_back(&alone, 1);
    tree_leave(&alone);
}

static bool has_half(void)
{
    uint64_t bytes = allot(8 * MIB, 8 * MIB, 5000 * MIB);
    return bytes >= BUDGET / 2 && bytes < BUDGET / 2 + 20 * MIB;
}

Test(tree, a_child_has_a_row_of_its_own_and_the_budget_is_divided)
{
    pid_t child = start_both(do_want, do_want, 5000 * MIB);
    cr_assert(within_a_second(has_half));
    cr_assert_eq(tree.processes, 2);
    reap(child);
}

Test(tree, who_pages_has_to_wait_for_what_others_were_granted)
{
    pid_t child = start(do_want, 900 * MIB); /* alone at that time as far as it knows, and granted all of it */
    uint64_t share = allot(8 * MIB, 8 * MIB, 900 * MIB);
    is_about(share, 100 * MIB);
    cr_assert_leq(tree.share, 500 * MIB);
    cr_assert_geq(tree.share, 499 * MIB);
    reap(child);
}

Test(tree, what_one_that_does_not_page_needs_is_not_there_for_others)
{
    pid_t child = start(do_need, 600 * MIB);
    cr_assert(!tree_admit(&tree, BUDGET, 600 * MIB));
    cr_assert(tree_admit(&tree, BUDGET, 390 * MIB));
    reap(child);
}

Test(tree, what_was_given_back_is_there_for_others)
{
    pid_t child = start(do_need, 600 * MIB);
    cr_assert(!tree_admit(&tree, BUDGET, 600 * MIB));
    atomic_store(&tree.table->rows[1].granted, 300 * MIB); /* as tree_give_back() does there */
    cr_assert(tree_admit(&tree, BUDGET, 600 * MIB));
    tree_give_back(&tree, 100 * MIB);
    cr_assert_eq(atomic_load(&tree.table->rows[0].granted), 100 * MIB);
    tree_give_back(&tree, 200 * MIB);
    cr_assert_eq(atomic_load(&tree.table->rows[0].granted), 100 * MIB, "nothing can be had that way");
    reap(child);
}

/* What is used and was touched long ago goes to who needs it, a little at a time; without need it stays. */
Test(tree, an_idle_one_gives_way_when_there_is_not_enough)
{
    struct claim idle = {.use = 500 * MIB, .firm = 8 * MIB, .demand = 510 * MIB, .idle = true};
    cr_assert_eq(tree_allot(&tree, BUDGET, &idle), BUDGET);
    pid_t child = start_both(do_want, do_want, 5000 * MIB);
    uint64_t before = BUDGET;
    for (int i = 0; i < 200 && idle.use > 50 * MIB; i++) {
        uint64_t share = tree_allot(&tree, BUDGET, &idle);
        cr_assert_leq(share, before + 20 * MIB);
        before = share;
        if (share < idle.use)
            idle.use = share;
        idle.demand = idle.use + 10 * MIB;
    }
    cr_assert_leq(idle.use, 50 * MIB);
    idle.idle = false;
    idle.demand = 500 * MIB;
    for (int i = 0; i < 200 && before < 499 * MIB; i++) {
        before = tree_allot(&tree, BUDGET, &idle);
        pause_ms(5);
    }
    is_about(before, 500 * MIB);
    reap(child);
}

/* ---- who takes the same at the same time ---- */

enum { TAKERS = 6, ROUNDS = 300 };

static struct {
    _Atomic uint32_t arrived[2 * ROUNDS + 1];
    _Atomic uint64_t had[ROUNDS];
} *race;

static void meet(int where)
{
    atomic_fetch_add(&race->arrived[where], 1);
    while (atomic_load(&race->arrived[where]) < TAKERS)
        sched_yield();
}

static void take_in_rounds(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        meet(2 * round);
        if (tree_admit(&tree, BUDGET, 260 * MIB))
            atomic_fetch_add(&race->had[round], 260 * MIB);
        meet(2 * round + 1);
        tree_give_back(&tree, 0);
    }
    _exit(0);
}

Test(tree, never_more_is_granted_than_there_is)
{
    race = mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < TAKERS; i++)
        if (fork() == 0) {
            tree_after_fork(&tree);
            take_in_rounds();
        }
    while (wait(NULL) > 0)
        ;
    bool ever = false;
    for (int round = 0; round < ROUNDS; round++) {
        cr_assert_leq(atomic_load(&race->had[round]), BUDGET, "round %d", round);
        ever |= atomic_load(&race->had[round]) > 0;
    }
    cr_assert(ever);
}

/* Somebody who takes 900 MiB in the moment in which we have taken ours, and before we look again. */
static bool somebody_takes;

uint64_t __real_os_now_ns(void);
uint64_t __wrap_os_now_ns(void);

uint64_t __wrap_os_now_ns(void)
{
    if (somebody_takes && atomic_load(&tree.table->rows[0].granted) > 0)
        atomic_store(&tree.table->rows[1].granted, 900 * MIB);
    return __real_os_now_ns();
}

Test(tree, who_took_the_same_as_another_steps_back)
{
    pid_t child = start(do_nothing, 0);
    somebody_takes = true;
    cr_assert(!tree_admit(&tree, BUDGET, 300 * MIB));
    cr_assert_eq(atomic_load(&tree.table->rows[0].granted) / MIB, tree.shared / MIB);
    reap(child);
}

/* ---- life and death ---- */

static bool has_all(void) { return allot(8 * MIB, 8 * MIB, 5000 * MIB) == BUDGET; }

Test(tree, the_share_of_the_dead_is_back_within_a_second)
{
    pid_t other = start(do_need, 100 * MIB), one = start(do_want, 5000 * MIB);
    cr_assert(!has_all());
    kill(one, SIGKILL); /* nobody waits for them yet */
    kill(other, SIGKILL);
    cr_assert(within_a_second(has_all));
    cr_assert_eq(tree.processes, 1);
    cr_assert(waitpid(one, NULL, 0) == one && waitpid(other, NULL, 0) == other);
}

Test(tree, who_lives_in_silence_is_counted)
{
    pid_t child = start(do_nothing, 0);
    pause_ms(600);
    allot(8 * MIB, 8 * MIB, 5000 * MIB);
    pause_ms(600);
    allot(8 * MIB, 8 * MIB, 5000 * MIB);
    cr_assert_eq(tree.processes, 2);
    cr_assert_gt(atomic_load(&tree.table->rows[1].use), 0);
    cr_assert_lt(atomic_load(&tree.table->rows[1].use), 100 * MIB);
    reap(child);
}

Test(tree, who_paged_and_is_silent_is_counted_by_what_it_has)
{
    pid_t child = start(do_want, 900 * MIB);
    pause_ms(600);
    cr_assert_geq(allot(8 * MIB, 8 * MIB, 5000 * MIB), BUDGET - 20 * MIB);
    reap(child);
}

static void *sleep_on(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void do_end_main_thread(uint64_t write_to)
{
    pthread_t thread;
    pthread_create(&thread, NULL, sleep_on, NULL);
    if (write((int) write_to, "x", 1) == 1)
        pthread_exit(NULL);
}

Test(tree, a_process_without_its_main_thread_lives)
{
    int gone[2];
    cr_assert_eq(pipe(gone), 0);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        tree_after_fork(&tree);
        do_end_main_thread((uint64_t) gone[1]);
    }
    char byte;
    cr_assert_eq(read(gone[0], &byte, 1), 1);
    pause_ms(100);
    allot(8 * MIB, 8 * MIB, 5000 * MIB);
    cr_assert_eq(tree.processes, 2);
    reap(child);
}

Test(tree, another_process_of_the_same_number_is_not_the_one_that_died)
{
    pid_t child = start(do_want, 900 * MIB);
    atomic_store(&tree.table->rows[1].birth, 1);
    cr_assert(within_a_second(has_all));
    reap(child);
}

Test(tree, a_new_program_has_the_row_of_the_old_one)
{
    struct tree again;
    memset(&again, 0, sizeof again);
    tree_join(&again, text);
    cr_assert_eq(again.self, 0);
    cr_assert_eq(atomic_load(&tree.table->rows_used), 1);
}

Test(tree, who_was_taken_for_dead_comes_back)
{
    pid_t child = start(do_nothing, 0);
    atomic_store(&tree.table->rows[0].process, (uint32_t) child);
    allot(8 * MIB, 8 * MIB, 5000 * MIB);
    cr_assert_eq(tree.self, 2);
    cr_assert_eq(atomic_load(&tree.table->rows[2].process), os_process_id());
    reap(child);
}

Test(tree, who_leaves_is_gone)
{
    tree_leave(&tree);
    cr_assert_eq(atomic_load(&tree.table->rows[0].process), 0);
    allot(1, 1, 1);
    cr_assert_eq(atomic_load(&tree.table->rows[0].process), 0);
}

static void fill(uint32_t process)
{
    for (int i = 1; i < TREE_ROWS; i++)
        atomic_store(&tree.table->rows[i].process, process);
    atomic_store(&tree.table->rows_used, TREE_ROWS);
}

static int self_of_a_child(void)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        tree_after_fork(&tree);
        if (tree.self == TREE_NOBODY)
            allot(8 * MIB, 8 * MIB, 5000 * MIB); /* goes on without */
        _exit(tree.self == TREE_NOBODY ? 200 : 1);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(tree, a_full_table_has_room_where_one_died)
{
    fill(INT32_MAX); /* no such process */
    cr_assert_eq(self_of_a_child(), 1);
}

Test(tree, a_full_table_of_the_living_is_full)
{
    fill((uint32_t) getppid());
    cr_assert_eq(self_of_a_child(), 200);
}

Test(tree, another_namespace_is_another_tree)
{
    struct tree other;
    memset(&other, 0, sizeof other);
    atomic_store(&tree.table->namespace, 1);
    tree_join(&other, text);
    cr_assert_null(other.table);
}

/* ---- any bytes ---- */

static volatile bool scribbling;

static void *scribble(void *seed)
{
    uint64_t *words = (uint64_t *) tree.table;
    unsigned random = (unsigned) (uintptr_t) seed;
    while (scribbling)
        words[(unsigned) rand_r(&random) % (sizeof *tree.table / 8)] =
            (uint64_t) rand_r(&random) << (rand_r(&random) % 40);
    return NULL;
}

static void fill_randomly(unsigned round)
{
    static const unsigned char bytes[] = {0, 0xff, 1, 0x80};
    unsigned char *at = (unsigned char *) tree.table;
    unsigned random = round;
    if (round % 8 < 4)
        memset(at, bytes[round % 4], sizeof *tree.table);
    for (size_t i = 0; i < sizeof *tree.table; i += round % 8 < 4 ? 97 : 1)
        at[i] = (unsigned char) rand_r(&random);
}

static void shares_are_possible(void)
{
    uint64_t most = BUDGET + tree.shared + 20 * MIB;
    uint64_t share = allot(50 * MIB, 30 * MIB, 5000 * MIB);
    cr_assert_leq(share, most);
    cr_assert_geq(share, 30 * MIB);
    cr_assert(!tree_admit(&tree, BUDGET, BUDGET + 1));
    tree_admit(&tree, BUDGET, 10 * MIB);
    tree_give_back(&tree, 5 * MIB);
    tree_use_of_others(&tree);
    cr_assert_leq(tree.processes, TREE_ROWS + 1);
}

Test(tree, any_bytes_give_a_possible_share)
{
    for (unsigned round = 0; round < 400; round++) {
        fill_randomly(round);
        shares_are_possible();
    }
}

Test(tree, bytes_that_change_all_the_time_give_a_possible_share)
{
    pthread_t thread;
    scribbling = true;
    cr_assert_eq(pthread_create(&thread, NULL, scribble, (void *) 7), 0);
    for (int round = 0; round < 400; round++)
        shares_are_possible();
    scribbling = false;
    pthread_join(thread, NULL);
}

/* ---- the segment ---- */

Test(tree, its_size_stays)
{
    struct stat status;
    cr_assert_neq(ftruncate(fd, 0), 0);
    cr_assert_neq(ftruncate(fd, 1 << 20), 0);
    cr_assert_eq(fstat(fd, &status), 0);
    cr_assert_eq(status.st_size, sizeof *tree.table);
    cr_assert_eq(status.st_mode & 0777, 0600);
}

Test(tree, its_descriptor_is_ours_high_and_open_over_exec)
{
    cr_assert_geq(fd, 100);
    cr_assert(os_fd_is_own(fd));
    cr_assert_eq(fcntl(fd, F_GETFD), 0);
}

Test(tree, where_it_was_closed_another_process_has_it)
{
    pid_t child = start(do_nothing, 0);
    os_close(fd);
    cr_assert(!os_fd_is_own(fd));
    cr_assert_eq(segment_find(text, sizeof *tree.table), fd, "at its number again");
    cr_assert(os_fd_is_own(fd));
    reap(child);
}

Test(tree, what_is_no_segment_is_not_found)
{
    char other[64];
    struct stat status;
    cr_assert_eq(segment_find("", sizeof *tree.table), -ENOENT);
    cr_assert_eq(segment_find("99999999999999999999 1", sizeof *tree.table), -ENOENT);
    cr_assert_eq(segment_find(text, sizeof *tree.table + 4096), -ENOENT, "another size");
    int plain = memfd_create("plain", MFD_ALLOW_SEALING); /* may shrink under our feet */
    cr_assert_eq(ftruncate(plain, sizeof *tree.table), 0);
    cr_assert_eq(fstat(plain, &status), 0);
    snprintf(other, sizeof other, "%d %lu", plain, status.st_ino);
    cr_assert_eq(segment_find(other, sizeof *tree.table), -ENOENT);
}
