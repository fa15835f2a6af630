/* matrix_libc.c: functions that make their system calls inside libc, where no stand-in for a function sees them. */
#include "matrix.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/wait.h>

enum { LARGE = 1 << 20, SMALL = 1000 };

static void result(const char *what, bool good)
{
    outcome(what, good ? 0 : -errno);
}

/* ---- streams ---- */

/* `memory`: the stream's own buffer is absent too. */
static FILE *stream(int fd, bool memory)
{
    FILE *const made = fdopen(dup(fd), "r+");
    CHECK(made);
    if (memory) {
        CHECK(setvbuf(made, room(SLOT), _IOFBF, SLOT) == 0);
        may_stay();
    }
    return made;
}

static void fread_sizes(bool memory)
{
    const int fd = scratch_with(2 * LARGE, 1);
    unsigned char *const p = room(LARGE + 2 * SMALL);
    FILE *const file = stream(fd, memory);
    begin();
    note("small: %zu", fread(p, 1, SMALL, file));
    note("large: %zu", fread(p + SMALL, 1, LARGE, file));
    note("small: %zu", fread(p + SMALL + LARGE, 1, SMALL, file));
    finish();
    note("error %d, at %ld", ferror(file), ftell(file));
    note_bytes("delivered", p, LARGE + 2 * SMALL);
    fclose(file);
}

static void fread_row(void)
{
    fread_sizes(false);
}

static void fread_own_buffer(void)
{
    fread_sizes(true);
}

static int file_of_lines(void)
{
    const int fd = scratch();
    for (int i = 0; i < 5000; i++)
        CHECK(dprintf(fd, "line %d of many\n", i) > 0);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static void lines(bool memory)
{
    FILE *const file = stream(file_of_lines(), memory);
    size_t space = 2 * SLOT, sum = 0;
    char *line = room(space), *const before = line;
    begin();
    while (fgets(line, (int)space, file) && getline(&line, &space, file) > 0)
        sum += strlen(line) + (unsigned char)line[6];
    finish();
    note("error %d, sum %zu, at %ld, %s", ferror(file), sum, ftell(file),
         line == before ? "same buffer" : "another buffer");
    fclose(file);
}

static void lines_row(void)
{
    lines(false);
}

static void lines_own_buffer(void)
{
    lines(true);
}

static void note_written(int fd, FILE *file)
{
    note("error %d, flush %d", ferror(file), fflush(file));
    finish();
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    drain(fd);
    fclose(file);
}

static char *long_text(size_t size)
{
    char *const p = place(size, 1);
    for (size_t i = 0; i < size; i++)
        p[i] = (char)('a' + i / 7 % 26);
    p[size - 1] = 0;
    return p;
}

static void fwrite_row(void)
{
    const int fd = scratch();
    const unsigned char *const p = filled(3 * LARGE, 2);
    FILE *const file = stream(fd, true);
    begin();
    note("small: %zu", fwrite(p, 1, SMALL, file));
    note("large: %zu", fwrite(p + SMALL, 1, 2 * LARGE, file));
    note_written(fd, file);
}

static void fputs_row(void)
{
    const int fd = scratch();
    const char *const p = long_text(2 * LARGE);
    FILE *const file = stream(fd, false);
    begin();
    note("%s", fputs(p, file) >= 0 ? "ok" : "failed");
    note_written(fd, file);
}

static void fprintf_row(void)
{
    const int fd = scratch();
    const char *const p = long_text(2 * LARGE);
    FILE *const file = stream(fd, true);
    begin();
    note("%d", fprintf(file, "<%s>\n", p));
    note_written(fd, file);
}

static void fopen_row(void)
{
    const char *const name = text("/proc/self/comm"), *const mode = text("r");
    begin();
    FILE *const file = fopen(name, mode);
    finish();
    result("fopen", file != NULL);
    if (file)
        fclose(file);
}

/* ---- names ---- */

static void readdir_row(void)
{
    const char *const name = text("/proc/self/fdinfo/..");
    int count = 0;
    begin();
    DIR *const directory = opendir(name);
    finish();
    result("opendir", directory != NULL);
    while (directory && readdir(directory))
        count++;
    note("%s", count > 10 ? "entries" : "no entries");
    if (directory)
        closedir(directory);
}

static void realpath_row(void)
{
    const char *const name = text("/usr/bin/../bin/./env");
    char *const resolved = room(PATH_MAX);
    begin();
    result("realpath", realpath(name, resolved) == resolved);
    finish();
    note("%.100s", resolved);
}

static void mkstemp_row(void)
{
    char *const name = text("matrix-temporary-XXXXXX");
    begin();
    const int fd = mkstemp(name);
    finish();
    result("mkstemp", fd >= 0);
    if (fd < 0)
        return;
    own(fd);
    char made[32];
    snprintf(made, sizeof made, "%s", name);
    note("%.17s, unlinked %d", made, unlink(made));
}

static void getaddrinfo_row(void)
{
    struct addrinfo *const hints = GIVEN(struct addrinfo, .ai_family = AF_INET, .ai_socktype = SOCK_STREAM,
                                         .ai_flags = AI_NUMERICHOST);
    const char *const name = text("127.0.0.1"), *const service = text("80");
    struct addrinfo **const found = GIVEN(struct addrinfo *, 0);
    begin();
    outcome("getaddrinfo", getaddrinfo(name, service, hints, found));
    finish();
    if (*found) {
        note_bytes("address", (*found)->ai_addr, sizeof(struct sockaddr_in));
        freeaddrinfo(*found);
    }
}

/* ---- other programs ---- */

static void popen_row(void)
{
    char line[100] = "";
    const char *const command = text("echo from a command with a long line");
    begin();
    FILE *const file = popen(command, "r");
    finish();
    result("popen", file != NULL);
    if (!file)
        return;
    result("fgets", fgets(line, sizeof line, file));
    note("%.40s, status %d", line, pclose(file));
}

/* A vector of strings, each absent, as is the vector. */
static char **strings(const char *first, const char *second, const char *third)
{
    char *vector[] = {text(first), text(second), text(third), NULL};
    return copied(vector, sizeof vector);
}

static void note_child(pid_t pid, int fd)
{
    char said[200] = "";
    int status = -1;
    waitpid(pid, &status, 0);
    note("status %x", status);
    note("said %zd: %s", pread(fd, said, sizeof said - 1, 0), said);
}

static void posix_spawn_row(void)
{
    const int fd = scratch();
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    CHECK(posix_spawn_file_actions_init(&actions) == 0 && posix_spawn_file_actions_adddup2(&actions, fd, 1) == 0);
    const char *const path = text("/bin/sh");
    char **const arguments = strings("sh", "-c", "echo $A $B $C"), **const variables = strings("A=1", "B=2", "C=3");
    begin();
    outcome("posix_spawn", -posix_spawn(&pid, path, &actions, NULL, arguments, variables));
    finish();
    posix_spawn_file_actions_destroy(&actions);
    if (pid > 0)
        note_child(pid, fd);
}

/* The child of a fork is a process of its own, with memory that is absent as the parent's is. */
static void execve_row(void)
{
    const int fd = scratch();
    const char *const path = text("/bin/sh");
    char **const arguments = strings("sh", "-c", "echo $A $B $C"), **const variables = strings("A=1", "B=2", "C=3");
    begin();
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(fd, 1);
        execve(path, arguments, variables);
        _exit(100 + errno);
    }
    finish();
    note_child(pid, fd);
}

void rows_libc(void)
{
    static const struct row rows[] = {
        {"fread", fread_row, LIBC_ONLY},
        {"fread with setvbuf", fread_own_buffer, LIBC_ONLY},
        {"fgets and getline", lines_row, LIBC_ONLY},
        {"fgets and getline with setvbuf", lines_own_buffer, LIBC_ONLY},
        {"fwrite with setvbuf", fwrite_row, LIBC_ONLY},
        {"fputs", fputs_row, LIBC_ONLY},
        {"fprintf with setvbuf", fprintf_row, LIBC_ONLY | NET},
        {"fopen", fopen_row, LIBC_ONLY},
        {"opendir", readdir_row, LIBC_ONLY},
        {"realpath", realpath_row, LIBC_ONLY},
        {"mkstemp", mkstemp_row, LIBC_ONLY},
        {"getaddrinfo", getaddrinfo_row, LIBC_ONLY},
        {"popen", popen_row, LIBC_ONLY},
        {"posix_spawn", posix_spawn_row, LIBC_ONLY},
        {"execve", execve_row, LIBC_ONLY},
    };
    RUN_ROWS(rows);
}
