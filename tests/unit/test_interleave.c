/*
 * Every interleaving of two faults and one eviction on one page, and of pins and frees with them.
 *
 * The actors are coroutines. They give way before each operation that another one could notice: on the page's word
 * (page.h is wrapped by the linker), on the hardware and the tier (the fakes call us), and on a futex, where sleeping
 * is just not being scheduled. The search runs through all choices of who goes next, starting over for each; two
 * schedules that lead to the same state are followed only once, and counted.
 *
 * A state is the shared state and what each actor has on its stack; for the evictor, whose memory
 * is its own, also a hash of what it got there. Rubbish on a stack can only make two states out of one.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "../../platform/os.h"
#include "../../shim/pager/evict.h"
#include "../../shim/pager/scratch.h"
#include "../../shim/tier/codec.h"
#include "fake_platform.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define STACK_AS_NEW(start, size) __asan_unpoison_memory_region(start, size)
#define LOOKS_AT_STACKS __attribute__((no_sanitize_address, noinline))
#else
#define STACK_AS_NEW(start, size) ((void) 0)
#define LOOKS_AT_STACKS __attribute__((noinline))
#endif

#ifndef LOGICAL_PAGE
#define LOGICAL_PAGE 4096
#endif

enum { ACTORS = 3, STACK = 256 << 10, DEPTH = 1000, PAGE = LOGICAL_PAGE, PAGES = 64, STATES = 1 << 20 };

enum role { NOBODY, READ, WRITE, EVICT, PIN_WRITE, PIN_READ, FORGET };

enum start { START_FRESH, START_DIRTY, START_YOUNG, START_CLEAN, START_STORED, START_PROTECTED, START_HOT, STARTS };

static const char *const start_names[] = {"fresh", "dirty", "young", "clean", "stored", "protected without copy", "clean and hot"};

struct scenario {
    enum start start;
    enum role roles[ACTORS];
    bool takes, protects;
    bool full;   /* the tier refuses */
    bool shared; /* a fork happened, and the page is shared: it cannot be taken */
};

enum status { READY, BLOCKED, DONE };

struct actor {
    ucontext_t context; /* to start it */
    void *place[5];     /* where it gave way: frame, instruction, stack; the registers are on the stack */
    bool started;
    enum role role;
    enum status status;
    const uint32_t *futex; /* BLOCKED: on this */
    uint64_t seen;         /* evictor: hash of what it got into its memory */
    const char *next;      /* what it does when it goes on */
};

/* One world, used again for each schedule. */
static struct {
    struct scenario scenario;
    struct fake fake;
    struct fake_tier tier;
    struct arena arena;
    struct engine engine, pristine;
    uintptr_t page;
    page_word *word;
    unsigned char content[PAGE], encoded[PAGE]; /* at the start; and as a record */
    struct record record;
    unsigned char truth[PAGE]; /* what the program must see */
    bool forgotten, arena_used;

    void *scheduler[5];
    struct actor actors[ACTORS], *running;
    unsigned char *stacks;
    struct {
        unsigned char actor;
        const char *what;
    } trace[DEPTH];
    size_t length;
    const char *failure;
} world;

static unsigned char choices[DEPTH];

static void fail(const char *why)
{
    if (!world.failure)
        world.failure = why;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static uint64_t mix_bytes(uint64_t hash, const void *bytes, size_t size)
{
    for (const uint64_t *at = bytes, *end = at + size / sizeof *at; at < end; at++)
        hash = mix(hash, *at);
    return hash;
}

/* ---- giving way ---- */

/* Registers that a call normally leaves alone do change: the compiler may not look into these. */
#if defined(__clang__)
#define SWITCHES __attribute__((noinline))
#else
#define SWITCHES __attribute__((noipa))
#endif

/* swapcontext() costs two system calls. The compiler saves all registers around __builtin_setjmp(). */
SWITCHES __attribute__((noreturn)) static void jump(void **place) { __builtin_longjmp(place, 1); }

SWITCHES static void switch_to_scheduler(struct actor *self)
{
    if (__builtin_setjmp(self->place) == 0)
        jump(world.scheduler);
}

SWITCHES static void switch_to(struct actor *actor)
{
    if (__builtin_setjmp(world.scheduler))
        return;
    if (actor->started)
        jump(actor->place);
    actor->started = true;
    setcontext(&actor->context);
}

static void give_way(const char *what)
{
    struct actor *self = world.running;
    if (!self)
        return;
    self->next = what;
    switch_to_scheduler(self);
}

/* What goes into memory that state_hash() does not look at. */
static void note(uint64_t value)
{
    if (world.running && world.running->role == EVICT)
        world.running->seen = mix(world.running->seen, value);
}

static void on_step(void *context, int op, uintptr_t address, int64_t result)
{
    (void) context;
    static const char *const names[FAKE_OPS] = {
        "open", "populate", "close", "arm",  "residency", "place", "protect", "unprotect", "peek",   "drop",
        "take", "clear",    "move",  "fork", "read",      "write", "store",   "load",      "release"};
    if (!(op & FAKE_RETURNED)) {
        give_way(names[op]);
        return;
    }
    note((uint64_t) op);
    note(address);
    note((uint64_t) result);
    op &= ~FAKE_RETURNED;
    if (op == FAKE_PEEK || op == FAKE_TAKE) /* the content went into its own memory */
        note(mix_bytes(0, op == FAKE_PEEK ? fake_behind(&world.fake, world.page) : world.fake.staging, PAGE));
}

page_word __real_page_load(const page_word *word);
page_word __wrap_page_load(const page_word *word);
page_word __wrap_page_load(const page_word *word)
{
    if (word == world.word)
        give_way("page_load");
    return __real_page_load(word);
}

bool __real_page_swap(page_word *word, page_word *seen, page_word next);
bool __wrap_page_swap(page_word *word, page_word *seen, page_word next);
bool __wrap_page_swap(page_word *word, page_word *seen, page_word next)
{
    if (word == world.word)
        give_way("page_swap");
    page_word old = *seen;
    bool done = __real_page_swap(word, seen, next);
    if (done && page_state(old) != page_state(next)) /* it has become, or ceased to be, a victim */
        note(old);
    return done;
}

void __real_page_finish(page_word *word, page_word next);
void __wrap_page_finish(page_word *word, page_word next);
void __wrap_page_finish(page_word *word, page_word next)
{
    if (word == world.word)
        give_way("page_finish");
    __real_page_finish(word, next);
    note(next);
}

void __real_page_wait(page_word *word, page_word seen);
void __wrap_page_wait(page_word *word, page_word seen);
void __wrap_page_wait(page_word *word, page_word seen)
{
    if (word == world.word)
        give_way("page_wait");
    __real_page_wait(word, seen);
}

void __wrap_os_futex_wait(const uint32_t *word, uint32_t expected, uint64_t timeout_ns, bool shared);
void __wrap_os_futex_wait(const uint32_t *word, uint32_t expected, uint64_t timeout_ns, bool shared)
{
    (void) timeout_ns, (void) shared;
    give_way("futex_wait");
    if (!world.running || __atomic_load_n(word, __ATOMIC_SEQ_CST) != expected)
        return;
    world.running->status = BLOCKED;
    world.running->futex = word;
    give_way("wake up");
}

void __wrap_os_futex_wake(const uint32_t *word, int count, bool shared);
void __wrap_os_futex_wake(const uint32_t *word, int count, bool shared)
{
    (void) shared;
    give_way("futex_wake");
    for (int i = 0; i < ACTORS && count > 0; i++) {
        if (world.actors[i].status != BLOCKED || world.actors[i].futex != word)
            continue;
        world.actors[i].status = READY;
        world.actors[i].futex = NULL;
        count--;
    }
}

/* Time stands still: it would tell states apart. */
uint64_t __wrap_os_now_ns(void);
uint64_t __wrap_os_now_ns(void) { return 0; }

/* The actors are threads to each other. */
uint32_t __wrap_os_thread_id(void);
uint32_t __wrap_os_thread_id(void) { return world.running ? (uint32_t) (world.running - world.actors) + 2 : 1; }

void __wrap_os_signals_block(struct os_sigmask *saved);
void __wrap_os_signals_block(struct os_sigmask *saved) { *saved = (struct os_sigmask){0}; }

void __wrap_os_signals_restore(const struct os_sigmask *saved);
void __wrap_os_signals_restore(const struct os_sigmask *saved) { (void) saved; }

/* ---- the actors ---- */

static size_t own_offset(void) { return 64 * (size_t) (world.running - world.actors + 1); }

/* What earlier calls left on the stack would tell states apart that are the same. */
__attribute__((noinline)) static void wipe_stack(void)
{
    unsigned char rubbish[8192];
    memset(rubbish, 0, sizeof rubbish);
    __asm__ volatile("" : : "r"(rubbish) : "memory");
}

/* Whether an access reaches the page now is decided in the step that "read" and "write" announce; the truth changes in
 * the same step. */
static bool try_access(bool write)
{
    uintptr_t address = world.page + own_offset();
    wipe_stack();
    if (!fake_kernel_access(&world.fake, address, write))
        return false;
    if (write)
        world.truth[own_offset()] = *fake_behind(&world.fake, address) = (unsigned char) (0xa0 + own_offset() / 64);
    else if (memcmp(fake_behind(&world.fake, world.page), world.truth, PAGE) != 0)
        fail("a reader saw wrong content");
    return true;
}

static void access_page(bool write)
{
    while (!try_access(write)) {
        enum fake_page state = fake_state(&world.fake, world.page);
        struct trap trap = {.address = world.page + own_offset(), .write = write, .present = state == FAKE_PROTECTED};
        enum fault_result result = fault_serve(&world.engine, &trap);
        if (result != FAULT_HEALED) {
            fail("a fault was not healed");
            return;
        }
    }
}

static void pin_page(bool write)
{
    if (!engine_pin(&world.engine, world.page + own_offset(), 1, write))
        fail("a pin was refused");
    for (int i = 0; i < 2; i++)
        if (!try_access(write))
            fail("the kernel gets EFAULT in a pinned page");
    engine_unpin(&world.engine, world.page + own_offset(), 1);
}

static void evict(void)
{
    lock_acquire(&world.engine.evict_lock);
    evict_pages(&world.engine, 1);
    lock_release(&world.engine.evict_lock);
}

/* The program uses the block a last time and frees it. */
static void forget(void)
{
    struct extent extent;
    access_page(true);
    world.arena_used = true;
    if (!arena_detach(&world.arena, world.page, &extent))
        fail("the block cannot be freed");
    engine_forget(&world.engine, &extent);
    arena_return(&world.arena, &extent, false);
    world.forgotten = true;
}

static void act(void)
{
    struct actor *self = world.running;
    switch (self->role) {
    case READ:
    case WRITE:
        access_page(self->role == WRITE);
        break;
    case PIN_READ:
    case PIN_WRITE:
        pin_page(self->role == PIN_WRITE);
        break;
    case EVICT:
        evict();
        break;
    case FORGET:
        forget();
        break;
    case NOBODY:
        break;
    }
    self->status = DONE;
    switch_to_scheduler(self);
}

/* ---- the world ---- */

static void make_world(const struct scenario *scenario)
{
    struct fake_config config = {
        .size = PAGES * PAGE, .page = PAGE, .takes = scenario->takes, .protects = scenario->protects};
    world.scenario = *scenario;
    fake_init(&world.fake, &config);
    fake_tier_init(&world.tier, &world.fake);
    world.fake.races = true;
    world.fake.step = on_step;
    world.fake.busy[0] = scenario->shared;
    uint64_t got;
    cr_assert_eq(arena_init(&world.arena, &world.fake.pf), 0);
    cr_assert_eq(engine_init(&world.engine, &world.fake.pf, &world.arena), 0);
    world.arena.ready = true;
    world.engine.take_only = config.take_only;
    world.page = arena_alloc(&world.arena, PAGES * PAGE, 1, true, &got);
    cr_assert_eq(world.page, world.fake.pf.base);
    cr_assert_eq(engine_arm(&world.engine), 0);
    cr_assert_eq(engine_start_paging(&world.engine, &world.tier.tier, NULL), 0);
    world.engine.pager.config.no_thread = true;
    world.engine.warned_full = true; /* silence */
    world.engine.evict_shared = scenario->shared;
    world.pristine = world.engine;
    world.word = &world.engine.pages[0];

    for (size_t i = 0; i < PAGE; i++)
        world.content[i] = (unsigned char) (i / 50);
    if (scenario->start == START_FRESH)
        memset(world.content, 0, PAGE);
    struct codec_encoder encoder;
    cr_assert_eq(codec_encoder_init(&encoder), 0);
    codec_encode(&encoder, CODEC_LZ4, world.content, PAGE, world.encoded, &world.record);
    codec_encoder_fini(&encoder);
    world.stacks = malloc(ACTORS * STACK);
}

static void end_world(void)
{
    free(world.stacks);
    engine_fini(&world.engine);
    ranges_fini(&world.arena.ranges);
    fake_tier_fini(&world.tier);
    fake_fini(&world.fake);
    memset(&world, 0, sizeof world);
}

static bool is_clean(enum start start) { return start == START_CLEAN || start == START_HOT; }

/* The block is there, the page as the scenario says. Nothing else of the world outlives a schedule. */
static void set_page(void)
{
    enum start start = world.scenario.start;
    bool present = start != START_FRESH && start != START_STORED, copy = is_clean(start) || start == START_STORED;
    bool protected = is_clean(start) || start == START_PROTECTED;
    fake_tier_fini(&world.tier);
    fake_tier_init(&world.tier, &world.fake);
    tier_handle handle = 0;
    if (copy)
        cr_assert_eq(world.tier.tier.ops->store(&world.tier.tier, &world.record, 1, &handle), 1);
    world.tier.capacity = world.scenario.full ? 0 : SIZE_MAX;

    memset(world.fake.state, FAKE_ABSENT, PAGES);
    memset(world.fake.staged, 0, PAGES * sizeof(bool));
    memset(world.fake.staging, 0, PAGE);
    world.fake.state[0] = !present ? FAKE_ABSENT : protected ? FAKE_PROTECTED : FAKE_PRESENT;
    memset(fake_behind(&world.fake, world.page), 0, PAGE);
    if (present)
        memcpy(fake_behind(&world.fake, world.page), world.content, PAGE);
    memcpy(world.truth, world.content, PAGE);

    memset(world.engine.pages, 0, PAGES * sizeof(page_word));
    *world.word = start == START_FRESH    ? PAGE_FRESH
                  : start == START_STORED ? PAGE_STORED
                                          : PAGE_RESIDENT | (protected ? PAGE_PROTECTED : 0);
    *world.word |= copy ? page_store_bits(PLACE_POOL, handle) : 0;
    *world.word |= start == START_YOUNG ? policy_new(0) : start == START_HOT ? policy_stay(0, 2) : 0;
    world.engine.regions[0] = (struct region){.resident = present};
    world.engine.resident = present;
}

static void set_arena(void)
{
    uint64_t got;
    ranges_fini(&world.arena.ranges);
    cr_assert_eq(ranges_init(&world.arena.ranges, PAGES * PAGE), 0);
    memset(world.fake.state, FAKE_CLOSED, PAGES);
    cr_assert_eq(arena_alloc(&world.arena, PAGES * PAGE, 1, true, &got), world.page);
}

static void reset_world(void)
{
    world.running = NULL;
    world.length = 0;
    world.arena.lock.word = world.arena.lock.owner = 0;
    if (world.arena_used)
        set_arena();
    world.forgotten = world.arena_used = false;
    scratch_reset(world.engine.scratch);
    world.engine = world.pristine;
    set_page();
    for (int i = 0; i < ACTORS; i++) {
        struct actor *actor = &world.actors[i];
        actor->role = world.scenario.roles[i];
        actor->status = actor->role == NOBODY ? DONE : READY;
        actor->futex = NULL;
        actor->seen = 0;
        actor->next = "start";
        unsigned char *stack = world.stacks + i * STACK;
        actor->started = false;
        STACK_AS_NEW(stack, STACK);
        memset(stack + STACK - 16384, 0, 16384);
        getcontext(&actor->context);
        actor->context.uc_stack.ss_sp = stack;
        actor->context.uc_stack.ss_size = STACK;
        actor->context.uc_link = NULL;
        makecontext(&actor->context, act, 0);
    }
}

static void run_one(unsigned char choice)
{
    struct actor *actor = &world.actors[choice];
    world.trace[world.length].actor = choice;
    world.trace[world.length++].what = actor->next;
    world.running = actor;
    switch_to(actor);
    world.running = NULL;
}

/* The stack from where it was left up to its top. */
LOOKS_AT_STACKS static uint64_t mix_actor(uint64_t hash, int index)
{
    const struct actor *actor = &world.actors[index];
    const uint64_t *top = (const uint64_t *) (world.stacks + (index + 1) * STACK);
    hash = mix(mix(hash, actor->status), actor->seen);
    hash = mix(mix(hash, (uintptr_t) actor->next), (uintptr_t) actor->futex);
    if (actor->status == DONE || !actor->started)
        return hash;
    hash = mix(mix(hash, (uintptr_t) actor->place[0]), (uintptr_t) actor->place[1]);
    for (const uint64_t *at = actor->place[2]; at < top; at++)
        hash = mix(hash, *at);
    return hash;
}

static uint64_t state_hash(void)
{
    const struct engine *engine = &world.engine;
    uint64_t hash = mix(*world.word, world.fake.state[0]);
    hash = mix_bytes(hash, fake_behind(&world.fake, world.page), PAGE);
    hash = mix_bytes(hash, world.truth, PAGE);
    hash = mix_bytes(mix(hash, world.fake.staged[0]), world.fake.staging, PAGE);
    for (size_t i = 0; i < world.tier.used; i++)
        hash = mix(hash, world.tier.records[i].bytes ? i + 1 : 0);
    hash = mix(mix(hash, world.tier.used), engine->resident << 32 | engine->regions[0].resident);
    hash = mix(mix(hash, engine->regions[0].pins), (uint64_t) engine->spill_full << 32 | engine->evict_lock.word);
    hash = mix(mix(hash, world.arena.lock.word), (uint64_t) world.forgotten);
    hash = mix(mix(hash, engine->clock.now), (uint64_t) engine->clock.left << 32 | engine->counters.refills);
    for (int i = 0; i < ACTORS; i++)
        hash = mix_actor(hash, i);
    return hash;
}

/* ---- what must hold at the end ---- */

static void check_stored(page_word word)
{
    unsigned char bytes[PAGE], page[PAGE];
    struct record record;
    if (page_place(word) == PLACE_POOL) {
        world.tier.tier.ops->load(&world.tier.tier, 0, page_handle(word), bytes, &record);
        if (codec_decode(&record, page, PAGE, NULL) < 0)
            fail("the record is damaged");
    } else {
        memset(page, 0, PAGE);
        uint64_t same = evict_same_word(&world.engine, page_handle(word));
        for (size_t i = 0; i < PAGE; i += sizeof same)
            memcpy(page + i, &same, sizeof same);
    }
    if (memcmp(page, world.truth, PAGE) != 0)
        fail("the stored content is wrong");
}

static void check_word(page_word word, enum fake_page state)
{
    bool present = state == FAKE_PRESENT || state == FAKE_PROTECTED;
    if (word & PAGE_WAITERS)
        fail("somebody is still waited for");
    if ((page_state(word) == PAGE_RESIDENT) != present)
        fail("the word says otherwise than the hardware");
    if (state == FAKE_PROTECTED && !(word & PAGE_PROTECTED))
        fail("the page is protected and its word does not say so");
    if (state == FAKE_PRESENT && (word & PAGE_PROTECTED))
        fail("the word says protected and the page is not: a kept copy may go stale");
    if (page_state(word) != PAGE_RESIDENT && page_state(word) != PAGE_STORED && page_state(word) != PAGE_FRESH)
        fail("somebody left the page in motion");
}

static void check_end(void)
{
    page_word word = *world.word;
    enum fake_page state = (enum fake_page) world.fake.state[0];
    check_word(word, state);
    bool present = state == FAKE_PRESENT || state == FAKE_PROTECTED;
    if (world.engine.resident != present || world.engine.regions[0].resident != present)
        fail("the account of resident pages is wrong");
    if (world.tier.live != (page_place(word) == PLACE_POOL))
        fail("a record is leaked or lost");
    if (world.engine.regions[0].pins || world.engine.in_flight || world.engine.evict_lock.word)
        fail("somebody left without letting go");
    if (world.forgotten && (word != PAGE_FRESH || state != FAKE_CLOSED))
        fail("a freed page is not fresh");
    if (world.forgotten)
        return;
    if (present && memcmp(fake_behind(&world.fake, world.page), world.truth, PAGE) != 0)
        fail("the content in memory is wrong");
    if (page_state(word) == PAGE_STORED || (present && page_place(word) != PLACE_NONE))
        check_stored(word);
}

/* ---- the search ---- */

static struct {
    uint64_t key;
    double schedules;
} *visited;

static size_t states;

static size_t slot_of(uint64_t key)
{
    size_t at = (size_t) (key % STATES);
    while (visited[at].key && visited[at].key != key)
        at = (at + 1) % STATES;
    return at;
}

static void print_trace(void)
{
    static const char *const roles[] = {"nobody", "reader", "writer", "evictor", "write pin", "read pin", "free"};
    fprintf(stderr, "  start: %s, takes %d, protects %d, full %d, shared %d\n", start_names[world.scenario.start],
            world.scenario.takes, world.scenario.protects, world.scenario.full, world.scenario.shared);
    for (size_t i = 0; i < world.length; i++)
        fprintf(stderr, "  %d %-9s %s\n", world.trace[i].actor, roles[world.scenario.roles[world.trace[i].actor]],
                world.trace[i].what);
}

static void on_abort(int signal_number)
{
    print_trace();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void check_failure(void)
{
    if (!world.failure)
        return;
    fprintf(stderr, "%s:\n", world.failure);
    print_trace();
    cr_assert_fail("%s", world.failure);
}

static void replay(size_t depth)
{
    reset_world();
    for (size_t i = 0; i < depth; i++)
        run_one(choices[i]);
}

/* How many schedules lead on from the state after choices[0..depth), in which the world is. */
static double explore(size_t depth)
{
    cr_assert_lt(depth, DEPTH, "a schedule without end");
    check_failure();
    uint64_t key = state_hash() | 1;
    if (visited[slot_of(key)].key)
        return visited[slot_of(key)].schedules;

    bool enabled[ACTORS], any = false, done = true;
    for (int i = 0; i < ACTORS; i++) {
        any |= enabled[i] = world.actors[i].status == READY;
        done &= world.actors[i].status == DONE;
    }
    if (!any && !done)
        fail("deadlock: all who are left sleep");
    if (done)
        check_end();
    check_failure();
    double schedules = done;
    bool here = true; /* the first choice just goes on */
    for (unsigned char i = 0; i < ACTORS; i++) {
        if (!enabled[i])
            continue;
        if (!here)
            replay(depth);
        here = false;
        choices[depth] = i;
        run_one(i);
        schedules += explore(depth + 1);
    }
    size_t slot = slot_of(key);
    visited[slot].key = key;
    visited[slot].schedules = schedules;
    cr_assert_lt(++states, STATES / 2, "more states than the table is made for");
    return schedules;
}

static double enumerate(const struct scenario *scenario)
{
    make_world(scenario);
    memset(visited, 0, STATES * sizeof *visited);
    states = 0;
    reset_world();
    double schedules = explore(0);
    end_world();
    return schedules;
}

static void begin(void)
{
    visited = calloc(STATES, sizeof *visited);
    signal(SIGABRT, on_abort);
}

static void finish(void) { free(visited); }

/* ---- the tests ---- */

struct machine {
    bool takes, protects, full, shared;
};

static const struct machine machines[] = {
    {.protects = true},
    {.protects = true, .takes = true},
    {.protects = false},
    {.protects = true, .full = true},
    {.protects = true, .takes = true, .full = true},
    {.protects = false, .full = true},
    {.protects = true, .takes = true, .shared = true},
};

static bool possible(const struct machine *machine, enum start start)
{
    return machine->protects || (!is_clean(start) && start != START_PROTECTED);
}

/* A sanitizer leaves rubbish in every frame, by which equal states look different: three actors would take hours. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool thorough = false;
#else
static const bool thorough = true;
#endif

/* Every machine and every start for one cast. */
static void for_all(enum role first, enum role second, enum role third, double at_least)
{
    if (!thorough && second != NOBODY)
        cr_skip_test("not under a sanitizer");
    double total = 0;
    size_t scenarios = 0, all_states = 0;
    for (size_t m = 0; m < sizeof machines / sizeof *machines; m++) {
        for (int start = 0; start < STARTS; start++) {
            if (!possible(&machines[m], (enum start) start))
                continue;
            struct scenario scenario = {.start = (enum start) start, .roles = {first, second, third},
                                        .takes = machines[m].takes, .protects = machines[m].protects,
                                        .full = machines[m].full, .shared = machines[m].shared};
            double schedules = enumerate(&scenario);
            cr_expect_gt(schedules, 1000, "%s: only %.0f schedules", start_names[start], schedules);
            total += schedules;
            all_states += states;
            scenarios++;
        }
    }
    cr_log_info("%zu scenarios, %.3g schedules through %zu different states", scenarios, total, all_states);
    cr_assert_gt(total, at_least, "only %.0f schedules", total);
}

TestSuite(interleave, .init = begin, .fini = finish);

Test(interleave, two_reads_and_an_eviction) { for_all(READ, READ, EVICT, 1e6); }

Test(interleave, a_read_a_write_and_an_eviction) { for_all(READ, WRITE, EVICT, 1e6); }

Test(interleave, two_writes_and_an_eviction) { for_all(WRITE, WRITE, EVICT, 1e6); }

Test(interleave, a_write_pin_a_write_and_an_eviction) { for_all(PIN_WRITE, WRITE, EVICT, 1e6); }

Test(interleave, a_read_pin_a_write_and_an_eviction) { for_all(PIN_READ, WRITE, EVICT, 1e6); }

Test(interleave, a_free_and_an_eviction) { for_all(FORGET, NOBODY, EVICT, 10); }
