/*
 * tree: processes under one vprun that share its budget. The first argument says what is looked at:
 *
 *   cap MIB SECONDS   eight processes grow and shrink against each other, all of which check their data; half of them are
 *                     programs of their own, and one has left the session. Together they stay within MIB and 5 %.
 *   forks MIB SECONDS  eight children write what they have inherited of a parent that pages. Nobody hears of it when memory
 *                     that was shared becomes two; soon afterwards they are within the budget again.
 *   readers MIB       four children read what they have inherited, half of the budget: that counts once, and stays.
 *   death MIB         two want all; one is killed, and within a second the other may have what it had.
 *   hostile MIB SECONDS   four page, while the fifth scribbles over the segment that they share: all data right.
 *   join              a program that was started with all descriptors closed finds the others all the same.
 *   arm MIB           what fits into the budget, but not into the share beside another's, is paged.
 *
 * The peak that "cap" saw goes to stderr.
 */
#include "../victim.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "../../../shim/vp.h"

#define CHILDREN 8
#define BLOCK    (4 * MIB)
#define BLOCKS   1024

static char **arguments;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static struct vp_stats stats(void)
{
    int (*vp)(struct vp_stats *, size_t);
    struct vp_stats out;
    void *symbol = dlsym(RTLD_DEFAULT, "vp_stats");
    CHECK(symbol);
    memcpy(&vp, &symbol, sizeof vp);
    CHECK(vp(&out, sizeof out) == 0);
    return out;
}

/* ---- memory that says what it is ---- */

static uint64_t *blocks[BLOCKS];
static uint64_t seeds[BLOCKS];
static size_t count;

/* A page: a third of it random. */
static uint64_t word(uint64_t seed, size_t i)
{
    return i % 3 ? seed : mix64(seed + i);
}

static void grow(uint64_t *random)
{
    uint64_t *block = big_malloc(BLOCK), seed = random_next(random);
    for (size_t i = 0; i < BLOCK / 8; i++)
        block[i] = word(seed, i);
    seeds[count] = seed;
    blocks[count++] = block;
}

static void check_block(size_t at)
{
    for (size_t i = 0; i < BLOCK / 8; i++)
        if (blocks[at][i] != word(seeds[at], i))
            die("process %d: block %zu word %zu is wrong", getpid(), at, i);
}

static void shrink(size_t at)
{
    check_block(at);
    free(blocks[at]);
    count--;
    blocks[at] = blocks[count];
    seeds[at] = seeds[count];
}

/* Goes from one size to another, drawn at random, up to `most` blocks. */
static void come_and_go(uint64_t seed, size_t most, double seconds)
{
    uint64_t random = seed;
    for (double end = now() + seconds; now() < end;) {
        size_t target = random_next(&random) % most + 1;
        while (count < target)
            grow(&random);
        for (int i = 0; i < 8; i++)
            check_block(random_next(&random) % count);
        target = random_next(&random) % count;
        while (count > target)
            shrink(random_next(&random) % count);
        pause_ms(50);
    }
    while (count)
        shrink(0);
}

/* ---- the others ---- */

/* Bytes of this process's family in memory, what they share counted once. */
static size_t proportional(pid_t pid)
{
    char path[64], line[256];
    size_t kib = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Pss: %zu kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib * 1024;
}

/* A child that does `run`; it does not outlive this process. */
static pid_t start(void (*run)(size_t number), size_t number)
{
    const pid_t parent = getpid(), pid = fork();
    CHECK(pid >= 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    run(number);
    _exit(0);
}

static void check_ended(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        die("a child has ended with status %x", (unsigned)status);
}

static size_t budget;
static double seconds;

/* ---- cap ---- */

static void cap_worker(size_t number)
{
    come_and_go(number, budget / 2 / BLOCK, seconds);
}

static void cap_start(size_t number)
{
    char text[16];
    if (number == 1)
        CHECK(setsid() > 0);
    if (number % 2 == 0)
        cap_worker(number);
    snprintf(text, sizeof text, "%zu", number);
    if (number % 2)
        execl("/proc/self/exe", "tree", "worker", arguments[2], arguments[3], text, (char *)NULL);
}

/* Checks what it was given and writes it anew. */
static void rewrite(size_t number)
{
    uint64_t random = number;
    for (double end = now() + seconds; now() < end;) {
        size_t at = random_next(&random) % count;
        check_block(at);
        uint64_t seed = seeds[at] = random_next(&random);
        for (size_t i = 0; i < BLOCK / 8; i++)
            blocks[at][i] = word(seed, i);
    }
    for (size_t i = 0; i < count; i++)
        check_block(i);
}

/* Nobody can look at eight processes at the same moment: memory that one gives and another takes while we look from the
 * one to the other is counted twice. What is more than allowed is looked at again, at once. */
static size_t sum(const pid_t *pids)
{
    size_t bytes = proportional(getpid());
    for (size_t i = 0; i < CHILDREN; i++)
        bytes += proportional(pids[i]);
    return bytes;
}

static void cap(void (*run)(size_t number), double from)
{
    pid_t pids[CHILDREN];
    size_t peak = 0, allowed = budget + budget / 20;
    for (size_t i = 0; i < CHILDREN; i++)
        pids[i] = start(run, i);
    pause_ms((long)(from * 1000));
    for (double end = now() + seconds - from; now() < end; pause_ms(10)) {
        size_t bytes = sum(pids);
        if (bytes > allowed) {
            size_t again = sum(pids);
            bytes = again < bytes ? again : bytes;
        }
        peak = bytes > peak ? bytes : peak;
    }
    for (size_t i = 0; i < CHILDREN; i++)
        check_ended(pids[i]);
    fprintf(stderr, "peak of all together: %.1f MiB of %zu\n", (double)peak / MIB, budget / MIB);
    if (peak > allowed)
        die("%.1f MiB together, of %zu", (double)peak / MIB, budget / MIB);
    if (peak < budget / 2)
        die("only %.1f MiB together, of %zu: nothing was tried", (double)peak / MIB, budget / MIB);
    puts("within the budget together");
}

static void forks(void)
{
    uint64_t random = 5;
    while (count < budget * 3 / 2 / BLOCK)
        grow(&random);
    cap(rewrite, seconds / 2);
    for (size_t i = 0; i < count; i++)
        check_block(i);
}

/* ---- readers ---- */

static void read_all(size_t number)
{
    (void)number;
    big_malloc(budget); /* more than fits, were it touched */
    CHECK(stats().armed);
    for (double end = now() + 3; now() < end;)
        for (size_t i = 0; i < count; i++)
            check_block(i);
    size_t gone = stats().evictions, pages = count * BLOCK / PAGE;
    if (gone > pages / 4)
        die("%zu of %zu pages have left", gone, pages);
}

static void readers(void)
{
    pid_t pids[4];
    uint64_t random = 3;
    while (count < budget / 2 / BLOCK)
        grow(&random);
    for (size_t i = 0; i < 4; i++)
        pids[i] = start(read_all, i);
    for (size_t i = 0; i < 4; i++)
        check_ended(pids[i]);
    puts("counted once");
}

/* ---- death ---- */

static volatile uint64_t *shares; /* in shared memory */

static void wanting(size_t number)
{
    uint64_t random = number;
    while (count < budget * 3 / 2 / BLOCK)
        grow(&random);
    for (;;) {
        check_block(random_next(&random) % count);
        shares[number] = stats().share_bytes;
    }
}

static double wait_for(size_t number, size_t least, size_t most, double patience)
{
    double start_at = now();
    while (shares[number] < least || shares[number] > most) {
        if (now() - start_at > patience)
            die("the share of %zu is %zu MiB, not %zu to %zu", number, (size_t)shares[number] / MIB, least / MIB,
                most / MIB);
        pause_ms(5);
    }
    return now() - start_at;
}

static void death(void)
{
    shares = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shares != MAP_FAILED);
    const pid_t one = start(wanting, 0), other = start(wanting, 1);
    for (int steady = 0; steady < 20; steady++) {
        wait_for(0, budget / 3, budget * 2 / 3, 60);
        wait_for(1, budget / 3, budget * 2 / 3, 60);
        pause_ms(50);
    }
    kill(one, SIGKILL);
    fprintf(stderr, "back after %.2f s\n", wait_for(1, budget * 4 / 5, budget, 1));
    kill(other, SIGKILL);
    CHECK(waitpid(one, NULL, 0) == one && waitpid(other, NULL, 0) == other);
    puts("the share is back");
}

/* ---- hostile ---- */

static void hostile_worker(size_t number)
{
    come_and_go(number, budget / BLOCK, seconds);
    if (stats().evictions == 0)
        die("nothing was paged");
}

/* The segment's memory, by the descriptor that the environment tells. */
static uint64_t *segment(size_t *size)
{
    struct stat status;
    CHECK(getenv("VP_TREE"));
    int fd = atoi(getenv("VP_TREE"));
    CHECK(fstat(fd, &status) == 0 && status.st_size > 0);
    CHECK(ftruncate(fd, 0) != 0); /* its size stays */
    *size = (size_t)status.st_size;
    void *map = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    return map;
}

/* Random words, all zeros, all ones, and numbers that mean something there. */
static void scribble(size_t number)
{
    size_t size;
    uint64_t *words = segment(&size), random = number;
    for (;;) {
        uint64_t kind = random_next(&random);
        const uint64_t values[] = {kind, 0, UINT64_MAX, (uint64_t)getppid(), (uint64_t)getpid() << 32 | 1, budget};
        for (size_t i = 0; i < size / 64; i++)
            words[random_next(&random) % (size / 8)] = kind % 8 < 6 ? values[kind % 8] : random_next(&random);
        if (kind % 3 == 0)
            pause_ms((long)(kind >> 32 & 15));
    }
}

static void hostile(void)
{
    pid_t pids[4], scribbler;
    for (size_t i = 0; i < 4; i++)
        pids[i] = start(hostile_worker, i);
    scribbler = start(scribble, 0);
    for (size_t i = 0; i < 4; i++)
        check_ended(pids[i]);
    kill(scribbler, SIGKILL);
    CHECK(waitpid(scribbler, NULL, 0) == scribbler);
    puts("all data right");
}

/* ---- join ---- */

static void spawn_without_descriptors(char *const argv[])
{
    pid_t pid;
    posix_spawn_file_actions_t actions;
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_addclosefrom_np(&actions, 3) == 0);
    CHECK(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ) == 0);
    check_ended(pid);
    posix_spawn_file_actions_destroy(&actions);
}

/* Asked for enough that the shim looks at the budget, and so at who shares it. */
static void count_others(void)
{
    free(big_malloc(24 * MIB));
    printf("%zu share\n", (size_t)stats().tree_processes);
    fflush(stdout);
}

/* ---- arm ---- */

static void hold_all(size_t number)
{
    uint64_t random = number;
    while (count < budget * 3 / 2 / BLOCK)
        grow(&random);
    shares[0] = 1;
    for (;;)
        check_block(random_next(&random) % count);
}

static void arm(void)
{
    uint64_t random = 9;
    shares = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shares != MAP_FAILED);
    const pid_t other = start(hold_all, 0);
    while (!shares[0])
        pause_ms(10);
    CHECK(!stats().armed);
    while (count < budget * 3 / 4 / BLOCK)
        grow(&random);
    CHECK(stats().armed);
    for (size_t i = 0; i < count; i++)
        check_block(i);
    kill(other, SIGKILL);
    CHECK(waitpid(other, NULL, 0) == other);
    puts("armed");
}

int main(int argc, char **argv)
{
    arguments = argv;
    CHECK(argc > 1);
    budget = argument(argc, argv, 2, 64) * MIB;
    seconds = (double)argument(argc, argv, 3, 5);
    const char *what = argv[1];
    if (strcmp(what, "worker") == 0)
        cap_worker(argument(argc, argv, 4, 0));
    else if (strcmp(what, "cap") == 0)
        cap(cap_start, 0);
    else if (strcmp(what, "forks") == 0)
        forks();
    else if (strcmp(what, "readers") == 0)
        readers();
    else if (strcmp(what, "death") == 0)
        death();
    else if (strcmp(what, "hostile") == 0)
        hostile();
    else if (strcmp(what, "join") == 0)
        spawn_without_descriptors((char *[]){"tree", "joined", NULL});
    else if (strcmp(what, "joined") == 0)
        count_others();
    else if (strcmp(what, "arm") == 0)
        arm();
    else
        die("unknown: %s", what);
    return 0;
}
