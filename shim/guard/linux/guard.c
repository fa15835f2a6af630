/*
 * guard.c: the net on Linux: which kind, and what becomes of it in children.
 */
#include "../guard.h"

#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/personality.h>

#include "../../../platform/linux/syscall.h"
#include "../../../platform/os.h"
#include "../../base/log.h"
#include "../../lifecycle.h"
#include "filter.h"
#include "proc.h"
#include "server.h"
#include "trap.h"
#include "under_way.h"

struct guard guard;

const char *guard_name(void)
{
    static const char *const names[] = {
        [GUARD_OFF] = "off", [GUARD_KERNEL] = "kernel", [GUARD_NOTIFY] = "notify", [GUARD_TRAP] = "trap"};
    return names[guard.kind];
}

/* The program's own code, unless another program would have it at the same place: it is not position-independent, or
 * addresses are not randomised. */
static void find_code(struct filter_scope *scope)
{
    const ElfW(Phdr) *headers = (const ElfW(Phdr) *) getauxval(AT_PHDR);
    size_t count = getauxval(AT_PHNUM);
    uintptr_t base = 0;
    if (!headers || personality(0xffffffff) & ADDR_NO_RANDOMIZE)
        return;
    for (size_t i = 0; i < count; i++)
        if (headers[i].p_type == PT_PHDR)
            base = (uintptr_t) headers - headers[i].p_vaddr;
    for (size_t i = 0; base && i < count; i++) {
        if (headers[i].p_type != PT_LOAD || !(headers[i].p_flags & PF_X))
            continue;
        scope->code_start = base + headers[i].p_vaddr;
        scope->code_end = scope->code_start + headers[i].p_memsz;
        return;
    }
}

static int install(enum filter_action action)
{
    struct filter_scope scope = {.start = vp.platform.base, .end = vp.platform.base + vp.platform.size};
    find_code(&scope);
    return filter_install(action, &scope);
}

static void publish(enum guard_kind kind) { __atomic_store_n(&guard.kind, kind, __ATOMIC_RELEASE); }

static int start_trap(void)
{
    int result = install(FILTER_TRAP);
    if (result == 0)
        publish(GUARD_TRAP);
    return result;
}

static void warn_unfiltered(int error)
{
    __atomic_store_n(&vp.engine.take_only, true, __ATOMIC_RELAXED);
    log_warn("system calls cannot be filtered (error %u): those that do not go through libc's functions may fail on "
             "paged memory",
             (uint64_t) -error);
}

/* The thread first, then the listener: a call that is stopped with nobody there would wait, or fail. */
static int start_listener(void)
{
    int result = server_prepare();
    if (result < 0)
        return result;
    int listener = install(FILTER_NOTIFY);
    if (listener >= 0)
        listener = os_fd_raise(listener);
    if (listener >= 0)
        under_way_adopt(); /* what is stopped from here on waits: nobody else adds to the table meanwhile */
    server_serve(listener);
    if (listener >= 0)
        publish(GUARD_NOTIFY);
    return listener < 0 ? listener : 0;
}

/* From here on nobody answers the filter: signals override it. */
void guard_lost_listener(void)
{
    int result = start_trap();
    if (result < 0)
        warn_unfiltered(result);
}

static void start_filter(const char *wanted)
{
    int result = strcmp(wanted, "trap") == 0 ? -ENOTSUP : start_listener();
    if (result < 0) {
        log_info("no listener for system calls (error %u): they are trapped", (uint64_t) -result);
        result = start_trap();
    }
    if (result < 0)
        warn_unfiltered(result);
}

void guard_start(const char *wanted)
{
    if (vp.platform.caps.kernel_faults) {
        publish(GUARD_KERNEL);
        return;
    }
    int looking = under_way_start();
    if (strcmp(wanted, "off") != 0)
        start_filter(looking == 0 ? wanted : "trap"); /* without it nothing that a listener holds would ever be let go */
    if (looking == 0 && guard.kind != GUARD_NOTIFY)
        under_way_adopt();
}

void guard_thread_is_back(void) { under_way_thread_is_back(); }

bool guard_serve_signal(const siginfo_t *info, void *context) { return trap_serve(info, context); }

/* The parent's listener does not know this process's memory. */
void guard_after_fork_child(void)
{
    server_after_fork_child();
    under_way_after_fork_child();
    if (guard.kind != GUARD_NOTIFY)
        return;
    int result = start_trap();
    if (result >= 0)
        return;
    __atomic_store_n(&vp.engine.take_only, true, __ATOMIC_RELAXED);
    log_warn("system calls of this child cannot be trapped (error %u): some may fail on paged memory",
                 (uint64_t) -result);
}

void guard_before_exec(void)
{
    if (guard.kind != GUARD_NOTIFY || !server_is_here() || lock_held_by_me(&vp.lock))
        return;
    lock_acquire(&vp.lock);
    if (guard.kind == GUARD_NOTIFY)
        start_trap();
    lock_release(&vp.lock);
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
    return found || proc_count("/proc/thread-self/maps", "/[aio]") > 0;
}
