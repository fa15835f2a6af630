/*
 * exits: processes end in every way there is, while their threads fault. None hangs; those that end by exit() leave
 * statistics where these are asked for, and nothing else is left behind.
 */
#include "../victim.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define SIZE (96 * MIB)

static unsigned char *block;

static void *fault_on(void *number)
{
    uint64_t state = (uintptr_t)number;
    for (;;)
        block[random_next(&state) % SIZE]++;
    return NULL;
}

static void by_exit(void)
{
    exit(3);
}

static void by__exit(void)
{
    _exit(4);
}

static void by_quick_exit(void)
{
    quick_exit(5);
}

static void by_abort(void)
{
    abort();
}

static void by_kill(void)
{
    kill(getpid(), SIGKILL);
}

static void by_term(void)
{
    raise(SIGTERM);
}

static void by_fault(void)
{
    static volatile int *volatile nowhere;
    *nowhere = 1;
}

static void *end_in_thread(void *end)
{
    void (*function)(void);
    memcpy(&function, &end, sizeof function);
    function();
    return NULL;
}

/* Whether the child of that number has left statistics, or none were asked for. */
static bool has_statistics(pid_t child)
{
    char path[512];
    const char *pattern = getenv("VP_STATS"), *number = pattern ? strstr(pattern, "%p") : NULL;
    if (!number)
        return true;
    snprintf(path, sizeof path, "%.*s%d%s", (int)(number - pattern), pattern, (int)child, number + 2);
    return access(path, R_OK) == 0;
}

static void try_end(const char *name, void (*end)(void), bool in_thread)
{
    pthread_t thread;
    int status;
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        void *argument;
        alarm(20); /* a hang is death by SIGALRM */
        for (uintptr_t i = 0; i < 4; i++)
            CHECK(pthread_create(&thread, NULL, fault_on, (void *)i) == 0);
        usleep(10000);
        memcpy(&argument, &end, sizeof argument);
        if (!in_thread)
            end();
        CHECK(pthread_create(&thread, NULL, end_in_thread, argument) == 0);
        for (;;)
            pause();
    }
    CHECK(waitpid(child, &status, 0) == child);
    printf("%s%s: %s %d%s\n", name, in_thread ? " in a thread" : "", WIFSIGNALED(status) ? "signal" : "status",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
           end == by_exit && !has_statistics(child) ? ", NO STATISTICS" : "");
}

int main(void)
{
    static const struct {
        const char *name;
        void (*end)(void);
    } ends[] = {{"exit", by_exit},   {"_exit", by__exit}, {"quick_exit", by_quick_exit}, {"abort", by_abort},
                {"kill", by_kill},   {"raise", by_term},  {"fault", by_fault}};
    block = big_malloc(SIZE);
    for (size_t i = 0; i < SIZE; i += PAGE)
        block[i] = (unsigned char)(i >> 12);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        for (int in_thread = 0; in_thread < 2; in_thread++)
            try_end(ends[i].name, ends[i].end, in_thread);
    for (size_t i = 0; i < SIZE; i += PAGE)
        CHECK(block[i] == (unsigned char)(i >> 12));
    return 0;
}
