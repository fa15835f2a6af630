/*
 * lifecycle.c: start-up in strict order, arming, fork, exit.
 *
 *   1. options, probes    2. reserve the arena    3. handlers    4. self-test    5. ready
 * A step that fails ends the shim's part, never the program's: it runs on as if we were not there, and one line on
 * stderr says why.
 */
#include "lifecycle.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "../platform/os.h"
#include "../platform/vm.h"
#include "arena/mapping.h"
#include "base/log.h"
#include "guard/guard.h"
#include "guard/resident.h"
#include "interpose/libc.h"
#include "pager/pager.h"
#include "process/altstack.h"
#include "process/memory.h"
#include "process/report.h"
#include "process/signals.h"
#include "process/strangers.h"
#include "tier/pool.h"
#include "tier/spill.h"

struct vp vp = {.mappings = LOCK_INIT(LOCK_MAPPINGS), .lock = LOCK_INIT(LOCK_LIFECYCLE), .self_test = "not run"};

/* The budget is not even asked for while all large blocks together are smaller. */
#define FIRST_LOOK (UINT64_C(16) << 20)

/* Where others share the budget, at a part of that: they do the same. */
#define FIRST_LOOK_SHARED 8

/* ---- 1. options ---- */

/* A program with more rights than its user takes no orders from the user's environment. */
static const char *environment(const char *name)
{
    return os_is_privileged() ? NULL : getenv(name);
}

static bool backend_exists(const char *name) { return platform_find(name); }

static void complain(const char *sentence) { log_warn("%s", sentence); }

static void read_options(void)
{
    struct option_machine machine = {.backend_exists = backend_exists};
    log_init(false);
    if (options_use_percentage(environment))
        machine.memory = memory_hundred_percent();
    options_defaults(&vp.options, environment);
    options_from_environment(&vp.options, environment, &machine, complain);
    log_init(vp.options.verbose);
}

/* The backend asked for, or the first that works. Returns NULL or why there is none. */
static const char *choose_backend(void)
{
    static char why[256];
    bool automatic = strcmp(vp.options.trap, "auto") == 0;
    for (size_t i = 0; platform_backends[i]; i++) {
        const struct platform_ops *ops = platform_backends[i];
        if (automatic ? ops->on_request : strcmp(ops->name, vp.options.trap) != 0)
            continue;
        why[0] = 0;
        if (ops->probe(&vp.platform.caps, why, sizeof why) == 0) {
            vp.platform.ops = ops;
            return NULL;
        }
        log_info("trap backend %s does not work here: %s", ops->name, why);
    }
    return why[0] ? why : "no trap backend works here";
}

/* ---- 2. reserve ---- */

/* Every arena begins at a multiple of PLACE: is_taken() asks for those only. */
#define PLACE        ARENAS_PLACE
#define PLACES_TRIED 64

static uintptr_t draw_place(void)
{
    uint64_t random = 0, places = (vp.options.arena + PLACE - 1) / PLACE;
    os_random(&random, sizeof random);
    return (uintptr_t) (ARENAS_START + random % ((ARENAS_END - ARENAS_START) / PLACE - places + 1) * PLACE);
}

static bool is_taken(uintptr_t base)
{
    for (uint64_t at = 0; at < vp.options.arena; at += PLACE)
        if (guard_is_elsewhere(base + at))
            return true;
    return false;
}

/* Asked before anything is done there: an ancestor's filter would stop that, and nobody handles its signal yet. */
static uintptr_t draw_free_place(void)
{
    for (int tries = 0; tries < PLACES_TRIED; tries++) {
        uintptr_t place = draw_place();
        if (!is_taken(place))
            return place;
    }
    return 0;
}

static bool reserve(void)
{
    vp.platform.size = vp.options.arena;
    vp.platform.base = draw_free_place();
    return vp.platform.base && vp.platform.ops->reserve(&vp.platform) == 0;
}

/* ---- 4. self-test ---- */

/* The handler and the code that it interrupts share these: no store may be optimised away. */
static volatile struct {
    uintptr_t address;
    bool trapped;
} self_test;

static bool serve_self_test(const siginfo_t *info)
{
    if (!self_test.address || (uintptr_t) info->si_addr != self_test.address)
        return false;
    self_test.trapped = true;
    uintptr_t page = self_test.address & ~(uintptr_t) (os_page_size() - 1);
    return vm_protect(page, os_page_size(), VM_READ_WRITE) == 0;
}

/* The program may have put something else there since this thread has trapped: the access tells, made again. What is free
 * could trap for ever, and so could a page of a file beyond its end. */
static bool is_something_now(uintptr_t address)
{
    unsigned char byte;
    for (int looks = 0; looks < 10; looks++) { /* it may change between the two questions, and again */
        enum range_kind kind = mapping_piece(&vp.arena, address, address + 1).kind;
        if (kind == RANGE_FREE || kind == RANGE_KEPT)
            return false;
        if (kind != RANGE_FOREIGN || vm_copy_out(address, &byte, 1) == 0)
            return true;
        os_yield();
    }
    return false;
}

static enum signal_verdict serve(int number, const siginfo_t *info, void *context)
{
    struct trap trap;
    if (number == SIGSYS)
        return guard_serve_signal(info, context) ? SIGNAL_SERVED : SIGNAL_PROGRAMS;
    if ((uintptr_t) info->si_addr - vp.platform.base >= vp.platform.size)
        return SIGNAL_PROGRAMS;
    if (serve_self_test(info))
        return SIGNAL_SERVED;
    if (!*vp.arena.here)
        return SIGNAL_PROGRAMS;
    if (!vp.platform.ops->decode(info, context, &trap))
        return SIGNAL_PROGRAMS;
    guard_thread_is_back();
    switch (fault_serve(&vp.engine, &trap)) {
    case FAULT_HEALED:
        return SIGNAL_SERVED;
    case FAULT_POISONED:
        return SIGNAL_LOST;
    default:
        return is_something_now(trap.address) ? SIGNAL_SERVED : SIGNAL_PROGRAMS;
    }
}

/* A store in the very middle must trap, be recognised, heal, and be there afterwards. */
static const char *run_self_test(void)
{
    const uint64_t mark = UINT64_C(0x68797065726f6e21);
    uintptr_t address = vp.platform.base + vp.platform.size / 2;
    volatile uint64_t *middle = (volatile uint64_t *) address;
    self_test.address = address;
    *middle = mark;
    bool kept = *middle == mark;
    self_test.address = 0;
    vm_protect(address, os_page_size(), VM_NONE);
    vm_discard(&(struct extent){address, os_page_size()}, 1);
    return !self_test.trapped ? "the store did not trap" : !kept ? "the store was lost" : NULL;
}

/* ---- fork ---- */

/* A stranger's own children are strangers too. */
static void before_fork(void)
{
    if (!*vp.arena.here)
        return;
    lock_acquire(&vp.mappings);
    lock_acquire(&vp.lock);
    vp.forking = true;
    engine_fork(&vp.engine, FORK_BEFORE);
}

static void after_fork_parent(void)
{
    if (!*vp.arena.here)
        return;
    engine_fork(&vp.engine, FORK_PARENT);
    vp.forking = false;
    lock_release(&vp.lock);
    lock_release(&vp.mappings);
}

/* What the program has said that its children shall not have, stored or in memory. */
static void wipe(void)
{
    uintptr_t end = vp.platform.base + vp.platform.size;
    struct piece piece;
    for (uintptr_t at = vp.platform.base; vp.arena.wiped && at < end; at += piece.extent.length) {
        piece = mapping_piece(&vp.arena, at, end);
        if (piece.kind != RANGE_MAPPED || !(piece.protection & MAPPING_WIPED))
            continue;
        if (lifecycle_armed())
            engine_discard(&vp.engine, &piece.extent, false);
        else
            vm_discard(&piece.extent, 1);
        resident_renew(at, at + piece.extent.length);
    }
}

static void after_fork_child(void)
{
    if (!vp.forking)
        return;
    strangers_admit();
    vp.forking = false;
    lock_adopt(&vp.mappings);
    lock_adopt(&vp.lock);
    signals_after_fork_child();
    tree_after_fork(&vp.tree);
    engine_fork(&vp.engine, FORK_CHILD);
    resident_after_fork_child();
    guard_after_fork_child();
    wipe();
    lock_release(&vp.lock);
    lock_release(&vp.mappings);
}

void lifecycle_fork(enum platform_fork phase)
{
    static void (*const phases[])(void) = {
        [FORK_BEFORE] = before_fork, [FORK_PARENT] = after_fork_parent, [FORK_CHILD] = after_fork_child};
    int saved = errno;
    if (vp.arena.ready)
        phases[phase]();
    errno = saved;
}

void lifecycle_fork_failed(void)
{
    if (!arena_is_here(&vp.arena))
        return;
    lock_acquire(&vp.lock);
    lock_acquire(&vp.engine.evict_lock);
    if (vp.engine.spill)
        spill_fork_failed(vp.engine.spill);
    lock_release(&vp.engine.evict_lock);
    lock_release(&vp.lock);
}

/* ---- arming ---- */

static struct tier *open_pool(void)
{
    struct tier *pool;
    struct pool_config config = {
        .reserve = vp.budget, .capacity = vp.budget / 2, .page_size = vp.platform.page};
    return pool_new(&pool, &config) == 0 ? pool : NULL;
}

static struct tier *open_spill(void)
{
    struct tier *spill;
    char why[256] = "";
    if (vp.options.spill_max == 0)
        return NULL;
    struct spill_config config = {.directory = vp.options.spill,
                                  .fd = -1,
                                  .max_bytes = vp.options.spill_max,
                                  .page_size = vp.platform.page};
    if (spill_new(&spill, &config) == 0)
        return spill;
    spill_check_directory(vp.options.spill, why, sizeof why);
    log_warn("no spill file: %s; what does not fit compressed stays in memory", why[0] ? why : vp.options.spill);
    return NULL;
}

static uint64_t allot(const struct claim *mine) { return tree_allot(&vp.tree, vp.budget, mine); }

static void start_paging(struct tier *spill)
{
    if (!vp.platform.caps.evicts) {
        log_warn("the %s backend cannot page out here; the program runs without a limit", vp.platform.ops->name);
        return;
    }
    struct pager_config config = {
        .budget = vp.budget, .resident = memory_resident, .overhead = memory_page_tables, .allot = allot};
    engine_set_ahead(&vp.engine, vp.budget);
    if (engine_start_paging(&vp.engine, open_pool(), spill) < 0) {
        log_warn("paging is off: no memory for its tables");
        return;
    }
    int thread = pager_start(&vp.engine, &config);
    if (thread < 0)
        log_info("no pager thread (error %u): faults page out for themselves", (uint64_t) -thread);
    log_info("paging armed: budget %z, backend %s, spill %s", vp.budget, vp.platform.ops->name,
             vp.engine.spill ? vp.options.spill : "off");
}

/* A fault that reached one of the platform's own threads instead of the handler. Where the kernel's faults come too, it may
 * be told late, when the block has been freed: nothing is wrong then, the toucher had been served. */
static bool serve_trap(void *engine, const struct trap *trap)
{
    enum fault_result result = fault_serve(engine, trap);
    return result == FAULT_HEALED || (result == FAULT_FOREIGN && vp.platform.caps.kernel_faults);
}

/* Tests choose; users have --no-filter. */
static const char *wanted_guard(void)
{
    const char *wanted = environment("VP_GUARD");
    return vp.options.no_filter ? "off" : wanted ? wanted : "notify";
}

static bool arm(void)
{
    if (vp.engine.trapping)
        return true;
    /* Asked again behind the filter, which lets no new ones in. */
    bool rings = guard_finds_rings();
    if (!rings) {
        guard_start(wanted_guard());
        rings = guard_finds_rings();
    }
    if (rings) {
        log_warn("the program uses io_uring or kernel aio, whose memory cannot be paged by %s: it runs without paging "
                 "(--trap=uffd-thread can, with privilege)",
                 vp.platform.ops->name);
        return false;
    }
    __atomic_store_n(&vp.engine.take_only, !guard_filters(), __ATOMIC_SEQ_CST);
    if (guard_finds_devices())
        __atomic_store_n(&vp.engine.take_only, true, __ATOMIC_SEQ_CST);
    strangers_exclude();
    vp.platform.serve = serve_trap;
    vp.platform.serve_context = &vp.engine;
    int result = engine_arm(&vp.engine);
    if (result < 0)
        log_warn("paging cannot be armed (%s backend, error %u): the program runs without it", vp.platform.ops->name,
                 (uint64_t) -result);
    return result == 0;
}

/* Bytes in memory outside the arena. Looks through every live block: not often. */
static void add_resident(void *sum, const struct extent *live)
{
    enum { CHUNK = 512 };
    unsigned char vec[CHUNK];
    size_t page = vp.platform.page;
    for (size_t at = 0; at < live->length; at += CHUNK * page) {
        size_t bytes = live->length - at < CHUNK * page ? live->length - at : CHUNK * page;
        if (vp.platform.ops->residency(&vp.platform, live->start + at, bytes, vec) < 0)
            return;
        for (size_t i = 0; i < bytes / page; i++)
            *(uint64_t *) sum += vec[i] ? page : 0;
    }
}

static uint64_t resident_elsewhere(void)
{
    uint64_t arena = 0, all = memory_resident();
    lock_acquire(&vp.arena.lock);
    arena_each(&vp.arena, add_resident, &arena);
    lock_release(&vp.arena.lock);
    return all > arena ? all - arena : 0;
}

/* What paging itself takes: the evictor's and the tiers' buffers. Bytes. */
static uint64_t paging_reserve(void) { return (UINT64_C(5) << 20) + 48 * vp.platform.page; }

/* The most that the arena may come to have in memory. */
static uint64_t arena_at_most(uint64_t live)
{
    return live + __atomic_load_n(&vp.arena.ranges.bytes[RANGE_KEPT], __ATOMIC_RELAXED) + paging_reserve();
}

/* Far enough from where it was to be looked at again: a 32nd of the budget. */
static bool has_changed(uint64_t now, uint64_t looked)
{
    return (now > looked ? now - looked : looked - now) > vp.budget / 32;
}

/* Bytes outside the arena, of the `resident` in memory. */
static uint64_t elsewhere(uint64_t live, uint64_t resident)
{
    if (vp.elsewhere == 0 || has_changed(live, vp.looked_live) || has_changed(resident, vp.looked_resident)) {
        vp.looked_live = live;
        vp.looked_resident = resident;
        vp.elsewhere = resident_elsewhere();
    }
    return vp.elsewhere;
}

/* Whether all that may come to be in memory is within the budget, or our share of it. Cheap questions first: adding what
 * is in memory already counts the arena twice; if even that fits, the arena is not looked through. Others are told no
 * more than what must come to be. */
static bool fits(uint64_t live)
{
    uint64_t most = arena_at_most(live), resident = memory_resident();
    if (most > vp.budget)
        return false;
    if (most + resident <= vp.budget && !tree_has_others(&vp.tree))
        return tree_admit(&vp.tree, vp.budget, most + (resident > live ? resident - live : 0));
    return tree_admit(&vp.tree, vp.budget, most + elsewhere(live, resident));
}

/* What is available to the tree is more than what is free: it has some already. */
static uint64_t budget_wanted(void)
{
    return vp.options.ram ? vp.options.ram
                          : memory_default_budget() + (memory_resident() + tree_use_of_others(&vp.tree)) / 5 * 4;
}

/* Takes the locks: the program's mappings must not change while paging arms. Who finds them taken waits: what a thread has
 * allocated may only be touched when it has been looked at. Returns whether there is something to look at: not for the
 * thread that arms and allocates for it, and not where nobody else is left who could let go. */
static bool take_a_look(void)
{
    if (__atomic_load_n(&vp.settled, __ATOMIC_ACQUIRE) || !*vp.arena.here || lock_held_by_me(&vp.mappings) ||
        lock_held_by_me(&vp.lock))
        return false;
    lock_acquire(&vp.mappings);
    lock_acquire(&vp.lock);
    return true;
}

static void end_look(void)
{
    lock_release(&vp.lock);
    lock_release(&vp.mappings);
}

/* Compares what there is with the budget; arms paging when it may not fit. */
static void look(uint64_t live)
{
    if (!take_a_look())
        return;
    if (vp.budget == 0)
        vp.budget = budget_wanted();
    if (!vp.settled && !fits(live)) {
        struct tier *spill = vp.platform.caps.evicts ? open_spill() : NULL; /* its ring: before the filter refuses them */
        if (arm())
            start_paging(spill);
        else
            spill_free(spill);
        __atomic_store_n(&vp.settled, true, __ATOMIC_RELEASE);
    }
    end_look();
}

void lifecycle_note_growth(void)
{
    uint64_t live = arena_live_bytes(&vp.arena);
    if (live >= (tree_has_others(&vp.tree) ? vp.first_look / FIRST_LOOK_SHARED : vp.first_look))
        look(live);
}

void lifecycle_note_shrink(void)
{
    tree_give_back(&vp.tree, arena_at_most(arena_live_bytes(&vp.arena)) + __atomic_load_n(&vp.elsewhere, __ATOMIC_RELAXED));
}

void lifecycle_note_small(void)
{
    uint64_t live = arena_live_bytes(&vp.arena);
    if (live > 0)
        look(live);
}

/* ---- what can be backed ---- */

static uint64_t disk_free(void)
{
    struct statvfs status;
    int saved = errno;
    uint64_t bytes = statvfs(vp.options.spill, &status) == 0 ? (uint64_t) status.f_bavail * status.f_frsize : 0;
    errno = saved;
    return bytes < vp.options.spill_max ? bytes : vp.options.spill_max;
}

bool lifecycle_can_back(uint64_t size)
{
    uint64_t budget = vp.options.ram ? vp.options.ram : vp.budget;
    if (__atomic_load_n(&vp.engine.spill_full, __ATOMIC_RELAXED))
        return arena_live_bytes(&vp.arena) + size <= budget;
    if (size <= (budget ? budget : FIRST_LOOK))
        return true;
    if (!budget)
        budget = budget_wanted();
    return size <= budget + disk_free();
}

/* ---- 5. ready ---- */

static const char *start(void)
{
    read_options();
    tree_join(&vp.tree, environment(SEGMENT_VARIABLE));
    hooks_resolve();
    const char *why = choose_backend();
    if (why)
        return why;
    if (!reserve())
        return "no address space for the arena";
    if (vp.platform.size < vp.options.arena)
        log_info("the arena is %z instead of %z: address space is limited", (uint64_t) vp.platform.size,
                 vp.options.arena);
    if (arena_init(&vp.arena, &vp.platform) < 0 || engine_init(&vp.engine, &vp.platform, &vp.arena) < 0)
        return "no memory for the arena's tables";
    if (signals_install(serve) < 0)
        return "SIGSEGV and SIGBUS cannot be handled";
    altstack_take();
    why = run_self_test();
    if (!why && vp.options.lazy && !arm())
        why = "--lazy: absent pages cannot be made to trap";
    if (why)
        signals_uninstall();
    else
        pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    return why;
}

__attribute__((constructor)) static void shim_start(void)
{
    const char *why = start();
    vp.self_test = why ? why : "ok";
    vp.budget = vp.options.ram;
    vp.first_look = vp.budget && vp.budget / 8 < FIRST_LOOK ? vp.budget / 8 : FIRST_LOOK;
    if (why)
        log_warn("the program runs without paging: %s", why);
    else
        vp.arena.ready = true;
    if (vp.options.ram && vp.options.ram / 16 < vp.arena.keep_max)
        vp.arena.keep_max = vp.options.ram / 16;
}

__attribute__((destructor)) static void shim_end(void)
{
    if (vp.arena.ready && !*vp.arena.here)
        return;
    report_at_exit();
    tree_leave(&vp.tree);
}
