/*
 * exec.c: starting programs and threads.
 *
 * exec is under no net. Nor can what it reads be held: in a
 * child of vfork() nobody would ever let go. But a failed exec has done nothing: where the answer is EFAULT, what it
 * reads is brought in, and it is tried again.
 *
 * posix_spawn(), popen() and system() run with all signals blocked: what they touch is held, net or not.
 */
#include <alloca.h>
#include <errno.h>
#include <stdarg.h>

#include "hooks.h"
#include "parts.h"
#include "probe.h"

/* ---- what a new program is given ---- */

typedef void visit(void *context, struct part part);

/* Visits a vector of strings as far as it is in the arena. One that cannot be read is for the kernel to refuse; a page
 * of it is asked for once. */
static void each_string(char *const vector[], visit *visited, void *context)
{
    uintptr_t known = UINTPTR_MAX; /* no page has this number */
    size_t i;
    for (i = 0;; i++) {
        uintptr_t page = (uintptr_t) &vector[i] / 4096;
        if (page != known && !can_read(&vector[i]))
            return;
        known = page;
        if (!vector[i])
            break;
        if (ours(vector[i]))
            visited(context, TEXT(vector[i]));
    }
    if (ours(vector))
        visited(context, IN(vector, (i + 1) * sizeof *vector));
}

static void each_part(const char *path, char *const arguments[], char *const environment[], visit *visited, void *context)
{
    if (ours(path))
        visited(context, TEXT(path));
    each_string(arguments, visited, context);
    each_string(environment, visited, context);
}

/* ---- exec ---- */

/* Its pages could leave between being brought in and being read, but not every time. */
#define TRIES 100

static void bring_in(void *any, struct part part)
{
    size_t size = part.size == UP_TO_NUL ? text_size(part.start) : part.size;
    guard_unpin(part.start, guard_pin(part.start, size, false));
    *(bool *) any = true;
}

/* Whether there is hope. */
static bool heal(const char *path, char *const arguments[], char *const environment[])
{
    bool any = false;
    each_part(path, arguments, environment, bring_in, &any);
    return any;
}

#define EXEC(path, arguments, environment, call)                                                                    \
    __extension__({                                                                                                 \
        int result_, tries_ = TRIES;                                                                                \
        guard_before_exec();                                                                                        \
        do                                                                                                          \
            result_ = call;                                                                                         \
        while (result_ < 0 && errno == EFAULT && heal(path, arguments, environment) && tries_-- > 0);               \
        result_;                                                                                                    \
    })

VP_EXPORT int execve(const char *path, char *const arguments[], char *const environment[])
{
    return EXEC(path, arguments, environment, originals()->execve(path, arguments, environment));
}

VP_EXPORT int execv(const char *path, char *const arguments[]) { return execve(path, arguments, environ); }

VP_EXPORT int execvpe(const char *file, char *const arguments[], char *const environment[])
{
    return EXEC(file, arguments, environment, originals()->execvpe(file, arguments, environment));
}

VP_EXPORT int execvp(const char *file, char *const arguments[]) { return execvpe(file, arguments, environ); }

VP_EXPORT int fexecve(int fd, char *const arguments[], char *const environment[])
{
    return EXEC(NULL, arguments, environment, originals()->fexecve(fd, arguments, environment));
}

VP_EXPORT int execveat(int fd, const char *path, char *const arguments[], char *const environment[], int flags)
{
    return EXEC(path, arguments, environment, originals()->execveat(fd, path, arguments, environment, flags));
}

/* The arguments from `first` to the NULL, as a vector on the caller's stack; `more` stands behind the NULL then. */
#define VECTOR_OF(first, more)                                              \
    __extension__({                                                         \
        va_list counted_;                                                   \
        size_t count_ = 1;                                                  \
        va_copy(counted_, more);                                            \
        for (const char *at_ = first; at_; at_ = va_arg(counted_, char *))  \
            count_++;                                                       \
        va_end(counted_);                                                   \
        char **vector_ = alloca(count_ * sizeof *vector_);                  \
        vector_[0] = (char *) (uintptr_t) (first);                          \
        for (size_t i_ = 1; i_ < count_; i_++)                              \
            vector_[i_] = va_arg(more, char *);                             \
        vector_;                                                            \
    })

VP_EXPORT int execl(const char *path, const char *first, ...)
{
    va_list more;
    va_start(more, first);
    int result = execve(path, VECTOR_OF(first, more), environ);
    va_end(more);
    return result;
}

VP_EXPORT int execlp(const char *file, const char *first, ...)
{
    va_list more;
    va_start(more, first);
    int result = execvpe(file, VECTOR_OF(first, more), environ);
    va_end(more);
    return result;
}

VP_EXPORT int execle(const char *path, const char *first, ...)
{
    va_list more;
    va_start(more, first);
    char **arguments = VECTOR_OF(first, more);
    int result = execve(path, arguments, va_arg(more, char **));
    va_end(more);
    return result;
}

/* ---- posix_spawn ---- */

/* Strings that lie together are held together (a pin is for a region): what has no room is hardly ever alone. */
#define SPAWN_ROOM 256

static void hold_part(void *holds, struct part part)
{
    bool any;
    if (!holds_add(holds, part))
        bring_in(&any, part);
}

typedef int spawn(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
                  char *const[]);

static int spawn_held(spawn *original, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                      const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])
{
    int error;
    struct held held[SPAWN_ROOM];
    struct holds holds = {.held = held, .room = SPAWN_ROOM};
    CLEANUP_PUSH(let_go_all, &holds);
    each_part(path, arguments, environment, hold_part, &holds);
    error = ALWAYS_HELD(original(pid, path, actions, attributes, arguments, environment), OUT_ONE(pid), IN_ONE(actions),
                        IN_ONE(attributes));
    CLEANUP_POP;
    return error;
}

VP_EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                          const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])
{
    return spawn_held(originals()->posix_spawn, pid, path, actions, attributes, arguments, environment);
}

VP_EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])
{
    return spawn_held(originals()->posix_spawnp, pid, file, actions, attributes, arguments, environment);
}

/* ---- commands ---- */

STAND_IN_ALWAYS(FILE *, popen, (const char *command, const char *mode), (command, mode), TEXT(command))
STAND_IN_ALWAYS(int, system, (const char *command), (command), TEXT(command))
