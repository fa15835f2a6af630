/*
 * fork_spill MIB: a process with much more memory than its budget, none of which compresses, forks 12 children one after
 * another. Each reads some of the memory, writes some, and ends without a word: by _exit(), killed, or by exec. Between two
 * children the parent rewrites half of the memory. Each child shares what is in the spill file at its fork: were that
 * never given back, the file would grow with each. One child lives through all of that and then checks all it has.
 */
#include "../victim.h"

#include <signal.h>
#include <sys/wait.h>

#define CHILDREN 12

static uint64_t *block;
static unsigned char *version; /* of each page */
static size_t pages;

static void put(size_t i)
{
    uint64_t random = i << 8 | ++version[i];
    for (size_t j = 0; j < PAGE / 8; j++)
        block[i * PAGE / 8 + j] = random_next(&random);
}

static void check(size_t i, const char *who)
{
    uint64_t random = i << 8 | version[i];
    for (size_t j = 0; j < PAGE / 8; j++)
        if (block[i * PAGE / 8 + j] != random_next(&random))
            die("%s: page %zu word %zu has changed", who, i, j);
}

static void check_all(const char *who)
{
    for (size_t i = 0; i < pages; i++)
        check(i, who);
}

/* Reads a fortieth and writes half of that: enough to have pages of its own in the spill file. */
static void child(int number, int done)
{
    for (size_t i = (size_t)number; i < pages; i += 40)
        check(i, "child");
    for (size_t i = (size_t)number; i < pages; i += 80)
        put(i);
    if (write(done, "x", 1) != 1)
        _exit(2);
    if (number % 3 == 0)
        _exit(0);
    if (number % 3 == 1)
        execl("/bin/sleep", "sleep", "30", (char *)NULL);
    for (;;)
        pause();
}

static void one_child(int number)
{
    int done[2];
    char byte;
    CHECK(pipe(done) == 0);
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        child(number, done[1]);
    close(done[1]);
    CHECK(read(done[0], &byte, 1) == 1);
    close(done[0]);
    if (number % 3 == 2)
        kill(pid, SIGKILL);
    if (number % 3 != 1)
        CHECK(waitpid(pid, NULL, 0) == pid);
    for (size_t i = (size_t)number % 2; i < pages; i += 2)
        put(i);
    if (number % 3 == 1) {
        kill(pid, SIGKILL);
        CHECK(waitpid(pid, NULL, 0) == pid);
    }
}

/* Lives through all of it, while the parent rewrites all it had; then all of it has to be there still. */
static pid_t lasting_child(int *go)
{
    int gate[2];
    char byte;
    CHECK(pipe(gate) == 0);
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(gate[1]);
        CHECK(read(gate[0], &byte, 1) == 1);
        check_all("lasting child");
        _exit(7);
    }
    close(gate[0]);
    *go = gate[1];
    return pid;
}

int main(int argc, char **argv)
{
    int go, status;
    pages = argument(argc, argv, 1, 128) * MIB / PAGE;
    block = big_malloc(pages * PAGE);
    version = calloc(pages, 1);
    CHECK(version);
    for (size_t i = 0; i < pages; i++)
        put(i);
    const pid_t lasting = lasting_child(&go);
    for (int i = 0; i < CHILDREN; i++)
        one_child(i);
    check_all("parent");
    CHECK(write(go, "x", 1) == 1);
    CHECK(waitpid(lasting, &status, 0) == lasting);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    check_all("parent, at the end");
    puts("data intact");
    return 0;
}
