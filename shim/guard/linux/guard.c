/*
 * guard.c: the net on Linux: which kind, and what becomes of it in children.
 */
#include "../guard.h"

#include <errno.h>
#include <string.h>

#include "../../../platform/linux/syscall.h"
#include "../../../platform/os.h"
#include "../../base/log.h"
#include "../../lifecycle.h"
#include "filter.h"
#include "proc.h"
#include "server.h"
#include "trap.h"

struct guard guard = {.how = "off"};

static int install(enum filter_action action)
{
    return filter_install(action, vp.platform.base, vp.platform.base + vp.platform.size);
}

static void publish(const char *how, bool filtered)
{
    guard.how = how;
    __atomic_store_n(&guard.filtered, filtered, __ATOMIC_RELEASE);
    __atomic_store_n(&guard.serving, true, __ATOMIC_RELEASE);
}

/* Returns 0 or a negative errno. A listener without a server would answer ENOSYS to everybody: a trap overrides it. */
static int start_listener(void)
{
    int listener = install(FILTER_NOTIFY);
    int result = listener < 0 ? listener : server_start(listener);
    if (result == 0)
        publish("notify", true);
    return result;
}

static int start_trap(void)
{
    int result = install(FILTER_TRAP);
    if (result == 0)
        publish("trap", true);
    return result;
}

void guard_start(const char *wanted)
{
    if (vp.platform.caps.kernel_faults) {
        publish("kernel", false);
        return;
    }
    if (strcmp(wanted, "off") == 0) {
        server_start(-1); /* for calls that are under way now */
        return;
    }
    int result = strcmp(wanted, "trap") == 0 ? -ENOTSUP : start_listener();
    if (result < 0) {
        log_info("no listener for system calls (error %u): they are trapped", (uint64_t) -result);
        result = start_trap();
        server_start(-1); /* for calls that are under way now */
    }
    if (result < 0)
        log_warn("system calls cannot be filtered (error %u): those that do not go through libc's functions may fail on "
                 "paged memory",
                 (uint64_t) -result);
}

void guard_thread_is_back(void) { server_thread_is_back(); }

bool guard_serve_signal(const siginfo_t *info, void *context) { return trap_serve(info, context); }

/* The parent's listener does not know this process's memory. */
void guard_after_fork_child(void)
{
    server_after_fork_child();
    if (!guard.serving || strcmp(guard.how, "notify") != 0)
        return;
    int result = start_trap();
    if (result < 0)
        log_warn("system calls of this child cannot be trapped (error %u): some may fail on paged memory",
                 (uint64_t) -result);
}

bool guard_is_elsewhere(uintptr_t start) { return filter_covers(start); }

/* ---- rings ---- */

static bool is_ring(int directory, const char *name)
{
    char target[64];
    const char *digits = name;
    if (os_fd_is_own((int) proc_number(&digits)))
        return false;
    long length = SYS4(SYS_readlinkat, directory, name, target, sizeof target - 1);
    target[length > 0 ? length : 0] = 0;
    return strcmp(target, "anon_inode:[io_uring]") == 0;
}

bool guard_finds_rings(void)
{
    struct directory descriptors;
    const char *name;
    bool found = false;
    if (vp.platform.caps.kernel_faults)
        return false;
    directory_open(&descriptors, "/proc/thread-self/fd");
    while (!found && (name = directory_next(&descriptors)) != NULL)
        found = is_ring(descriptors.fd, name);
    directory_close(&descriptors);
    return found || proc_contains("/proc/thread-self/maps", "/[aio]");
}
