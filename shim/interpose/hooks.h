/*
 * hooks.h: the functions the shim stands in for, and the originals behind them.
 */
#ifndef VP_INTERPOSE_HOOKS_H
#define VP_INTERPOSE_HOOKS_H

#include <aio.h>
#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <mqueue.h>
#include <sys/mman.h>
#include <threads.h>
#include <time.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <threads.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define VP_EXPORT __attribute__((visibility("default")))

/* libc's own types of addresses, whatever they are, so that our definitions agree with its declarations. */
typedef __SOCKADDR_ARG sockaddr_room;
typedef __CONST_SOCKADDR_ARG sockaddr_given;

/* Names that a header may have made macros. */
#undef fread_unlocked
#undef fwrite_unlocked
#undef fputs_unlocked

#define HOOK(result, name, parameters) result name parameters;
#include "hooks.def"
#undef HOOK

/* The next definition of each name after ours: libc's, or that of another preloaded library. NULL where there is none
 * (an older libc). Set by hooks_resolve(). */
struct hooks {
#define HOOK(result, name, parameters) result(*name) parameters;
#include "hooks.def"
#undef HOOK
};

extern struct hooks next;

/** Finds the originals. Harmless to repeat. Calls malloc (dlsym does): hooks_ready() is false meanwhile. */
void hooks_resolve(void);

/** Whether the originals are known. */
static inline bool hooks_ready(void) { return __builtin_expect(next.malloc != NULL, 1); }

/** The originals, found first if need be: other libraries' constructors may run before ours. */
static inline const struct hooks *originals(void)
{
    if (!hooks_ready())
        hooks_resolve();
    return &next;
}

/** Whether the code at `address` is libc's own, or the loader's. */
bool hooks_in_libc(const void *address);

#endif
