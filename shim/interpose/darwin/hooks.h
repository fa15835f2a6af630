/*
 * hooks.h: the functions of libSystem that the shim stands in for. hooked_NAME() stands in for NAME(); NAME() itself is
 * what it calls: dyld gives the replacements to every library but the one that brings them. (dlsym() would give them to
 * us.)
 */
#ifndef VP_INTERPOSE_DARWIN_HOOKS_H
#define VP_INTERPOSE_DARWIN_HOOKS_H

#include <dirent.h>
#include <fcntl.h>
#include <malloc/malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/event.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/param.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* <sys/xattr.h> is not among the open headers. */
extern ssize_t getxattr(const char *path, const char *name, void *value, size_t size, uint32_t position, int options);
extern int setxattr(const char *path, const char *name, const void *value, size_t size, uint32_t position, int options);

typedef void (*signal_handler)(int number);

#define HOOK(result, name, parameters) result hooked_##name parameters;
#define HOOK_AS(result, name, symbol, parameters)  \
    extern result name parameters __asm__(symbol); \
    result hooked_##name parameters;
#include "hooks.def"
#undef HOOK
#undef HOOK_AS

#endif
