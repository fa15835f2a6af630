/*
 * fork_basic [MIB]: parent and child each see the memory as it was at the fork, and their own changes only; also in a
 * grandchild, and after exec.
 */
#include "../victim.h"

#include <spawn.h>
#include <sys/wait.h>

static unsigned char *block;
static size_t pages;

/* Page i belongs to `who`: all of it follows from (i, who). */
static void put(size_t i, uint64_t who)
{
    uint64_t *const word = (uint64_t *)(void *)(block + i * PAGE);
    for (size_t j = 0; j < PAGE / 8; j++)
        word[j] = mix64(who << 48 | i << 12 | (i % 2 ? j : j / 64)); /* every other page compresses */
}

static void check(size_t i, uint64_t who, const char *where)
{
    const uint64_t *const word = (const uint64_t *)(const void *)(block + i * PAGE);
    for (size_t j = 0; j < PAGE / 8; j++)
        if (word[j] != mix64(who << 48 | i << 12 | (i % 2 ? j : j / 64)))
            die("%s: page %zu word %zu is %016llx", where, i, j, (unsigned long long)word[j]);
}

/* Which process wrote page i last, when `who` has written its share. Share: every third page, from `who` on. */
static uint64_t owner(size_t i, uint64_t parent, uint64_t who)
{
    return i % 3 == who % 3 ? who : parent;
}

static void wait_for(pid_t child, int expected)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != expected)
        die("child ended with wait status %#x", status);
}

static void grandchild(void)
{
    for (size_t i = 0; i < pages; i += 7)
        check(i, owner(i, 1, 2), "grandchild");
    unsigned char *own = big_malloc(4 * MIB);
    memset(own, 1, 4 * MIB);
    CHECK(own[4 * MIB - 1] == 1);
    free(own);
    free(block);
    _exit(9);
}

static void child(void)
{
    for (size_t i = 0; i < pages; i++)
        check(i, 1, "child, before its writes");
    for (size_t i = 0; i < pages; i++)
        if (i % 3 == 2)
            put(i, 2);
    const pid_t next = fork();
    CHECK(next >= 0);
    if (next == 0)
        grandchild();
    for (size_t i = 0; i < pages; i++)
        check(i, owner(i, 1, 2), "child, after its writes");
    wait_for(next, 9);
    _exit(7);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "exec") == 0) { /* what a child becomes by exec */
        block = big_malloc(4 * MIB);
        memset(block, 1, 4 * MIB);
        puts("exec ok");
        return 5;
    }
    pages = argument(argc, argv, 1, 96) * MIB / PAGE;
    block = big_malloc(pages * PAGE);
    for (size_t i = 0; i < pages; i++)
        put(i, 1);
    fflush(stdout);

    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        child();
    for (size_t i = 0; i < pages; i++) /* while the child reads */
        if (i % 3 == 0)
            put(i, 3);
    for (size_t i = 0; i < pages; i++)
        check(i, owner(i, 1, 3), "parent");
    wait_for(pid, 7);
    for (size_t i = 0; i < pages; i++)
        check(i, owner(i, 1, 3), "parent, after the child's end");
    puts("fork ok");
    fflush(stdout);

    const pid_t exec_child = fork();
    if (exec_child == 0) {
        execl("/proc/self/exe", "fork_basic", "exec", (char *)NULL);
        _exit(1);
    }
    wait_for(exec_child, 5);
    pid_t spawned;
    char *const arguments[] = {"fork_basic", "exec", NULL};
    CHECK(posix_spawn(&spawned, "/proc/self/exe", NULL, NULL, arguments, environ) == 0);
    wait_for(spawned, 5);
    CHECK(system("echo system ok") == 0);
    FILE *pipe = popen("echo popen ok", "r");
    char line[32] = "";
    CHECK(pipe && fgets(line, sizeof line, pipe) && pclose(pipe) == 0);
    fputs(line, stdout);
    for (size_t i = 0; i < pages; i++)
        check(i, owner(i, 1, 3), "parent, at the end");
    return 0;
}
