/*
 * exec.c: starting programs. One that the shim cannot be loaded into starts without it: dyld ignores it for protected
 * ones, but ends those for which it has no code, arm64e's above all (process/darwin/target.h).
 */
#include <alloca.h>
#include <errno.h>

#include "../../process/darwin/target.h"
#include "hold.h"
#include "hooks.h"

#define LIBRARY  "libvp.dylib"
#define VARIABLE "DYLD_INSERT_LIBRARIES="
#define NAME     (sizeof VARIABLE - 1)

/* ---- without the shim ---- */

static bool is_shim(const char *entry, size_t length)
{
    size_t n = sizeof LIBRARY - 1;
    return length >= n && memcmp(entry + length - n, LIBRARY, n) == 0 && (length == n || entry[length - n - 1] == '/');
}

/* The list of libraries without ours. */
static void copy_without(const char *list, char *out)
{
    memcpy(out, VARIABLE, NAME + 1);
    char *end = out + NAME;
    while (*list) {
        size_t length = strcspn(list, ":");
        if (length && !is_shim(list, length)) {
            if (end > out + NAME)
                *end++ = ':';
            memcpy(end, list, length);
            end += length;
        }
        list += length + (list[length] != 0);
    }
    *end = 0;
}

static size_t count_of(char *const vector[])
{
    size_t n = 0;
    while (vector && vector[n])
        n++;
    return n;
}

/* The environment with the list changed, on the caller's stack. */
#define WITHOUT_SHIM(environment)                                                                     \
    __extension__({                                                                                   \
        size_t n_ = count_of(environment);                                                            \
        char **copy_ = alloca((n_ + 1) * sizeof *copy_);                                              \
        for (size_t i_ = 0; i_ < n_; i_++) {                                                          \
            copy_[i_] = (environment)[i_];                                                            \
            if (strncmp(copy_[i_], VARIABLE, NAME) == 0) {                                            \
                copy_[i_] = alloca(strlen((environment)[i_]) + 1);                                    \
                copy_without((environment)[i_] + NAME, copy_[i_]);                                    \
            }                                                                                         \
        }                                                                                             \
        copy_[n_] = NULL;                                                                             \
        (char *const *) copy_;                                                                        \
    })

/* ---- what a new program is given ---- */

#define ROOM 256 /* strings in large blocks are rare; beyond this they are brought in, and hardly ever leave at once */

static void add_strings(char *const vector[], struct part *parts, size_t *count)
{
    for (size_t i = 0; vector && vector[i]; i++)
        if (guard_ours(vector[i]) && *count < ROOM)
            parts[(*count)++] = TEXT(vector[i]);
    if (guard_ours(vector) && *count < ROOM)
        parts[(*count)++] = IN(vector, (count_of(vector) + 1) * sizeof *vector);
}

static size_t parts_of(const char *path, char *const arguments[], char *const environment[], struct part *parts)
{
    size_t count = 0;
    parts[count++] = TEXT(path);
    add_strings(arguments, parts, &count);
    add_strings(environment, parts, &count);
    return count;
}

/* Nothing is held: in a child of vfork(), whose memory is its parent's, nobody would ever let go. But an exec that has
 * failed has done nothing: what it reads is brought in, and it is tried again. */
#define TRIES 100

static bool bring_in(const char *path, char *const arguments[], char *const environment[])
{
    struct part parts[ROOM];
    struct holds holds = {parts, parts_of(path, arguments, environment, parts)};
    bool any = any_ours(parts, holds.count);
    hold_all(parts, holds.count);
    let_go(&holds);
    return any;
}

int hooked_execve(const char *path, char *const arguments[], char *const environment[])
{
    int result, tries = TRIES;
    if (path && !target_reachable(path))
        environment = WITHOUT_SHIM(environment);
    do
        result = execve(path, arguments, environment);
    while (errno == EFAULT && bring_in(path, arguments, environment) && tries-- > 0);
    return result;
}

int hooked_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])
{
    struct part parts[ROOM + 1];
    int result;
    if (path && !target_reachable(path))
        environment = WITHOUT_SHIM(environment);
    size_t count = parts_of(path, arguments, environment, parts);
    parts[count++] = OUT_ONE(pid);
    HELD(result, parts, count, posix_spawn(pid, path, actions, attributes, arguments, environment));
    return result;
}
