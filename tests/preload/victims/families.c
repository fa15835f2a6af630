/*
 * families MODE: processes by fork, of which each keeps its own memory, absent or not.
 *   chain     ten generations, each of which outlives its parent and changes what it has inherited
 *   many      200 children alive at once
 *   threads   forks from any thread while the others fault and change pages
 *   killed    parent or child is killed at random moments, again and again
 *   started   daemon(), forkpty(), popen(), system(), vfork(): what comes of them runs, and leaves memory alone
 */
#include "../victim.h"

#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static unsigned char *block;
static size_t pages;

/* Page i as `who` has written it; half of the pages do not compress. */
static void put(size_t page, uint64_t who)
{
    uint64_t *words = (uint64_t *)(void *)(block + page * PAGE);
    for (size_t i = 0; i < PAGE / 8; i++)
        words[i] = mix64(who << 40 | page << 10 | (page % 2 ? i : i / 64));
}

static bool is(size_t page, uint64_t who)
{
    const uint64_t *words = (const uint64_t *)(const void *)(block + page * PAGE);
    for (size_t i = 0; i < PAGE / 8; i += 7)
        if (words[i] != mix64(who << 40 | page << 10 | (page % 2 ? i : i / 64)))
            return false;
    return true;
}

static void check(size_t page, uint64_t who, const char *where)
{
    if (!is(page, who))
        die("%s: page %zu is not as %llu has left it", where, page, (unsigned long long)who);
}

static void start(size_t size)
{
    pages = size / PAGE;
    block = aligned_alloc(64 * 1024, size);
    CHECK(block && in_arena(block) != 0);
    for (size_t i = 0; i < pages; i++)
        put(i, 1);
}

static void reap(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (status != 0)
        die("child ended with wait status %#x", (unsigned)status);
}

/* ---- chain ---- */

#define GENERATIONS 10

/* Generation g has written the pages of its number; 1 all others. */
static uint64_t writer(size_t page, size_t g)
{
    const size_t of = page % (GENERATIONS + 2);
    return of >= 2 && of <= g ? of : 1;
}

/* Each ends before its child begins to look: who reads last is nobody's child. */
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Winfinite-recursion" /* it ends by _exit() */
__attribute__((noreturn)) static void generation(size_t g, int parent_end, int result)
{
    int ends[2];
    char byte;
    CHECK(read(parent_end, &byte, 1) == 0); /* the parent is gone */
    for (size_t i = 0; i < pages; i++)
        check(i, writer(i, g - 1), "inherited");
    for (size_t i = g; i < pages; i += GENERATIONS + 2)
        put(i, g);
    if (g == GENERATIONS) {
        for (size_t i = 0; i < pages; i++)
            check(i, writer(i, g), "last");
        CHECK(write(result, "all data right\n", 15) == 15);
        _exit(0);
    }
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    close(ends[child == 0]);
    if (child == 0)
        generation(g + 1, ends[0], result);
    for (size_t i = g; i < pages; i += GENERATIONS + 2) /* what the child must not see */
        put(i, 99);
    _exit(0);
}

static void chain(void)
{
    int ends[2], result[2];
    char text[64] = "";
    start(40 * MIB);
    CHECK(pipe(ends) == 0 && pipe(result) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    close(ends[child == 0]);
    if (child == 0) {
        close(result[0]);
        generation(2, ends[0], result[1]);
    }
    close(ends[1]);
    close(result[1]);
    reap(child);
    CHECK(read(result[0], text, sizeof text - 1) > 0);
    fputs(text, stdout);
    for (size_t i = 0; i < pages; i++)
        check(i, 1, "first");
}

/* ---- many ---- */

#define CHILDREN 200

static void many(void)
{
    int go[2];
    pid_t children[CHILDREN];
    char byte;
    start(40 * MIB);
    CHECK(pipe(go) == 0);
    for (size_t k = 0; k < CHILDREN; k++) {
        if (k % 20 == 0)
            CHECK(madvise(block, 40 * MIB, MADV_PAGEOUT) == 0);
        children[k] = fork();
        CHECK(children[k] >= 0);
        if (children[k] == 0) {
            close(go[1]);
            CHECK(read(go[0], &byte, 1) == 0);
            for (size_t i = 0; i < 400; i++) { /* a stretch of its own, and a part of its neighbours' */
                const size_t page = (k * 51 + i) % pages;
                check(page, 1, "child");
                if (i % 5 == 0)
                    put(page, k + 2);
            }
            for (size_t i = 0; i < 400; i++)
                check((k * 51 + i) % pages, i % 5 ? 1 : k + 2, "child, then");
            _exit(0);
        }
        put(k, 1);
    }
    close(go[1]); /* all of them at once */
    for (size_t i = 0; i < pages; i += 3)
        put(i, 3000);
    for (size_t k = 0; k < CHILDREN; k++)
        reap(children[k]);
    for (size_t i = 0; i < pages; i++)
        check(i, i % 3 ? 1 : 3000, "parent");
    puts("all data right");
}

/* ---- threads ---- */

#define FORKERS 4

static volatile bool ended;

/* Of pages that are its own, the others only read. A page that it is writing tells nothing in a child. */
static void *fault_on(void *number)
{
    const size_t who = (size_t)(uintptr_t)number;
    uint64_t state = who;
    for (uint64_t turn = 0; !ended; turn++) {
        put(FORKERS + who + random_next(&state) % (pages / 16 - 1) * 16, 1);
        check(random_next(&state) % (pages / 16) * 16 + who, 1, "thread");
    }
    return NULL;
}

static void *fork_on(void *number)
{
    const size_t who = (size_t)(uintptr_t)number;
    for (int i = 0; i < 12; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (size_t page = who; page < pages; page += 16) {
                check(page, 1, "child");
                put(page, 5);
            }
            for (size_t page = who; page < pages; page += 16)
                check(page, 5, "child, then");
            _exit(0);
        }
        reap(child);
        for (size_t page = who; page < pages; page += 160)
            check(page, 1, "parent");
    }
    return NULL;
}

static void threads(void)
{
    pthread_t faulting[4], forking[FORKERS];
    start(48 * MIB);
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&faulting[i], NULL, fault_on, (void *)i) == 0);
    for (uintptr_t i = 0; i < FORKERS; i++)
        CHECK(pthread_create(&forking[i], NULL, fork_on, (void *)i) == 0);
    for (int i = 0; i < FORKERS; i++)
        pthread_join(forking[i], NULL);
    ended = true;
    for (int i = 0; i < 4; i++)
        pthread_join(faulting[i], NULL);
    for (size_t i = 0; i < pages; i++)
        check(i, 1, "at the end");
    puts("all data right");
}

/* ---- killed ---- */

/* Writes everything it has, over and over, until somebody ends it. */
static void work_on(uint64_t who)
{
    for (;;)
        for (size_t i = who % 3; i < pages; i += 3)
            put(i, who);
}

static void killed(void)
{
    uint64_t state = 7;
    start(32 * MIB);
    for (unsigned i = 0; i < 25; i++) {
        int report[2];
        char byte;
        pid_t parent = fork();
        if (parent == 0)
            work_on(10 + i);
        usleep((useconds_t)(random_next(&state) % 20000));
        kill(parent, SIGKILL);
        CHECK(waitpid(parent, NULL, 0) == parent);

        CHECK(pipe(report) == 0);
        parent = fork(); /* this one is killed while its child lives on */
        if (parent == 0) {
            if (fork() == 0) {
                for (size_t page = 0; page < pages; page += 5)
                    check(page, 1, "orphan");
                CHECK(write(report[1], "", 1) == 1);
                _exit(0);
            }
            work_on(100 + i);
        }
        close(report[1]);
        usleep((useconds_t)(random_next(&state) % 20000));
        kill(parent, SIGKILL);
        CHECK(waitpid(parent, NULL, 0) == parent);
        if (read(report[0], &byte, 1) == 0) { /* killed before it had a child, or the child failed and has said so */
        }
        close(report[0]);
        for (size_t page = i % 4; page < pages; page += 4) {
            check(page, 1, "survivor");
            put(page, 1);
        }
    }
    puts("all data right");
}

/* ---- started ---- */

static bool all_as_before(void)
{
    size_t wrong = 0;
    for (size_t i = 0; i < pages; i++)
        wrong += !is(i, 1);
    return wrong == 0;
}

static void in_daemon(int result)
{
    bool right;
    CHECK(daemon(1, 1) == 0);
    right = all_as_before();
    for (size_t i = 0; i < pages; i++)
        put(i, 4);
    CHECK(write(result, right ? "right" : "WRONG", 5) == 5);
    _exit(0);
}

/* In the program that this one becomes: its large blocks are where its parent's were (0 well, 1 not). */
static int inherited(int expected)
{
    unsigned char *own = malloc(8 * MIB);
    memset(own, 1, 8 * MIB);
    return own[8 * MIB - 1] != 1 || in_arena(own) != expected;
}

static int become(const char *mode, int expected, char **environment)
{
    char number[16];
    int status;
    snprintf(number, sizeof number, "%d", expected);
    pid_t child = fork();
    if (child == 0) {
        execle("/proc/self/exe", "families", mode, number, (char *)NULL, environment);
        _exit(127);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static void started(void)
{
    char text[128] = "", line[64] = "";
    int ends[2], terminal;
    start(48 * MIB);
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0)
        in_daemon(ends[1]);
    reap(child);
    CHECK(read(ends[0], text, 5) == 5);
    printf("daemon %s, parent %d\n", text, all_as_before());

    child = forkpty(&terminal, NULL, NULL, NULL);
    if (child == 0) {
        bool right = all_as_before();
        puts(right && isatty(0) ? "right" : "WRONG");
        fflush(stdout);
        _exit(0);
    }
    CHECK(child > 0 && read(terminal, text, 5) == 5);
    reap(child);
    printf("forkpty %.5s, parent %d\n", text, all_as_before());
    fflush(stdout);

    CHECK(system("echo system") == 0);
    FILE *pipe = popen("cat", "w");
    CHECK(pipe && fputs("popen\n", pipe) >= 0 && pclose(pipe) == 0);
    child = vfork();
    if (child == 0) {
        block[0] = 77; /* the parent's memory, as it has to be */
        _exit(0);
    }
    reap(child);
    printf("vfork %d\n", block[0]);
    put(0, 1);

    /* exec without the shim, and with it: options are inherited. */
    memset(line, 0, sizeof line);
    pipe = popen("env -i /usr/bin/env | grep -c -e LD_PRELOAD -e VP_", "r");
    CHECK(pipe && fgets(line, sizeof line, pipe));
    pclose(pipe);
    printf("env -i: %s", line);
    printf("exec: status %d\n", become("inherited", in_arena(block), environ));
    char *nothing[] = {NULL};
    printf("exec without an environment: status %d\n", become("inherited", -1, nothing));
    printf("all as before %d\n", all_as_before());
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(mode, "chain") == 0)
        chain();
    else if (strcmp(mode, "many") == 0)
        many();
    else if (strcmp(mode, "threads") == 0)
        threads();
    else if (strcmp(mode, "killed") == 0)
        killed();
    else if (strcmp(mode, "started") == 0)
        started();
    else if (strcmp(mode, "inherited") == 0)
        return inherited(atoi(argv[2]));
    else
        return 2;
    return 0;
}
