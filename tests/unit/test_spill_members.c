/* The spill tier's family: who forks, dies, is killed, execs, and what becomes of the space and of the others' records. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/tier/spill.h"
#include "tier_model.h"

enum { PAGE = 4096, SEGMENT = 262144, PAGES = 2560, RUNS = PAGES / 64 };

static struct {
    int lock_error, reopen_error; /* what the system says to every lock and every second open file description */
    bool false_locks;             /* every lock is granted to everybody */
} disk;

static int disk_reopen(void *context, int fd)
{
    return disk.reopen_error ? disk.reopen_error : spill_io_default.reopen(context, fd);
}

static int disk_lock(void *context, int fd, uint32_t number)
{
    return disk.false_locks ? 0 : disk.lock_error ? disk.lock_error : spill_io_default.lock(context, fd, number);
}

static void reset(void) { memset(&disk, 0, sizeof disk); }

TestSuite(spill_members, .init = reset, .timeout = 60);

static void make(struct model *model, uint64_t max_bytes, size_t pages)
{
    static struct spill_io io;
    struct tier *tier = NULL;
    io = spill_io_default;
    io.reopen = disk_reopen;
    io.lock = disk_lock;
    struct spill_config config = {.directory = "/var/tmp", .max_bytes = max_bytes, .page_size = PAGE, .io = &io};
    cr_assert_eq(spill_new(&tier, &config), 0);
    model_init(model, tier, pages, PAGE, spill_scratch_size(PAGE), SPILL_SEGMENT_RECORDS);
}

static void end(struct model *model)
{
    spill_free(model->tier);
    model_fini(model);
}

static void drop_all(struct model *model)
{
    for (uint64_t page = 1; page <= model->count; page++)
        model_drop(model, page);
}

/* All pages anew: about 5 MiB, and twice that while old and new are there. */
static bool next_generation(struct model *model)
{
    bool whole = true;
    drop_all(model);
    for (int i = 0; i < RUNS; i++)
        whole &= model_store(model, 64) == 64;
    return whole;
}

/* A child that a failed test leaves behind ends in the end. */
static void end_in_time(void)
{
    signal(SIGALRM, SIG_DFL);
    alarm(30);
}

/* Forks as the shim does. */
static pid_t spill_fork(struct model *model)
{
    spill_before_fork(model->tier);
    pid_t pid = fork();
    if (pid == 0) {
        spill_after_fork_child(model->tier);
        end_in_time();
    } else {
        spill_after_fork_parent(model->tier);
    }
    cr_assert_geq(pid, 0);
    return pid;
}

static int status_of(pid_t pid)
{
    int status = -1;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static void end_it(pid_t pid)
{
    kill(pid, SIGKILL);
    status_of(pid);
}

/* A gate between processes: who waits goes on when who opens writes, or has died. */
struct gate {
    int fds[2];
};

static struct gate new_gate(void)
{
    struct gate gate;
    cr_assert_eq(pipe2(gate.fds, O_CLOEXEC), 0);
    return gate;
}

static void open_gate(const struct gate *gate) { cr_assert_eq(write(gate->fds[1], "x", 1), 1); }

static bool wait_at(struct gate *gate)
{
    char byte;
    close(gate->fds[1]);
    gate->fds[1] = -1;
    return read(gate->fds[0], &byte, 1) == 1;
}

/* ---- children that end without a word ---- */

enum ending { KILLED, EXITS, EXECS, KILLED_UNPREPARED };

static pid_t child_that(struct model *model, enum ending ending)
{
    struct gate ready = new_gate();
    spill_before_fork(model->tier);
    pid_t pid = fork();
    if (pid == 0) {
        end_in_time();
        if (ending != KILLED_UNPREPARED)
            spill_after_fork_child(model->tier);
        if (ending == EXITS)
            _exit(0);
        if (ending == EXECS)
            execl("/bin/sleep", "sleep", "30", (char *) NULL);
        if (ending == KILLED)
            model_store(model, 64);
        open_gate(&ready);
        for (;;)
            pause();
    }
    spill_after_fork_parent(model->tier);
    if (ending == EXITS)
        status_of(pid);
    else
        wait_at(&ready);
    if (ending == KILLED || ending == KILLED_UNPREPARED)
        end_it(pid);
    if (ending == EXECS)
        usleep(50000); /* its descriptors are closed one after another */
    close(ready.fds[0]);
    return pid;
}

/* Each child keeps a generation of 5 MiB: more than the file has room for, were it not given back. */
static void space_comes_back(enum ending ending, int children)
{
    struct model model;
    pid_t pids[64];
    make(&model, 32 << 20, PAGES);
    cr_assert(next_generation(&model));
    for (int i = 0; i < children; i++) {
        pids[i] = child_that(&model, ending);
        cr_assert(next_generation(&model), "no room after %d children", i + 1);
        model_verify_all(&model);
    }
    for (int i = 0; ending == EXECS && i < children; i++)
        end_it(pids[i]);
    end(&model);
}

Test(spill_members, killed_children_give_back) { space_comes_back(KILLED, 20); }
Test(spill_members, children_that_exit_give_back) { space_comes_back(EXITS, 20); }
Test(spill_members, children_that_exec_give_back_while_they_run) { space_comes_back(EXECS, 12); }
Test(spill_members, children_killed_before_their_handler_give_back) { space_comes_back(KILLED_UNPREPARED, 20); }

Test(spill_members, fifty_children_in_a_row_do_not_grow_the_file)
{
    struct model model;
    struct stat stat;
    int fds[2];
    make(&model, 1u << 30, PAGES);
    cr_assert(next_generation(&model));
    for (int i = 0; i < 50; i++) {
        child_that(&model, i % 2 ? EXITS : KILLED);
        cr_assert(next_generation(&model));
    }
    model_verify_all(&model);
    spill_descriptors(model.tier, fds);
    cr_assert_eq(fstat(fds[0], &stat), 0);
    cr_assert_leq(stat.st_size, 64 << 20, "it grows by as much, and once is enough");
    cr_assert_leq(model_stats(&model).held_bytes, 64 << 20);
    end(&model);
}

/* What only a dead child still shared can be cleaned again. */
Test(spill_members, what_the_dead_shared_can_be_picked)
{
    struct model model;
    make(&model, 32 << 20, PAGES);
    cr_assert(next_generation(&model));
    pid_t pid = spill_fork(&model);
    if (pid == 0)
        for (;;)
            pause();
    drop_all(&model);
    cr_assert_eq(model_store(&model, 64), 64);
    cr_assert_eq(model_stats(&model).errors, 0);
    end_it(pid);
    usleep(150000); /* it is not asked all the time */
    for (int i = 0; i < 5; i++)
        cr_assert_geq(model_clean(&model, PICK_EMPTIEST, 100, false), 0);
    model_verify_all(&model);
    end(&model);
}

/* ---- the living keep what is theirs ---- */

/* Everything that takes space away from those it should not: generations, and children that die. */
static void press(struct model *model, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        pid_t pid = spill_fork(model);
        if (pid == 0)
            _exit(0);
        status_of(pid);
        int tries = 0;
        while (!next_generation(model) && tries++ < 20)
            model_clean(model, PICK_EMPTIEST, 99, false);
        cr_assert_lt(tries, 20, "no room after %d rounds", i);
        model_verify_all(model);
    }
}

Test(spill_members, a_living_child_loses_nothing)
{
    struct model model;
    struct gate go = new_gate();
    make(&model, 32 << 20, PAGES);
    cr_assert(next_generation(&model));
    pid_t pid = spill_fork(&model);
    if (pid == 0) {
        if (!wait_at(&go))
            _exit(2);
        model_verify_all(&model);
        model.random = 4711;
        press(&model, 3);
        _exit(0);
    }
    press(&model, 20);
    open_gate(&go);
    cr_assert_eq(status_of(pid), 0);
    press(&model, 5);
    end(&model);
}

Test(spill_members, a_grandchild_outlives_its_parent)
{
    struct model model;
    struct gate go = new_gate(), said = new_gate();
    make(&model, 32 << 20, PAGES);
    cr_assert(next_generation(&model));
    pid_t pid = spill_fork(&model);
    if (pid == 0) {
        cr_assert(next_generation(&model));
        if (spill_fork(&model) == 0) {
            if (!wait_at(&go))
                _exit(2);
            model_verify_all(&model);
            press(&model, 2);
            open_gate(&said);
        }
        _exit(0);
    }
    cr_assert_eq(status_of(pid), 0);
    press(&model, 20);
    open_gate(&go);
    cr_assert(wait_at(&said), "the grandchild failed");
    usleep(50000);
    press(&model, 5); /* and its part comes back too: three generations would not fit */
    end(&model);
}

/* The founder's end is a death like any other. */
Test(spill_members, children_outlive_the_founder)
{
    struct model model;
    struct gate said = new_gate();
    make(&model, 32 << 20, PAGES);
    pid_t founder = fork(); /* before the file is anybody's: as if it had opened it itself */
    if (founder == 0) {
        end(&model);
        make(&model, 32 << 20, PAGES);
        cr_assert(next_generation(&model));
        if (spill_fork(&model) == 0) {
            usleep(100000);
            model_verify_all(&model);
            press(&model, 10);
            open_gate(&said);
        }
        _exit(0);
    }
    cr_assert_eq(status_of(founder), 0);
    cr_assert(wait_at(&said), "the child failed");
    end(&model);
}

/* _Fork() and clone() call no handlers. Such a child has no slot and no counts, but its parent's descriptors: the parent
 * counts as alive, and what it had at its end stays. */
Test(spill_members, who_was_made_behind_our_back_is_not_taken_for_dead)
{
    struct model model;
    struct gate go = new_gate(), said = new_gate();
    make(&model, 32 << 20, PAGES);
    cr_assert(next_generation(&model));
    pid_t pid = spill_fork(&model);
    if (pid == 0) {
        if (fork() == 0) {
            if (!wait_at(&go))
                _exit(2);
            model_verify_all(&model);
            drop_all(&model); /* not its to drop */
            if (model_store(&model, 1) != -EPERM)
                _exit(3);
            open_gate(&said);
        }
        _exit(0);
    }
    cr_assert_eq(status_of(pid), 0);
    press(&model, 20);
    open_gate(&go);
    cr_assert(wait_at(&said), "the child behind our back failed");
    press(&model, 5);
    end(&model);
}

/* It forks by the handlers: its child has no counts either, takes nothing away and gives nothing back. */
Test(spill_members, who_was_made_behind_our_back_may_fork)
{
    struct model model;
    make(&model, 32 << 20, PAGES);
    cr_assert(next_generation(&model));
    for (int founded = 0; founded < 2; founded++) { /* before and after there is a table */
        pid_t pid = fork();
        if (pid == 0) {
            pid_t next = spill_fork(&model);
            model_verify_all(&model);
            drop_all(&model);
            if (next == 0)
                _exit(model_store(&model, 1) == -EPERM ? 0 : 3);
            int status = status_of(next);
            spill_free(model.tier);
            _exit(status == 0 ? 0 : 4);
        }
        cr_assert_eq(status_of(pid), 0);
        model_verify_all(&model);
        press(&model, 10);
    }
    end(&model);
}

/* ---- forks that fail ---- */

/* What happens between the handlers and the news of the failure must not be counted away. */
static void failing_forks(void)
{
    struct model model;
    make(&model, 32 << 20, PAGES);
    cr_assert(next_generation(&model));
    for (int i = 0; i < 400; i++) {
        spill_before_fork(model.tier);
        spill_after_fork_parent(model.tier);
        for (uint64_t page = 1 + (uint64_t) i % 7; page <= model.count; page += 7)
            model_drop(&model, page);
        model_store_cleaning(&model, 64);
        spill_fork_failed(model.tier);
        if (i % 20 == 0)
            model_verify_all(&model);
    }
    for (int i = 0; i < 20; i++)
        cr_assert(next_generation(&model));
    model_verify_all(&model);
    end(&model);
}

Test(spill_members, failed_forks_leave_nothing) { failing_forks(); }

Test(spill_members, failed_forks_leave_nothing_without_locks)
{
    disk.lock_error = -EINVAL;
    failing_forks();
}

/* ---- where nobody can be told alive ---- */

static void family_without_liveness(void)
{
    struct model model;
    struct gate go = new_gate();
    make(&model, 64 << 20, PAGES);
    cr_assert(next_generation(&model));
    pid_t pid = spill_fork(&model);
    if (pid == 0) {
        if (!wait_at(&go))
            _exit(2);
        model_verify_all(&model);
        cr_assert(next_generation(&model));
        pid_t next = spill_fork(&model);
        model_verify_all(&model);
        if (next == 0)
            drop_all(&model);
        else if (status_of(next) != 0)
            _exit(3);
        spill_free(model.tier);
        _exit(0);
    }
    usleep(150000);
    model_clean(&model, PICK_EMPTIEST, 100, false); /* an occasion to look for the dead */
    for (int i = 0; i < 10; i++)
        cr_assert(next_generation(&model));
    open_gate(&go);
    cr_assert_eq(status_of(pid), 0);
    for (int i = 0; i < 30; i++)
        cr_assert(next_generation(&model));
    model_verify_all(&model);
    end(&model);
}

Test(spill_members, without_locks_all_is_as_before)
{
    disk.lock_error = -EINVAL;
    family_without_liveness();
}

Test(spill_members, without_a_second_description_all_is_as_before)
{
    disk.reopen_error = -ENOENT;
    family_without_liveness();
}

Test(spill_members, locks_that_everybody_gets_are_not_believed)
{
    disk.false_locks = true;
    family_without_liveness();
}

/* A child that could not be given a descriptor of its own shares its parent's locks: it takes nobody for dead. */
Test(spill_members, a_child_without_a_slot_reaps_nobody)
{
    struct model model;
    struct gate go = new_gate();
    make(&model, 64 << 20, PAGES);
    cr_assert(next_generation(&model));
    press(&model, 1);
    disk.reopen_error = -EMFILE;
    pid_t pid = spill_fork(&model);
    disk.reopen_error = 0;
    if (pid == 0) {
        model.random = 4711;
        press(&model, 2); /* its own children have slots; whose parts only the parent can give back */
        for (int i = 0; i < 30; i++)
            cr_assert(next_generation(&model)); /* through the whole file: all the parent's records stay */
        open_gate(&go);
        spill_free(model.tier);
        _exit(0);
    }
    wait_at(&go);
    model_verify_all(&model);
    cr_assert_eq(status_of(pid), 0);
    press(&model, 5);
    end(&model);
}

Test(spill_members, more_children_than_slots)
{
    enum { CHILDREN = 262 };
    struct model model;
    static pid_t pids[CHILDREN];
    struct gate go = new_gate();
    make(&model, 64 << 20, PAGES);
    cr_assert(next_generation(&model));
    for (int i = 0; i < CHILDREN; i++) {
        pids[i] = spill_fork(&model);
        if (pids[i] == 0) {
            if (!wait_at(&go))
                _exit(2);
            if (i < 2 || i > CHILDREN - 3)
                model_verify_all(&model);
            if (i > 200) /* some without a slot among them */
                spill_free(model.tier);
            _exit(0);
        }
    }
    for (int i = 0; i < 5; i++)
        cr_assert(next_generation(&model));
    for (int i = 0; i < CHILDREN; i++)
        open_gate(&go);
    for (int i = 0; i < CHILDREN; i++)
        cr_assert_eq(status_of(pids[i]), 0, "child %d", i);
    press(&model, 20);
    end(&model);
}

/* ---- killed anywhere ---- */

/* Stores, drops, picks and forks until it is killed. */
static void work(struct model *model, uint64_t seed)
{
    model->random = seed;
    for (;;) {
        if (model_store(model, 32) < 0)
            for (uint64_t page = 1; page <= model->count; page += 3)
                model_drop(model, page);
        if (model_random(&model->random) % 8 == 0)
            model_clean(model, PICK_EMPTIEST, 80, false);
        for (int i = 0; i < 10; i++)
            model_verify(model, 1 + model_random(&model->random) % model->count);
        if (model_random(&model->random) % 8 == 0 && spill_fork(model) == 0) {
            model_verify_all(model);
            _exit(0);
        }
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}

/* One of several that survive, and reap at the same time: makes children and kills them in the middle of it all. */
static int survive(struct model *model, uint64_t seed)
{
    uint64_t random = seed;
    for (int i = 0; i < 25; i++) {
        pid_t pid = spill_fork(model);
        if (pid == 0)
            work(model, seed + (uint64_t) i);
        for (int j = 0; j < 10; j++) {
            if (model_store(model, 32) < 0)
                for (uint64_t page = 1 + model_random(&random) % 3; page <= model->count; page += 3)
                    model_drop(model, page);
            model_verify(model, 1 + model_random(&random) % model->count);
        }
        usleep((useconds_t) (model_random(&random) % 20000));
        end_it(pid);
        model_verify_all(model);
    }
    return model_stats(model).errors == 0 ? 0 : 5;
}

Test(spill_members, killed_anywhere_nobody_else_loses_a_byte)
{
    enum { SURVIVORS = 3 };
    struct model model;
    pid_t pids[SURVIVORS];
    make(&model, 32 << 20, 1000);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(model_store(&model, 64), 64);
    for (int i = 0; i < SURVIVORS; i++) {
        pids[i] = spill_fork(&model);
        if (pids[i] == 0)
            _exit(survive(&model, 1000 * (uint64_t) (i + 1)));
    }
    cr_assert_eq(survive(&model, 77), 0);
    for (int i = 0; i < SURVIVORS; i++)
        cr_assert_eq(status_of(pids[i]), 0, "survivor %d", i);
    usleep(100000); /* orphans of the killed */
    drop_all(&model);
    int stored = 0;
    while (model_store(&model, 64) == 64 && stored < 1000)
        drop_all(&model), stored++;
    cr_assert_eq(stored, 1000, "hardly any space may be lost");
    end(&model);
}
