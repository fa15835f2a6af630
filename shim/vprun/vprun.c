/*
 * vprun.c: the launcher. Turns options into VP_* variables, has the shim preloaded and becomes the program.
 *
 * A shell script may start thousands of programs through it: it is linked statically and makes a few system calls
 * only. What it refuses, it refuses before the program has started; exit statuses are those of env(1) and timeout(1).
 */
#include "../../platform/os.h"
#include "../../platform/platform.h"
#include "../options.h"
#include "../process/memory.h"
#include "../process/tree.h"
#include "../tier/spill_file.h"
#include "allocator.h"
#include "doctor.h"
#include "program.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ; /* which not every <unistd.h> declares */

enum status { USAGE = 2, UNREACHABLE = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

__attribute__((noreturn, format(printf, 2, 3))) static void die(enum status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("vprun: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(status);
}

static void *not_null(void *memory)
{
    if (!memory)
        die(UNREACHABLE, "out of memory");
    return memory;
}

__attribute__((format(printf, 1, 2))) static char *format_new(const char *format, ...)
{
    va_list arguments;
    char *out = NULL;
    va_start(arguments, format);
    if (vasprintf(&out, format, arguments) < 0)
        out = NULL;
    va_end(arguments);
    return not_null(out);
}

static void variable_set(const char *name, const char *value)
{
    if (setenv(name, value, 1) != 0)
        die(UNREACHABLE, "out of memory");
}

/* ---- help ---- */

static void help_line(const char *flag, const char *argument, const char *help, const char *variable,
                      const char *default_text)
{
    char left[64];
    bool optional = *argument == '[';
    snprintf(left, sizeof left, "%s%s%s", flag, *argument && !optional ? " " : "", argument);
    printf("  %-18s %s", left, help);
    if (variable)
        printf("\n  %-18s [%s, default: %s]", "", variable, default_text);
    putchar('\n');
}

__attribute__((noreturn)) static void help(void)
{
    puts("Usage: vprun [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
         "       vprun --doctor\n\n"
         "Runs PROGRAM, unmodified, on data larger than memory: its large allocations are compressed\n"
         "and spilled to disk when they no longer fit into the budget.\n");
    for (const struct option *option = option_table; option < option_table + option_count; option++)
        help_line(option->flag, option->argument, option->help, option->variable, option->default_text);
    help_line("--doctor", "", "show what works on this machine, and why something does not", NULL, NULL);
    help_line("--version", "", "show the version", NULL, NULL);
    help_line("--help", "", "show this text", NULL, NULL);
    puts("\nSizes: a number with K, M, G or T (powers of 1024), or N% of RAM or of the cgroup's limit,\n"
         "whichever is smaller. An option beats its variable.\n\n"
         "Exit status: that of PROGRAM; 2 bad usage, 125 PROGRAM cannot be shimmed, 126 not executable,\n"
         "127 not found. See vprun(1).");
    exit(0);
}

/* ---- options and variables ---- */

static bool backend_exists(const char *name)
{
    return platform_find(name) != NULL;
}

static const char *variable(const char *name)
{
    return getenv(name);
}

/* Asking for the machine's memory takes a dozen system calls: only where a percentage needs it. */
static struct option_machine machine(bool with_memory)
{
    return (struct option_machine){with_memory ? memory_hundred_percent() : 0, backend_exists};
}

static const struct option *option_find(const char *name, size_t length)
{
    for (const struct option *option = option_table; option < option_table + option_count; option++)
        if (strlen(option->flag) == length && memcmp(option->flag, name, length) == 0)
            return option;
    return NULL;
}

/* The program may change its directory before the shim looks. */
static char *absolute(const char *path)
{
    char here[PATH_MAX];
    if (*path == '/')
        return format_new("%s", path);
    if (!getcwd(here, sizeof here))
        die(USAGE, "%s: relative to a working directory that cannot be told: %s", path, strerror(errno));
    return format_new("%s/%s", here, path);
}

/* A checked value as the shim is to read it: a percentage is taken here, once for every process. */
static char *value_for_shim(const struct option *option, const struct options *parsed, const char *text)
{
    switch (option->kind) {
    case OPTION_SIZE:
        return format_new("%llu", *(const unsigned long long *)((const char *)parsed + option->offset));
    case OPTION_DIR:
        return absolute(text);
    case OPTION_STATS:
        return strcmp(text, "-") == 0 ? format_new("-") : absolute(text);
    default:
        return format_new("%s", text);
    }
}

/* --ram is among the options. */
static bool own_budget;

static void option_give(const struct option *option, const char *text)
{
    static struct options parsed;
    char why[2 * OPTION_TEXT_MAX];
    struct option_machine here = machine(option->kind == OPTION_SIZE && size_is_percentage(text));
    if (!option_set(&parsed, option, text, &here, why, sizeof why))
        die(USAGE, "%s", why);
    char *value = value_for_shim(option, &parsed, text);
    variable_set(option->variable, value);
    free(value);
    own_budget |= option->offset == offsetof(struct options, ram);
}

/* What stands for an argument that is not there, NULL where one must be. */
static const char *implied_value(const struct option *option)
{
    return option->kind == OPTION_SWITCH ? "1" : option->kind == OPTION_STATS ? "-" : NULL;
}

/* Takes one option off the front of `arguments`; returns what is left. */
static char **option_take(char **arguments)
{
    const char *flag = *arguments++;
    size_t length = strcspn(flag, "=");
    const struct option *option = option_find(flag, length);
    if (!option)
        die(USAGE, "%s: unknown option; vprun --help lists those that are allowed", flag);
    const char *text = flag[length] ? flag + length + 1 : implied_value(option);
    if (!text) {
        text = *arguments;
        if (!text) {
            die(USAGE, "%s: its argument %s is missing; allowed: %s %s", flag, option->argument, flag,
                option->argument);
        }
        arguments++;
    }
    option_give(option, text);
    return arguments;
}

/* Sets the variables that the options ask for; returns the program and its arguments. */
static char **options_take(char **arguments, bool *doctor)
{
    while (*arguments && **arguments == '-') {
        if (strcmp(*arguments, "--") == 0)
            return arguments + 1;
        if (strcmp(*arguments, "--help") == 0)
            help();
        if (strcmp(*arguments, "--version") == 0) {
            puts("vprun (Hyperion) " VP_VERSION);
            exit(0);
        }
        if (strcmp(*arguments, "--doctor") == 0) {
            *doctor = true;
            arguments++;
        } else {
            arguments = option_take(arguments);
        }
    }
    return arguments;
}

static void bad_variable(const char *sentence)
{
    die(USAGE, "%s", sentence);
}

/* What the shim will read, variables that the user had set before included. */
static void variables_check(struct options *out)
{
    struct option_machine here = machine(options_use_percentage(variable));
    options_from_environment(out, variable, &here, bad_variable);
}

/* Only a directory that was asked for: the default one may be unfit, and the program still runs within its budget. */
static void spill_check(const struct options *options)
{
    const char *asked = getenv("VP_SPILL");
    char why[512];
    if (asked && *asked && options->spill_max && spill_check_directory(options->spill, why, sizeof why) != 0)
        die(USAGE, "--spill (VP_SPILL): %s; allowed: a writable directory on a disk", why);
}

/* ---- the library ---- */

static char *own_directory(void)
{
    char path[PATH_MAX];
    ssize_t n = os_program_path(path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    return slash ? format_new("%s", path) : NULL;
}

/* Beside vprun in a build tree; where an installation that was moved has it; where it was installed. */
static char *library_find(void)
{
    char *directory = own_directory();
    char *places[] = {
        directory ? format_new("%s/%s", directory, program_library) : NULL,
        directory ? format_new("%s/" VP_LIBDIR_FROM_BINDIR "/%s", directory, program_library) : NULL,
        format_new(VP_LIBDIR "/%s", program_library),
    };
    size_t n = sizeof places / sizeof *places;
    for (size_t i = 0; i < n; i++)
        if (places[i] && access(places[i], R_OK) == 0)
            return places[i];
    die(UNREACHABLE, "%s is in none of: %s%s%s%s%s", program_library, places[0] ? places[0] : "", places[0] ? ", " : "",
        places[1] ? places[1] : "", places[1] ? ", " : "", places[2]);
}

/* Whether the `length` characters at `entry` name the shim, of whichever build. */
static bool is_library(const char *entry, size_t length)
{
    size_t n = strlen(program_library);
    bool ends_so = length >= n && memcmp(entry + length - n, program_library, n) == 0;
    return ends_so && (length == n || entry[length - n - 1] == '/');
}

static char *allocator_needed(void)
{
    char path[PATH_MAX];
    if (!allocator_find(path, sizeof path))
        die(UNREACHABLE, "--small needs an allocator that maps its memory, and there is none: %s", allocator_none);
    return format_new("%s", path);
}

/* Ours, then those that the user preloads, without another copy of ours: two shims would fight over the faults. Then the
 * allocator for small objects (NULL: libc's own): one that the user preloads comes first. */
static void preload(const char *library, char *allocator)
{
    if (strpbrk(library, program_separators))
        die(UNREACHABLE, "%s: %s cannot name a file with one of \"%s\" in its path", library, program_preload,
            program_separators);
    char *list = format_new("%s", library);
    const char *entry = getenv(program_preload);
    while (entry && *entry) {
        size_t length = strcspn(entry, program_separators);
        if (length && !is_library(entry, length)) {
            char *longer = format_new("%s:%.*s", list, (int)length, entry);
            free(list);
            list = longer;
        }
        entry += length + (entry[length] != '\0');
    }
    if (allocator) {
        char *longer = format_new("%s:%s", list, allocator);
        free(list);
        free(allocator);
        list = longer;
    }
    variable_set(program_preload, list);
    free(list);
}

/* ---- one budget for the tree ---- */

/* Under another vprun the program is one more of its tree, unless it is given a budget of its own. Where there can be no
 * tree, each process has the budget to itself. */
static void tree_give(void)
{
    char text[SEGMENT_TEXT_MAX];
    int outer = segment_find(getenv(SEGMENT_VARIABLE), sizeof(struct tree_table));
    if (outer >= 0 && !own_budget)
        return;
    if (outer >= 0)
        os_close(outer);
    if (tree_found(text) >= 0)
        variable_set(SEGMENT_VARIABLE, text);
    else
        unsetenv(SEGMENT_VARIABLE);
}

/* ---- the program ---- */

static void program_check(const char *name, char *path, size_t size)
{
    char why[PATH_MAX + 128];
    int error = program_find(name, path, size);
    if (error == ENOENT)
        die(NOT_FOUND, "%s: not found", name);
    if (error)
        die(NOT_EXECUTABLE, "%s: cannot be executed: %s", name, strerror(error));
    if (!program_reachable(path, why, sizeof why))
        die(UNREACHABLE, "%s %s", name, why);
}

#define SHELL "/bin/sh"

/* A text without "#!" is a shell script, as for execvp(3). Returns only when there is no memory or no shell. */
static void shell_become(char *path, char **program)
{
    char why[PATH_MAX + 128];
    if (!program_reachable(SHELL, why, sizeof why))
        die(UNREACHABLE, "%s is run by " SHELL ", which %s", *program, why);
    size_t n = 0;
    while (program[n])
        n++;
    char **arguments = not_null(calloc(n + 2, sizeof *arguments));
    arguments[0] = SHELL;
    arguments[1] = path;
    memcpy(arguments + 2, program + 1, n * sizeof *arguments); /* with the NULL at the end */
    execve(arguments[0], arguments, environ);
}

__attribute__((noreturn)) static void program_become(char *path, char **program)
{
    execve(path, program, environ);
    if (errno == ENOEXEC)
        shell_become(path, program);
    if (errno == ENOENT)
        die(NOT_FOUND, "%s: its interpreter is not found", *program);
    die(NOT_EXECUTABLE, "%s: cannot be executed: %s", *program, strerror(errno));
}

int main(int argc, char **argv)
{
    static struct options options;
    char path[PATH_MAX];
    bool doctor = false;
    char **program = options_take(argv + (argc > 0), &doctor);
    variables_check(&options);
    if (doctor)
        return doctor_report(&options);
    if (!*program)
        die(USAGE, "the program to run is missing; allowed: vprun [OPTION]... [--] PROGRAM [ARGUMENT]...");
    spill_check(&options);
    program_check(*program, path, sizeof path);
    preload(library_find(), options.small ? allocator_needed() : NULL);
    tree_give();
    program_become(path, program);
}
