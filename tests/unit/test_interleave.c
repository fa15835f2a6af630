/*
 * Every interleaving of two faults and one eviction on one page, and of pins and frees with them; and of each of these
 * with the eviction of two pages, which has what lies between them protected with them (block.c).
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

enum { ACTORS = 3, STACK = 256 << 10, DEPTH = 1000, PAGE = LOGICAL_PAGE, PAGES = 64, STATES = 1 << 22, WATCHED = 5 };

enum role { NOBODY, READ, WRITE, EVICT, PIN_WRITE, PIN_READ, PIN_FAST, FORGET, DISCARD };

enum start { START_FRESH, START_DIRTY, START_YOUNG, START_CLEAN, START_STORED, START_PROTECTED, START_HOT, STARTS };

static const char *const start_names[] = {"fresh", "dirty", "young", "clean", "stored", "protected without copy", "clean and hot"};

/* The pages that somebody works on lie next to each other: one, or a victim, bystanders and another victim. */
struct scenario {
    size_t pages;
    enum start start[WATCHED];
    bool stays[WATCHED]; /* the page is not due */
    enum role roles[ACTORS];
    size_t target[ACTORS]; /* which page the actor works on */
    size_t discarded;      /* how many pages a discard is of, its target the first; 0: one */
    bool takes, protects;
    bool full;   /* the tier refuses */
    bool shared; /* a fork happened, and the page is shared: it cannot be taken */
    unsigned protect_fails, drop_fails; /* how many of the evictor's calls */
    size_t protect_partly;              /* and how many pages such a call protects all the same */
};

enum status { READY, BLOCKED, DONE };

struct actor {
    ucontext_t context; /* to start it */
    void *place[5];     /* where it gave way: frame, instruction, stack; the registers are on the stack */
    bool started;
    enum role role;
    enum status status;
    const uint32_t *futex; /* BLOCKED: on this */
    size_t target;         /* the page it works on */
    bool discards;         /* it is in engine_discard() */
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
    size_t first; /* of the pages watched */
    uintptr_t pages[WATCHED];
    page_word *words; /* theirs */
    unsigned char content[WATCHED][PAGE], encoded[WATCHED][PAGE]; /* at the start; and as records */
    struct record records[WATCHED];
    unsigned char truth[WATCHED][PAGE]; /* what the program must see */
    bool forgotten[WATCHED], arena_used;
    unsigned protect_fails, drop_fails; /* that are still to come */

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

static size_t scenarios, states, slots_used; /* so far; of this one; of `visited` */

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
    uint64_t lanes[4] = {hash, hash + 1, hash + 2, hash + 3}; /* none waits for another's product */
    for (const uint64_t *at = bytes, *end = at + size / sizeof *at; at < end; at += 4)
        for (int i = 0; i < 4; i++)
            lanes[i] = mix(lanes[i], at[i]);
    return mix(mix(mix(lanes[0], lanes[1]), lanes[2]), lanes[3]);
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

static bool is_watched(const page_word *word)
{
    return word >= world.words && word < world.words + world.scenario.pages;
}

/* What goes into memory that state_hash() does not look at. */
static void note(uint64_t value)
{
    if (world.running && world.running->role == EVICT)
        world.running->seen = mix(world.running->seen, value);
}

/* The evictor's calls fail, nobody else's. */
static void fail_at_will(int op)
{
    bool evictor = world.running && world.running->role == EVICT;
    if (evictor && op == FAKE_PROTECT && world.protect_fails > 0) {
        world.protect_fails--;
        world.fake.protect_fails = 1;
    }
    if (evictor && op == FAKE_DROP && world.drop_fails > 0) {
        world.drop_fails--;
        world.fake.drop_fails = 1;
    }
}

static void empty_truth(size_t i) { memset(world.truth[i], 0, PAGE); }

/* Memory that the program gives up reads as zero from this step on: one page, or a run of those that the actor owns. */
static void give_up(int op, uintptr_t address)
{
    size_t i = (address - world.pages[0]) / PAGE;
    if (!world.running || !world.running->discards || (op != FAKE_DROP && op != FAKE_ZERO))
        return;
    do
        empty_truth(i++);
    while (op == FAKE_DROP && i < world.running->target + world.scenario.discarded &&
           page_state(world.words[i]) == PAGE_FILLING);
}

static void on_step(void *context, int op, uintptr_t address, int64_t result)
{
    (void) context;
    static const char *const names[FAKE_OPS] = {
        "open", "populate", "close", "arm",  "residency", "place", "protect", "unprotect", "peek",   "drop", "zero",
        "take", "clear",    "move",  "fork", "read",      "write", "store",   "load",      "release"};
    if (!(op & FAKE_RETURNED)) {
        give_way(names[op]);
        fail_at_will(op);
        give_up(op, address);
        return;
    }
    note((uint64_t) op);
    note(address);
    note((uint64_t) result);
    op &= ~FAKE_RETURNED;
    if (op == FAKE_PEEK || op == FAKE_TAKE) /* the content went into its own memory */
        note(mix_bytes(0, op == FAKE_PEEK ? fake_behind(&world.fake, address) : world.fake.staging,
                       op == FAKE_PEEK ? PAGE : world.scenario.pages * PAGE));
}

page_word __real_page_load(const page_word *word);
page_word __wrap_page_load(const page_word *word);
page_word __wrap_page_load(const page_word *word)
{
    if (is_watched(word))
        give_way("page_load");
    return __real_page_load(word);
}

bool __real_page_swap(page_word *word, page_word *seen, page_word next);
bool __wrap_page_swap(page_word *word, page_word *seen, page_word next);
bool __wrap_page_swap(page_word *word, page_word *seen, page_word next)
{
    if (is_watched(word))
        give_way("page_swap");
    page_word old = *seen;
    bool done = __real_page_swap(word, seen, next);
    if (done && page_state(old) != page_state(next)) /* it has become, or ceased to be, the evictor's */
        note(mix(old, (uintptr_t) word));
    if (done && world.running && world.running->discards && page_state(old) == PAGE_STORED)
        empty_truth((size_t) (word - world.words)); /* nobody sees it before it is let go */
    return done;
}

void __real_page_finish(page_word *word, page_word next);
void __wrap_page_finish(page_word *word, page_word next);
void __wrap_page_finish(page_word *word, page_word next)
{
    if (is_watched(word))
        give_way("page_finish");
    __real_page_finish(word, next);
    note(mix(next, (uintptr_t) word));
}

void __real_page_wait(page_word *word, page_word seen);
void __wrap_page_wait(page_word *word, page_word seen);
void __wrap_page_wait(page_word *word, page_word seen)
{
    if (is_watched(word))
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
    size_t target = world.running->target;
    uintptr_t page = world.pages[target], address = page + own_offset();
    wipe_stack();
    if (!fake_kernel_access(&world.fake, address, write))
        return false;
    if (write)
        world.truth[target][own_offset()] = *fake_behind(&world.fake, address) =
            (unsigned char) (0xa0 + own_offset() / 64);
    else if (memcmp(fake_behind(&world.fake, page), world.truth[target], PAGE) != 0)
        fail("a reader saw wrong content");
    return true;
}

static uintptr_t own_address(void) { return world.pages[world.running->target] + own_offset(); }

static void access_page(bool write)
{
    while (!try_access(write)) {
        uintptr_t address = own_address();
        enum fake_page state = fake_state(&world.fake, address);
        struct trap trap = {.address = address, .write = write, .present = state == FAKE_PROTECTED};
        enum fault_result result = fault_serve(&world.engine, &trap);
        if (result != FAULT_HEALED) {
            fail("a fault was not healed");
            return;
        }
    }
}

/* A system call. fast: asked first whether all of it is there. */
static void pin_page(bool write, bool fast)
{
    uintptr_t address = own_address();
    if (!(fast && engine_pin_present(&world.engine, address, 1, write)) &&
        !engine_pin(&world.engine, address, 1, write))
        fail("a pin was refused");
    if (write)
        fake_hold(&world.fake, address);
    for (int i = 0; i < 2; i++)
        if (!try_access(write))
            fail("the kernel gets EFAULT in a pinned page");
    if (write)
        fake_let_go(&world.fake, address);
    engine_unpin(&world.engine, address, 1);
}

static void evict(void)
{
    lock_acquire(&world.engine.evict_lock);
    evict_pages(&world.engine, 1);
    lock_release(&world.engine.evict_lock);
}

/* The program uses the block that begins with the page a last time and frees it. */
static void forget(void)
{
    struct extent extent;
    size_t target = world.running->target;
    access_page(true);
    world.arena_used = true;
    if (!arena_detach(&world.arena, world.pages[target], &extent))
        fail("the block cannot be freed");
    engine_forget(&world.engine, &extent);
    arena_return(&world.arena, &extent, false);
    while (target < world.scenario.pages)
        world.forgotten[target++] = true;
}

/* The program needs the page's content no more, and looks. */
static void discard(void)
{
    struct actor *self = world.running;
    struct extent extent = {world.pages[self->target], world.scenario.discarded * PAGE};
    self->discards = true;
    engine_discard(&world.engine, &extent, true);
    self->discards = false;
    access_page(false);
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
    case PIN_FAST:
        pin_page(self->role != PIN_READ, self->role == PIN_FAST);
        break;
    case EVICT:
        evict();
        break;
    case FORGET:
        forget();
        break;
    case DISCARD:
        discard();
        break;
    case NOBODY:
        break;
    }
    self->status = DONE;
    switch_to_scheduler(self);
}

/* ---- the world ---- */

/* One block; or, with bystanders, two: the second begins with the first of them. */
static void allocate(void)
{
    uint64_t got;
    size_t first = world.first ? (world.first + 1) * PAGE : 0;
    if (first)
        cr_assert_eq(arena_alloc(&world.arena, first, 1, true, &got), world.fake.pf.base);
    cr_assert_eq(arena_alloc(&world.arena, PAGES * PAGE - first, 1, true, &got), world.fake.pf.base + first);
}

static void make_content(size_t i)
{
    for (size_t at = 0; at < PAGE; at++)
        world.content[i][at] = (unsigned char) (at / 50 + 31 * i);
    if (world.scenario.start[i] == START_FRESH)
        memset(world.content[i], 0, PAGE);
    struct codec_encoder encoder;
    cr_assert_eq(codec_encoder_init(&encoder), 0);
    codec_encode(&encoder, CODEC_LZ4, world.content[i], PAGE, world.encoded[i], &world.records[i]);
    codec_encoder_fini(&encoder);
    world.records[i].page = world.first + i;
}

static void make_world(const struct scenario *scenario)
{
    struct fake_config config = {
        .size = PAGES * PAGE, .page = PAGE, .takes = scenario->takes, .protects = scenario->protects};
    world.scenario = *scenario;
    if (world.scenario.discarded == 0)
        world.scenario.discarded = 1;
    fake_init(&world.fake, &config);
    fake_tier_init(&world.tier, &world.fake);
    world.fake.races = true;
    world.fake.step = on_step;
    world.fake.protect_partly = scenario->protect_partly;
    world.first = scenario->pages > 1 ? RANGE_UNIT / PAGE - 1 : 0;
    for (size_t i = 0; i < scenario->pages; i++) {
        world.pages[i] = world.fake.pf.base + (world.first + i) * PAGE;
        world.fake.busy[world.first + i] = scenario->shared;
    }
    cr_assert_eq(arena_init(&world.arena, &world.fake.pf), 0);
    cr_assert_eq(engine_init(&world.engine, &world.fake.pf, &world.arena), 0);
    world.arena.ready = true;
    world.engine.take_only = config.take_only;
    allocate();
    cr_assert_eq(engine_arm(&world.engine), 0);
    cr_assert_eq(engine_start_paging(&world.engine, &world.tier.tier, NULL), 0);
    world.engine.pager.config.no_thread = true;
    world.engine.warned_full = true; /* silence */
    world.engine.evict_shared = scenario->shared;
    world.pristine = world.engine;
    world.words = &world.engine.pages[world.first];
    for (size_t i = 0; i < scenario->pages; i++)
        make_content(i);
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

/* Page i as the scenario says. */
static void set_page(size_t i)
{
    enum start start = world.scenario.start[i];
    bool present = start != START_FRESH && start != START_STORED, copy = is_clean(start) || start == START_STORED;
    bool protected = is_clean(start) || start == START_PROTECTED;
    tier_handle handle = 0;
    if (copy)
        cr_assert_eq(world.tier.tier.ops->store(&world.tier.tier, &world.records[i], 1, &handle), 1);
    world.fake.state[world.first + i] = !present ? FAKE_ABSENT : protected ? FAKE_PROTECTED : FAKE_PRESENT;
    memset(fake_behind(&world.fake, world.pages[i]), 0, PAGE);
    if (present)
        memcpy(fake_behind(&world.fake, world.pages[i]), world.content[i], PAGE);
    memcpy(world.truth[i], world.content[i], PAGE);

    page_word word = start == START_FRESH    ? PAGE_FRESH
                     : start == START_STORED ? PAGE_STORED
                                             : PAGE_RESIDENT | (protected ? PAGE_PROTECTED : 0);
    word |= copy ? page_store_bits(PLACE_POOL, handle) : 0;
    word |= start == START_YOUNG ? policy_new(0) : start == START_HOT ? policy_stay(0, 2) : 0;
    world.words[i] = present && world.scenario.stays[i] ? policy_stay(word, PAGE_AGE_MAX) : word;
    world.engine.regions[0].resident += present;
    world.engine.resident += present;
}

/* The blocks are there, the pages as the scenario says. Nothing else of the world outlives a schedule. */
static void set_pages(void)
{
    fake_tier_fini(&world.tier);
    fake_tier_init(&world.tier, &world.fake);
    memset(world.fake.state, FAKE_ABSENT, PAGES);
    memset(world.fake.residue, 0, PAGES * sizeof(bool));
    memset(world.fake.held, 0, PAGES);
    memset(world.fake.staged, 0, PAGES * sizeof(bool));
    memset(world.fake.staging, 0, world.scenario.pages * PAGE);
    memset(world.engine.pages, 0, PAGES * sizeof(page_word));
    world.engine.regions[0] = (struct region){0};
    world.engine.resident = 0;
    for (size_t i = 0; i < world.scenario.pages; i++)
        set_page(i);
    world.tier.capacity = world.scenario.full ? 0 : SIZE_MAX;
}

static void set_arena(void)
{
    ranges_fini(&world.arena.ranges);
    cr_assert_eq(ranges_init(&world.arena.ranges, PAGES * PAGE), 0);
    memset(world.fake.state, FAKE_CLOSED, PAGES);
    allocate();
}

static void reset_world(void)
{
    world.running = NULL;
    world.length = 0;
    world.arena.lock.word = world.arena.lock.owner = 0;
    if (world.arena_used)
        set_arena();
    world.arena_used = false;
    memset(world.forgotten, 0, sizeof world.forgotten);
    world.protect_fails = world.scenario.protect_fails;
    world.drop_fails = world.scenario.drop_fails;
    world.fake.protect_fails = world.fake.drop_fails = 0;
    scratch_reset(world.engine.scratch);
    world.engine = world.pristine;
    set_pages();
    for (int i = 0; i < ACTORS; i++) {
        struct actor *actor = &world.actors[i];
        actor->role = world.scenario.roles[i];
        actor->status = actor->role == NOBODY ? DONE : READY;
        actor->futex = NULL;
        actor->target = world.scenario.target[i];
        actor->discards = false;
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
    uint64_t hash = mix(scenarios, (uint64_t) world.protect_fails << 32 | world.drop_fails);
    for (size_t i = 0; i < world.scenario.pages; i++) {
        hash = mix(mix(hash, world.words[i]), world.fake.state[world.first + i]);
        hash = mix_bytes(hash, fake_behind(&world.fake, world.pages[i]), PAGE);
        hash = mix_bytes(hash, world.truth[i], PAGE);
        hash = mix(mix(hash, world.forgotten[i]), world.fake.staged[i]);
        if (world.scenario.takes)
            hash = mix_bytes(hash, world.fake.staging + i * PAGE, PAGE);
    }
    for (size_t i = 0; i < world.tier.used; i++)
        hash = mix(hash, world.tier.records[i].bytes ? i + 1 : 0);
    hash = mix(mix(hash, world.tier.used), engine->resident << 32 | engine->regions[0].resident);
    hash = mix(mix(hash, engine->regions[0].pins), (uint64_t) engine->spill_full << 32 | engine->evict_lock.word);
    hash = mix(hash, world.arena.lock.word);
    hash = mix(mix(hash, engine->clock.now), (uint64_t) engine->clock.left << 32 | engine->turn);
    hash = mix(hash, (uint64_t) engine->broken << 1 | engine->pool_tight);
    for (int i = 0; i < ACTORS; i++)
        hash = mix_actor(hash, i);
    return hash;
}

/* ---- what must always hold ---- */

static bool in_memory(enum fake_page state) { return state == FAKE_PRESENT || state == FAKE_PROTECTED; }

/* Whoever changes the hardware owns the page, so the two agree in every other state. A word that says protected of a page
 * that is not lets a kept copy go stale; one that does not say so has the kernel answer EFAULT. */
static void check_protection(page_word word, enum fake_page state)
{
    bool told = word & PAGE_PROTECTED || page_state(word) == PAGE_EVICTING;
    if (page_state(word) != PAGE_RESIDENT && page_state(word) != PAGE_EVICTING)
        return;
    if (told && state != FAKE_PROTECTED)
        fail("the word says protected and the page is not: a kept copy may go stale");
    if (!told && state != FAKE_PRESENT)
        fail("the word says writable and the page is not: the kernel would answer EFAULT");
}

static void check_now(void)
{
    for (size_t i = 0; i < world.scenario.pages; i++)
        check_protection(world.words[i], (enum fake_page) world.fake.state[world.first + i]);
}

/* ---- what must hold at the end ---- */

static void check_stored(size_t i)
{
    unsigned char bytes[PAGE], page[PAGE];
    struct record record;
    page_word word = world.words[i];
    if (page_place(word) == PLACE_POOL) {
        world.tier.tier.ops->load(&world.tier.tier, world.first + i, page_handle(word), bytes, &record);
        if (codec_decode(&record, page, PAGE, NULL) < 0)
            fail("the record is damaged");
    } else {
        memset(page, 0, PAGE);
        uint64_t same = evict_same_word(&world.engine, page_handle(word));
        for (size_t at = 0; at < PAGE; at += sizeof same)
            memcpy(page + at, &same, sizeof same);
    }
    if (memcmp(page, world.truth[i], PAGE) != 0)
        fail("the stored content is wrong");
}

static void check_word(page_word word, enum fake_page state)
{
    if (word & PAGE_WAITERS)
        fail("somebody is still waited for");
    if ((page_state(word) == PAGE_RESIDENT) != in_memory(state))
        fail("the word says otherwise than the hardware");
    if (page_state(word) != PAGE_RESIDENT && page_state(word) != PAGE_STORED && page_state(word) != PAGE_FRESH)
        fail("somebody left the page in motion");
}

static void check_page(size_t i)
{
    page_word word = world.words[i];
    enum fake_page state = (enum fake_page) world.fake.state[world.first + i];
    check_word(word, state);
    if (world.forgotten[i] && (word != PAGE_FRESH || state != FAKE_CLOSED))
        fail("a freed page is not fresh");
    if (world.forgotten[i])
        return;
    if (in_memory(state) && memcmp(fake_behind(&world.fake, world.pages[i]), world.truth[i], PAGE) != 0)
        fail("the content in memory is wrong");
    if (page_state(word) == PAGE_STORED || (in_memory(state) && page_place(word) != PLACE_NONE))
        check_stored(i);
}

static void check_end(void)
{
    size_t resident = 0, stored = 0;
    for (size_t i = 0; i < world.scenario.pages; i++) {
        check_page(i);
        resident += in_memory((enum fake_page) world.fake.state[world.first + i]);
        stored += page_place(world.words[i]) == PLACE_POOL;
    }
    if (world.engine.resident != resident || world.engine.regions[0].resident != resident)
        fail("the account of resident pages is wrong");
    if (world.tier.live != stored)
        fail("a record is leaked or lost");
    if (world.engine.regions[0].pins || world.engine.in_flight || world.engine.evict_lock.word)
        fail("somebody left without letting go");
}

/* ---- the search ---- */

static struct {
    uint64_t key;
    double schedules;
} *visited;


static size_t slot_of(uint64_t key)
{
    size_t at = (size_t) (key % STATES);
    while (visited[at].key && visited[at].key != key)
        at = (at + 1) % STATES;
    return at;
}

static void print_trace(void)
{
    static const char *const roles[] = {"nobody",   "reader",   "writer", "evictor", "write pin",
                                        "read pin", "fast pin", "free",   "discard"};
    const struct scenario *scenario = &world.scenario;
    fprintf(stderr, "  takes %d, protects %d, full %d, shared %d, fails: protect %u (%zu pages done), drop %u\n",
            scenario->takes, scenario->protects, scenario->full, scenario->shared, scenario->protect_fails,
            scenario->protect_partly, scenario->drop_fails);
    for (size_t i = 0; i < scenario->pages; i++)
        fprintf(stderr, "  page %zu: %s%s\n", i, start_names[scenario->start[i]], scenario->stays[i] ? ", stays" : "");
    for (size_t i = 0; i < world.length; i++)
        fprintf(stderr, "  %d %-9s (%zu) %s\n", world.trace[i].actor, roles[scenario->roles[world.trace[i].actor]],
                scenario->target[world.trace[i].actor], world.trace[i].what);
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
    check_now();
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
    states++;
    cr_assert_lt(++slots_used, STATES / 4 * 3, "more states than the table is made for");
    return schedules;
}

static double enumerate(const struct scenario *scenario)
{
    make_world(scenario);
    if (slots_used > STATES / 4) { /* till then the keys tell scenarios apart */
        memset(visited, 0, STATES * sizeof *visited);
        slots_used = 0;
    }
    scenarios++;
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

static void report(size_t before, double total, size_t all_states, double at_least)
{
    cr_log_info("%zu scenarios, %.3g schedules through %zu different states", scenarios - before, total, all_states);
    cr_assert_gt(total, at_least, "only %.0f schedules", total);
}

/* Every machine and every start for one cast. */
static void for_all(enum role first, enum role second, enum role third, double at_least)
{
    if (!thorough && second != NOBODY)
        cr_skip_test("not under a sanitizer");
    double total = 0;
    size_t before = scenarios, all_states = 0;
    for (size_t m = 0; m < sizeof machines / sizeof *machines; m++) {
        for (int start = 0; start < STARTS; start++) {
            if (!possible(&machines[m], (enum start) start))
                continue;
            struct scenario scenario = {.pages = 1, .start = {(enum start) start}, .roles = {first, second, third},
                                        .takes = machines[m].takes, .protects = machines[m].protects,
                                        .full = machines[m].full, .shared = machines[m].shared};
            double schedules = enumerate(&scenario);
            cr_expect_gt(schedules, 1000, "%s: only %.0f schedules", start_names[start], schedules);
            total += schedules;
            all_states += states;
        }
    }
    report(before, total, all_states, at_least);
}

TestSuite(interleave, .init = begin, .fini = finish);

Test(interleave, two_reads_and_an_eviction) { for_all(READ, READ, EVICT, 1e6); }

Test(interleave, a_read_a_write_and_an_eviction) { for_all(READ, WRITE, EVICT, 1e6); }

Test(interleave, two_writes_and_an_eviction) { for_all(WRITE, WRITE, EVICT, 1e6); }

Test(interleave, a_write_pin_a_write_and_an_eviction) { for_all(PIN_WRITE, WRITE, EVICT, 1e6); }

Test(interleave, a_read_pin_a_write_and_an_eviction) { for_all(PIN_READ, WRITE, EVICT, 1e6); }

Test(interleave, a_write_pin_and_a_discard) { for_all(PIN_WRITE, DISCARD, NOBODY, 1e4); }

Test(interleave, a_fast_write_pin_a_discard_and_an_eviction) { for_all(PIN_FAST, DISCARD, EVICT, 1e6); }

Test(interleave, a_read_pin_a_discard_and_an_eviction) { for_all(PIN_READ, DISCARD, EVICT, 1e6); }

/* Of both pages, one of which is in use; what becomes of the other in between is none of the other's affair. */
Test(interleave, a_discard_of_two_pages_and_a_write_pin_of_one)
{
    if (!thorough)
        cr_skip_test("not under a sanitizer");
    double total = 0;
    size_t before = scenarios, all_states = 0;
    for (int start = 0; start < STARTS * STARTS * 2; start++) {
        struct scenario scenario = {.pages = 2,
                                    .start = {(enum start)(start / 2 % STARTS), (enum start)(start / 2 / STARTS)},
                                    .roles = {PIN_WRITE, DISCARD},
                                    .target = {(size_t) start % 2},
                                    .discarded = 2,
                                    .protects = true};
        total += enumerate(&scenario);
        all_states += states;
    }
    report(before, total, all_states, 1e5);
}

Test(interleave, a_free_and_an_eviction) { for_all(FORGET, NOBODY, EVICT, 10); }

/* ---- a victim, a bystander, a victim ---- */

struct trouble {
    bool takes, full, shared;
    unsigned protect_fails, drop_fails;
    size_t protect_partly;
};

/* protect: of all three together, and then of each victim alone. */
static const struct trouble troubles[] = {
    {0},
    {.protect_fails = 1, .protect_partly = 2},
    {.protect_fails = 1},
    {.protect_fails = 2, .protect_partly = 1},
    {.protect_fails = 3},
    {.drop_fails = 1},
    {.full = true},
    {.takes = true},
    {.takes = true, .shared = true},
};

#define TROUBLES (sizeof troubles / sizeof *troubles)

static const enum start bystanders[] = {START_FRESH, START_DIRTY, START_CLEAN, START_STORED, START_PROTECTED};

/* Who is there besides the evictor, and which page each works on. */
struct cast {
    enum role roles[2];
    size_t target[2];
};

static double enumerate_bystander(const struct cast *cast, const struct trouble *trouble, enum start bystander, bool due,
                                  enum start first)
{
    struct scenario scenario = {.pages = 3,
                                .start = {first, bystander, START_DIRTY},
                                .stays = {false, !due, false},
                                .roles = {cast->roles[0], cast->roles[1], EVICT},
                                .target = {cast->target[0], cast->target[1]},
                                .takes = trouble->takes, .protects = true,
                                .full = trouble->full, .shared = trouble->shared,
                                .protect_fails = trouble->protect_fails, .protect_partly = trouble->protect_partly,
                                .drop_fails = trouble->drop_fails};
    double schedules = enumerate(&scenario);
    cr_expect_gt(schedules, 50, "%s: only %.0f schedules", start_names[bystander], schedules);
    return schedules;
}

/* Two bystanders. Who has one of them in hand has both let go again. */
static void beside_two(enum role role, size_t target, double at_least)
{
    if (!thorough)
        cr_skip_test("not under a sanitizer");
    double total = 0;
    size_t before = scenarios, all_states = 0;
    for (size_t b = 0; b < sizeof bystanders / sizeof *bystanders; b++) {
        struct scenario scenario = {.pages = 4,
                                    .start = {START_DIRTY, START_DIRTY, START_DIRTY, START_DIRTY},
                                    .stays = {false, true, true, false},
                                    .roles = {role, NOBODY, EVICT},
                                    .target = {target},
                                    .protects = true};
        scenario.start[target] = bystanders[b];
        total += enumerate(&scenario);
        all_states += states;
    }
    report(before, total, all_states, at_least);
}

/* Bystanders around a victim, which is absent when they are made writable again together. */
static void around_a_victim(enum role role, size_t target)
{
    if (!thorough)
        cr_skip_test("not under a sanitizer");
    size_t before = scenarios;
    struct scenario scenario = {.pages = 5,
                                .start = {START_DIRTY, START_DIRTY, START_DIRTY, START_DIRTY, START_DIRTY},
                                .stays = {false, true, false, true, false},
                                .roles = {role, NOBODY, EVICT},
                                .target = {target},
                                .protects = true};
    double total = enumerate(&scenario);
    report(before, total, states, 1e4);
}

/* The first so many troubles with every bystander; a clean victim between the others is one, too. */
static void beside(enum role role, size_t target, size_t troubled, double at_least)
{
    if (!thorough)
        cr_skip_test("not under a sanitizer");
    const struct cast cast = {.roles = {role}, .target = {target}};
    double total = 0;
    size_t before = scenarios, all_states = 0;
    for (size_t t = 0; t < troubled; t++) {
        for (size_t b = 0; b < sizeof bystanders / sizeof *bystanders; b++) {
            total += enumerate_bystander(&cast, &troubles[t], bystanders[b], false, START_DIRTY);
            all_states += states;
        }
        total += enumerate_bystander(&cast, &troubles[t], START_CLEAN, true, START_DIRTY);
        all_states += states;
    }
    total += enumerate_bystander(&cast, &troubles[0], START_DIRTY, false, START_PROTECTED);
    report(before, total, all_states + states, at_least);
}

/* Two actors, and what matters most: bystanders that are in memory, and a span that cannot be protected. */
static void two_beside(const struct cast *cast, double at_least)
{
    if (!thorough)
        cr_skip_test("not under a sanitizer");
    double total = 0;
    size_t before = scenarios, all_states = 0;
    for (size_t t = 0; t < 2; t++) {
        total += enumerate_bystander(cast, &troubles[t], START_DIRTY, false, START_DIRTY);
        all_states += states;
        total += enumerate_bystander(cast, &troubles[t], START_CLEAN, false, START_DIRTY);
        all_states += states;
    }
    report(before, total, all_states, at_least);
}

Test(interleave, a_read_of_the_victim_between_bystanders) { around_a_victim(READ, 2); }

Test(interleave, a_write_to_the_victim_between_bystanders) { around_a_victim(WRITE, 2); }

Test(interleave, a_write_pin_of_the_victim_between_bystanders) { around_a_victim(PIN_WRITE, 2); }

Test(interleave, a_discard_of_the_victim_between_bystanders) { around_a_victim(DISCARD, 2); }

Test(interleave, a_write_to_a_bystander_beside_three_victims) { around_a_victim(WRITE, 1); }

Test(interleave, a_fast_pin_of_a_bystander_beside_three_victims) { around_a_victim(PIN_FAST, 1); }

Test(interleave, a_read_of_a_bystander) { beside(READ, 1, TROUBLES, 1e6); }

Test(interleave, a_write_to_a_bystander) { beside(WRITE, 1, TROUBLES, 1e6); }

Test(interleave, a_write_pin_of_a_bystander) { beside(PIN_WRITE, 1, TROUBLES, 1e6); }

Test(interleave, a_fast_write_pin_of_a_bystander) { beside(PIN_FAST, 1, TROUBLES, 1e6); }

Test(interleave, a_read_pin_of_a_bystander) { beside(PIN_READ, 1, TROUBLES, 1e6); }

Test(interleave, a_discard_of_a_bystander) { beside(DISCARD, 1, TROUBLES, 1e6); }

/* Of the second block, which begins with the bystander. */
Test(interleave, a_free_of_a_bystander_and_a_victim) { beside(FORGET, 1, 2, 1e6); }

Test(interleave, a_rescue_of_the_first_victim) { beside(WRITE, 0, TROUBLES, 1e6); }

Test(interleave, a_rescue_of_the_last_victim) { beside(WRITE, 2, TROUBLES, 1e6); }

Test(interleave, a_write_pin_of_a_victim) { beside(PIN_WRITE, 0, TROUBLES, 1e6); }

Test(interleave, a_discard_of_a_victim) { beside(DISCARD, 0, TROUBLES, 1e6); }

Test(interleave, a_write_to_the_first_of_two_bystanders) { beside_two(WRITE, 1, 1e6); }

Test(interleave, a_write_to_the_second_of_two_bystanders) { beside_two(WRITE, 2, 1e6); }

Test(interleave, a_discard_of_the_second_of_two_bystanders) { beside_two(DISCARD, 2, 1e6); }

Test(interleave, a_write_pin_of_the_second_of_two_bystanders) { beside_two(PIN_WRITE, 2, 1e6); }

Test(interleave, a_write_to_a_bystander_and_a_rescue)
{
    two_beside(&(struct cast){.roles = {WRITE, WRITE}, .target = {1, 0}}, 1e6);
}

Test(interleave, a_write_pin_of_a_bystander_and_a_write_to_it)
{
    two_beside(&(struct cast){.roles = {PIN_WRITE, WRITE}, .target = {1, 1}}, 1e6);
}
