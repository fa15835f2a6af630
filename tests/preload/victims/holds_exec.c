/*
 * holds_exec: programs started with names, arguments and environments from absent memory, in every way there is.
 */
#include "holds.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

/* A vector in absent memory, of strings in absent memory. */
static char **arguments(const char *script)
{
    char *vector[] = {text("sh"), text("-c"), text(script), text("name"), text("first"), text("second"), NULL};
    return GONE(vector);
}

static char **environment(void)
{
    char *vector[] = {text("COLOUR=blue"), text("PATH=/usr/bin:/bin"), NULL};
    return GONE(vector);
}

#define SCRIPT "echo \"$0: $1 $2 $COLOUR\"; exit 3"

static void ended(const char *how, pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    printf("%s: %d\n", how, status);
    fflush(stdout);
}

/* In a child, which leaves with 99 where it is still there afterwards. */
#define IN_CHILD(make, call)          \
    do {                              \
        pid_t pid_ = make();          \
        if (pid_ == 0) {              \
            call;                     \
            _exit(99);                \
        }                             \
        ended(#make " " #call, pid_); \
    } while (0)

static void execs(void)
{
    char **vector = arguments(SCRIPT), **variables = environment(), *path = text("/bin/sh"), *name = text("sh");
    IN_CHILD(fork, execve(path, vector, variables));
    vector = arguments(SCRIPT), variables = environment(), path = text("/bin/sh");
    IN_CHILD(vfork, execve(path, vector, variables));
    SHOW(leaves(vector));
    vector = arguments(SCRIPT), path = text("/bin/sh");
    IN_CHILD(fork, execv(path, vector));
    vector = arguments(SCRIPT);
    IN_CHILD(vfork, execvp(name, vector));
    vector = arguments(SCRIPT), variables = environment(), name = text("sh");
    IN_CHILD(fork, execvpe(name, vector, variables));
    vector = arguments(SCRIPT), variables = environment();
    int shell = open("/bin/sh", O_RDONLY | O_CLOEXEC);
    IN_CHILD(fork, fexecve(shell, vector, variables));
    path = text("/bin/sh");
    char *script = text(SCRIPT), *first = text("first");
    IN_CHILD(vfork, execl(path, "sh", "-c", script, "name", first, "second", (char *)NULL));
    name = text("sh"), script = text(SCRIPT), first = text("first");
    IN_CHILD(fork, execlp(name, "sh", "-c", script, "name", first, "second", (char *)NULL));
    path = text("/bin/sh"), script = text(SCRIPT), first = text("first"), variables = environment();
    IN_CHILD(fork, execle(path, "sh", "-c", script, "name", first, "second", (char *)NULL, variables));
    IN_CHILD(fork, execl("/bin/echo", "echo", (char *)NULL));
}

static void refusals(void)
{
    char *vector[] = {text("sh"), nowhere, NULL};
    SHOW(execve(text("/nothing"), arguments(""), environment()));
    SHOW(execve(text("/bin/sh"), GONE(vector), NULL));
    SHOW(execve(text("/bin/sh"), arguments(""), nowhere));
    SHOW(execve(nowhere, arguments(""), environment()));
    SHOW(execvp(text("no-such-program"), arguments("")));
}

static void spawns(void)
{
    extern char **environ;
    pid_t *pid = FRESH(pid_t);
    CHECK(posix_spawn(pid, text("/bin/sh"), NULL, NULL, arguments(SCRIPT), environment()) == 0);
    ended("posix_spawn", *pid);
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 5, text("/dev/null"), O_RDONLY, 0);
    pid = FRESH(pid_t);
    CHECK(posix_spawnp(pid, text("sh"), GONE(actions), GONE(attributes), arguments(SCRIPT), environ) == 0);
    ended("posix_spawnp", *pid);
    SHOW(posix_spawn(FRESH(pid_t), text("/nothing"), NULL, NULL, arguments(""), environ) == ENOENT);
}

/* More strings than are held one by one. */
static void many(void)
{
    enum { COUNT = 2000 };
    char *strings = fresh(COUNT * 8), **vector = fresh((COUNT + 5) * sizeof *vector);
    memcpy(vector, (char *[]){"sh", "-c", "echo $# $1999"}, 3 * sizeof *vector);
    for (int i = 0; i < COUNT; i++) {
        vector[i + 3] = strings + i * 8;
        snprintf(vector[i + 3], 8, "%d", i);
    }
    vector[2] = "echo $#";
    page_out(strings, COUNT * 8);
    page_out(vector, (COUNT + 5) * sizeof *vector);
    pid_t pid;
    CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, vector, environment()) == 0);
    ended("many", pid);
}

static void commands(void)
{
    char line[100];
    SHOW(system(text("echo by system; exit 4")));
    FILE *stream = popen(text("echo by popen; exit 5"), "r");
    CHECK(stream && fgets(line, sizeof line, stream));
    fputs(line, stdout);
    SHOW(pclose(stream));
}

int main(void)
{
    fill_memory();
    execs();
    refusals();
    spawns();
    many();
    commands();
    return 0;
}
