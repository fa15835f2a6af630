#include "fake_platform.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Nothing is mapped there: 1 GiB aligned, beyond what the kernel hands out to tests. */
#define FAKE_BASE (UINT64_C(1) << 44)

#define FAKE_STAGING (UINT64_C(1) << 20)

/* Traps that one access may need: each page of it, some waits and lost races. */
#define TRAPS_MAX 100000

/* The engine broke the contract: no assertion library may turn this into a mere failure of one check. */
#define CHECK(condition, ...)                                        \
    do {                                                             \
        if (!(condition)) {                                          \
            fprintf(stderr, "fake platform: " __VA_ARGS__);          \
            fprintf(stderr, " (%s:%d)\n", __FILE__, __LINE__);       \
            abort();                                                 \
        }                                                            \
    } while (0)

static struct fake *fake_of(struct platform *pf) { return (struct fake *) pf; }

static void step(struct fake *fake, int op, uintptr_t address, int64_t result)
{
    if (fake && fake->step)
        fake->step(fake->step_context, op, address, result);
}

static void begin(struct fake *fake, enum fake_op op, uintptr_t address)
{
    step(fake, op, address, 0);
    pthread_mutex_lock(&fake->mutex);
    fake->calls[op]++;
}

static int64_t end(struct fake *fake, enum fake_op op, uintptr_t address, int64_t result)
{
    pthread_mutex_unlock(&fake->mutex);
    step(fake, op | FAKE_RETURNED, address, result);
    return result;
}

static size_t index_of(const struct fake *fake, uintptr_t address) { return (address - fake->pf.base) / fake->pf.page; }

static void check_range(const struct fake *fake, uintptr_t start, size_t length)
{
    size_t page = fake->pf.page;
    CHECK(length > 0 && start % page == 0 && length % page == 0, "a range of odd size or start");
    CHECK(start >= fake->pf.base && start - fake->pf.base + length <= fake->pf.size, "a range outside the arena");
}

static void check_outside(const struct fake *fake, const void *pointer)
{
    CHECK((uintptr_t) pointer - fake->pf.base >= fake->pf.size, "content inside the arena");
}

static bool present(enum fake_page state) { return state == FAKE_PRESENT || state == FAKE_PROTECTED; }

static unsigned char *memory_at(const struct fake *fake, uintptr_t address)
{
    return fake->memory + (address - fake->pf.base);
}

/* ---- the contract ---- */

static int open_range(struct platform *pf, uintptr_t start, size_t length)
{
    struct fake *fake = fake_of(pf);
    check_range(fake, start, length);
    begin(fake, FAKE_OPEN, start);
    bool fails = fake->open_fails > 0;
    fake->open_fails -= fails;
    for (size_t i = 0; !fails && i < length / pf->page; i++) {
        CHECK(fake->state[index_of(fake, start) + i] == FAKE_CLOSED, "open of a page that is open");
        fake->state[index_of(fake, start) + i] = FAKE_ABSENT;
    }
    return (int) end(fake, FAKE_OPEN, start, fails ? -ENOMEM : 0);
}

/* A present page, or an empty one that a peek of an absent page has left: nobody can tell them apart. */
static bool seems_present(const struct fake *fake, size_t index)
{
    return present(fake->state[index]) || fake->residue[index];
}

/* Before arming: every page of the range gets memory; content stays. */
static int populate(struct platform *pf, uintptr_t start, size_t length)
{
    struct fake *fake = fake_of(pf);
    check_range(fake, start, length);
    begin(fake, FAKE_POPULATE, start);
    for (size_t i = 0, index = index_of(fake, start); i < length / pf->page; i++, index++) {
        CHECK(!fake->armed || fake->state[index] == FAKE_PRESENT, "populate of page %zu in state %u after arming", index,
              fake->state[index]);
        CHECK(fake->state[index] != FAKE_CLOSED, "populate of a closed page");
        fake->state[index] = FAKE_PRESENT;
    }
    return (int) end(fake, FAKE_POPULATE, start, 0);
}

static int close_range_of(struct platform *pf, uintptr_t start, size_t length)
{
    struct fake *fake = fake_of(pf);
    check_range(fake, start, length);
    begin(fake, FAKE_CLOSE, start);
    memset(fake->state + index_of(fake, start), FAKE_CLOSED, length / pf->page);
    memset(fake->residue + index_of(fake, start), 0, length / pf->page);
    memset(memory_at(fake, start), 0, length);
    return (int) end(fake, FAKE_CLOSE, start, 0);
}

/* Where readers cannot be let through alone (mprotect), everything traps once more. */
static int arm(struct platform *pf, const struct extent *live, size_t n)
{
    struct fake *fake = fake_of(pf);
    begin(fake, FAKE_ARM, pf->base);
    CHECK(!fake->armed, "armed twice");
    fake->armed = fake->arm_error == 0;
    for (size_t i = 0; i < n && fake->armed && !pf->caps.protects; i++)
        for (size_t k = 0, first = index_of(fake, live[i].start); k < live[i].length / pf->page; k++)
            if (fake->state[first + k] == FAKE_PRESENT)
                fake->state[first + k] = FAKE_PROTECTED;
    return (int) end(fake, FAKE_ARM, pf->base, fake->arm_error);
}

static int residency(struct platform *pf, uintptr_t start, size_t length, unsigned char *vec)
{
    struct fake *fake = fake_of(pf);
    check_range(fake, start, length);
    begin(fake, FAKE_RESIDENCY, start);
    for (size_t i = 0; i < length / pf->page; i++)
        vec[i] = seems_present(fake, index_of(fake, start) + i);
    return (int) end(fake, FAKE_RESIDENCY, start, fake->residency_error);
}

static uintptr_t present_from(const struct platform *pf, uintptr_t start, size_t length)
{
    struct fake *fake = fake_of((struct platform *) pf);
    check_range(fake, start, length);
    size_t at = 0;
    while (at < length && !seems_present(fake, index_of(fake, start + at)))
        at += pf->page;
    return start + at;
}

/* Staged content is moved, not copied: its place is empty afterwards. */
static void unstage(struct fake *fake, uintptr_t start, const unsigned char *content, size_t length)
{
    size_t offset = (size_t) ((uintptr_t) content - (uintptr_t) fake->staging);
    if (offset >= FAKE_STAGING)
        return;
    for (size_t at = 0; at < length; at += fake->pf.page) {
        CHECK(fake->staged[(offset + at) / fake->pf.page], "place from an empty part of staging");
        fake->staged[(offset + at) / fake->pf.page] = false;
        if (fake->staged_protected[(offset + at) / fake->pf.page])
            fake->state[index_of(fake, start + at)] = FAKE_PROTECTED;
    }
}

/* Writes one page's content: zeros leave alone what is there. */
static void place_page(struct fake *fake, size_t index, const unsigned char *content, bool writable)
{
    enum fake_page was = fake->state[index];
    CHECK(was == FAKE_ABSENT || (!content && present(was) && fake->zeros_over_content),
          "place on page %zu in state %u", index, was);
    if (was != FAKE_ABSENT)
        return;
    unsigned char *memory = fake->memory + index * fake->pf.page;
    fake->state[index] = writable ? FAKE_PRESENT : FAKE_PROTECTED;
    fake->residue[index] = false;
    if (content)
        memcpy(memory, content, fake->pf.page);
    else
        memset(memory, 0, fake->pf.page);
}

static int64_t place(struct platform *pf, uintptr_t start, size_t length, const void *content, bool writable)
{
    struct fake *fake = fake_of(pf);
    check_range(fake, start, length);
    check_outside(fake, content);
    CHECK(writable || pf->caps.protects, "protected placement, which this platform has not");
    begin(fake, FAKE_PLACE, start);
    if (fake->place_fails > 0) {
        fake->place_fails--;
        return end(fake, FAKE_PLACE, start, fake->place_error ? fake->place_error : -ENOMEM);
    }
    if (fake->place_most && length > fake->place_most)
        length = fake->place_most;
    for (size_t at = 0; at < length; at += pf->page)
        place_page(fake, index_of(fake, start + at), content ? (const unsigned char *) content + at : NULL, writable);
    if (content)
        unstage(fake, start, content, length);
    return end(fake, FAKE_PLACE, start, (int64_t) length);
}

/* Where protection is the trap, making an absent page accessible would lose its content. */
static bool left_alone(const struct fake *fake, enum fake_op op, enum fake_page was)
{
    if (fake->pf.caps.protects)
        return was == FAKE_ABSENT || was == FAKE_CLOSED;
    return was == FAKE_ABSENT && op == FAKE_PROTECT;
}

static int change_protection(struct fake *fake, enum fake_op op, uintptr_t start, size_t length, enum fake_page to)
{
    check_range(fake, start, length);
    begin(fake, op, start);
    unsigned *failures = op == FAKE_PROTECT ? &fake->protect_fails : &fake->unprotect_fails;
    bool fails = *failures > 0;
    *failures -= fails;
    size_t pages = length / fake->pf.page;
    if (fails && fake->protect_partly < pages)
        pages = fake->protect_partly;
    for (size_t i = 0, first = index_of(fake, start); i < pages; i++) {
        CHECK(op == FAKE_UNPROTECT || !fake->held[first + i], "protect of page %zu, which a system call writes to",
              first + i);
        enum fake_page was = fake->state[first + i];
        CHECK(seems_present(fake, first + i) || left_alone(fake, op, was) || (op == FAKE_PROTECT && fake->races),
              "%s of page %zu in state %u", op == FAKE_PROTECT ? "protect" : "unprotect", first + i, was);
        if (present(was) || (op == FAKE_UNPROTECT && !left_alone(fake, op, was))) /* a residue, too, can be used now */
            fake->state[first + i] = (unsigned char) to;
        if (op == FAKE_UNPROTECT)
            fake->residue[first + i] = false;
    }
    return (int) end(fake, op, start, fails ? -ENOMEM : 0);
}

static int protect(struct platform *pf, uintptr_t start, size_t length)
{
    return change_protection(fake_of(pf), FAKE_PROTECT, start, length, FAKE_PROTECTED);
}

static int unprotect(struct platform *pf, uintptr_t start, size_t length)
{
    return change_protection(fake_of(pf), FAKE_UNPROTECT, start, length, FAKE_PRESENT);
}

static const void *peek(struct platform *pf, uintptr_t page, void *scratch)
{
    struct fake *fake = fake_of(pf);
    check_range(fake, page, pf->page);
    check_outside(fake, scratch);
    begin(fake, FAKE_PEEK, page);
    bool fails = fake->peek_fails > 0;
    fake->peek_fails -= fails;
    enum fake_page state = fake->state[index_of(fake, page)];
    /* A write may have rescued the page since it was protected, and a free may have taken it away. */
    fails |= state != FAKE_PROTECTED && state != FAKE_PRESENT;
    if (!fails)
        memcpy(scratch, memory_at(fake, page), pf->page);
    else
        fake->residue[index_of(fake, page)] = true;
    end(fake, FAKE_PEEK, page, fails);
    return fails ? NULL : scratch;
}

static int drop(struct platform *pf, const struct extent *extents, size_t n)
{
    struct fake *fake = fake_of(pf);
    begin(fake, FAKE_DROP, n ? extents[0].start : pf->base);
    bool fails = fake->drop_fails > 0;
    fake->drop_fails -= fails;
    for (size_t i = 0; i < n - (fails && n); i++) { /* the last extent stays */
        check_range(fake, extents[i].start, extents[i].length);
        for (size_t k = 0, first = index_of(fake, extents[i].start); k < extents[i].length / pf->page; k++) {
            CHECK(fake->state[first + k] == FAKE_PROTECTED || fake->state[first + k] == FAKE_ABSENT,
                  "drop of page %zu in state %u: its writers are not blocked", first + k, fake->state[first + k]);
            fake->state[first + k] = FAKE_ABSENT;
            fake->residue[first + k] = false;
        }
        memset(memory_at(fake, extents[i].start), 0, extents[i].length);
    }
    return (int) end(fake, FAKE_DROP, n ? extents[0].start : pf->base, fails ? -EINVAL : 0);
}

static int zero(struct platform *pf, uintptr_t start, size_t length)
{
    struct fake *fake = fake_of(pf);
    check_range(fake, start, length);
    begin(fake, FAKE_ZERO, start);
    bool fails = fake->zero_fails > 0;
    fake->zero_fails -= fails;
    for (size_t i = 0; i < length / pf->page; i++)
        CHECK(fake->state[index_of(fake, start) + i] == FAKE_PRESENT, "zeros into page %zu in state %u",
              index_of(fake, start) + i, fake->state[index_of(fake, start) + i]);
    if (!fails)
        memset(memory_at(fake, start), 0, length);
    return (int) end(fake, FAKE_ZERO, start, fails ? -EIO : 0);
}

static int64_t take(struct platform *pf, uintptr_t start, size_t length, size_t offset)
{
    struct fake *fake = fake_of(pf);
    check_range(fake, start, length);
    CHECK(pf->caps.takes && offset + length <= FAKE_STAGING, "take without staging for it");
    begin(fake, FAKE_TAKE, start);
    size_t done = 0, n = length / pf->page, first = index_of(fake, start);
    for (; done < n && !fake->busy[first + done]; done++) {
        size_t slot = offset / pf->page + done;
        CHECK(!fake->held[first + done], "take of page %zu, which a system call writes to", first + done);
        CHECK(present(fake->state[first + done]), "take of page %zu in state %u", first + done,
              fake->state[first + done]);
        bool was_protected = fake->swaps && fake->state[first + done] == FAKE_PROTECTED;
        CHECK(!fake->staged[slot], "take into a part of staging that is full");
        memcpy(fake->staging + slot * pf->page, fake->memory + (first + done) * pf->page, pf->page);
        memset(fake->memory + (first + done) * pf->page, 0, pf->page);
        fake->state[first + done] = FAKE_ABSENT;
        fake->staged[slot] = true;
        fake->staged_protected[slot] = was_protected;
    }
    return end(fake, FAKE_TAKE, start, done ? (int64_t) (done * pf->page) : -EBUSY);
}

static void staging_clear(struct platform *pf, size_t length)
{
    struct fake *fake = fake_of(pf);
    begin(fake, FAKE_CLEAR, pf->base);
    CHECK(length > 0 && length <= FAKE_STAGING, "staging has no such length");
    memset(fake->staged, 0, length / pf->page * sizeof *fake->staged);
    memset(fake->staging, 0, length);
    end(fake, FAKE_CLEAR, pf->base, 0);
}

static int move(struct platform *pf, uintptr_t from, uintptr_t to, size_t length)
{
    struct fake *fake = fake_of(pf);
    check_range(fake, from, length);
    check_range(fake, to, length);
    begin(fake, FAKE_MOVE, from);
    size_t source = index_of(fake, from), target = index_of(fake, to), n = length / pf->page;
    CHECK(source + n <= target || target + n <= source, "a move onto itself");
    bool fails = fake->move_fails > 0;
    fake->move_fails -= fails;
    for (size_t i = 0; i < n - fails; i++) { /* the last page stays */
        CHECK(fake->state[target + i] == FAKE_ABSENT, "a move to page %zu in state %u", target + i,
              fake->state[target + i]);
        if (!seems_present(fake, source + i))
            continue;
        bool stays = fake->swaps && fake->state[source + i] == FAKE_PROTECTED;
        fake->state[source + i] = FAKE_ABSENT;
        fake->residue[source + i] = false;
        fake->state[target + i] = stays ? FAKE_PROTECTED : FAKE_PRESENT;
        memcpy(fake->memory + (target + i) * pf->page, fake->memory + (source + i) * pf->page, pf->page);
        memset(fake->memory + (source + i) * pf->page, 0, pf->page);
    }
    return (int) end(fake, FAKE_MOVE, from, fails ? -ENOMEM : 0);
}

static bool swaps(const struct platform *pf) { return fake_of((struct platform *) pf)->swaps; }

static size_t granule(struct platform *pf) { return fake_of(pf)->granule; }

static int fork_phase(struct platform *pf, enum platform_fork phase)
{
    struct fake *fake = fake_of(pf);
    begin(fake, FAKE_FORK, pf->base);
    fake->forks[phase]++;
    return (int) end(fake, FAKE_FORK, pf->base, 0);
}

static const struct platform_ops fake_ops = {
    .name = "fake",
    .open = open_range,
    .populate = populate,
    .close = close_range_of,
    .arm = arm,
    .residency = residency,
    .present_from = present_from,
    .place = place,
    .protect = protect,
    .unprotect = unprotect,
    .peek = peek,
    .drop = drop,
    .zero = zero,
    .take = take,
    .staging_clear = staging_clear,
    .move = move,
    .swaps = swaps,
    .granule = granule,
    .fork = fork_phase,
};

/* ---- life ---- */

void fake_init(struct fake *fake, const struct fake_config *config)
{
    size_t pages = config->size / config->page;
    *fake = (struct fake){
        .pf = {.ops = &fake_ops, .base = FAKE_BASE, .size = config->size, .page = config->page},
        .granule = config->granule ? config->granule : config->page,
        .state = calloc(pages, 1),
        .residue = calloc(pages, sizeof(bool)),
        .busy = calloc(pages, sizeof(bool)),
        .held = calloc(pages, 1),
        .memory = mmap(NULL, config->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
        .staging = calloc(1, FAKE_STAGING),
        .staged = calloc(FAKE_STAGING / config->page, sizeof(bool)),
        .staged_protected = calloc(FAKE_STAGING / config->page, sizeof(bool)),
    };
    pthread_mutex_init(&fake->mutex, NULL);
    fake->pf.caps = (struct platform_caps){
        .evicts = true, .protects = config->protects, .takes = config->takes, .batch_drop = true, .move = true};
    if (config->takes) {
        fake->pf.staging = fake->staging;
        fake->pf.staging_size = FAKE_STAGING;
    }
    CHECK(fake->state && fake->residue && fake->busy && fake->held && fake->staging && fake->staged && fake->staged_protected &&
              fake->memory != MAP_FAILED, "no memory");
}

void fake_fini(struct fake *fake)
{
    munmap(fake->memory, fake->pf.size);
    free(fake->state);
    free(fake->residue);
    free(fake->busy);
    free(fake->held);
    free(fake->staging);
    free(fake->staged);
    free(fake->staged_protected);
    pthread_mutex_destroy(&fake->mutex);
}

enum fake_page fake_state(struct fake *fake, uintptr_t address)
{
    pthread_mutex_lock(&fake->mutex);
    enum fake_page state = fake->state[index_of(fake, address)];
    pthread_mutex_unlock(&fake->mutex);
    return state;
}

size_t fake_present(struct fake *fake, uintptr_t start, size_t length)
{
    size_t count = 0;
    for (size_t at = 0; at < length; at += fake->pf.page)
        count += present(fake_state(fake, start + at));
    return count;
}

unsigned char *fake_behind(struct fake *fake, uintptr_t address) { return memory_at(fake, address); }

/* ---- the program ---- */

/* The lock is held. Whether the access goes through; it demands zero pages where nothing is armed. */
static bool reaches(struct fake *fake, uintptr_t address, bool write)
{
    unsigned char *state = &fake->state[index_of(fake, address)];
    if (*state == FAKE_ABSENT && !fake->armed)
        *state = FAKE_PRESENT;
    return *state == FAKE_PRESENT || (*state == FAKE_PROTECTED && !write && fake->pf.caps.protects);
}

/* One attempt at a part within one page. */
static bool attempt(struct fake *fake, uintptr_t address, void *buffer, const void *bytes, size_t length)
{
    enum fake_op op = bytes ? FAKE_WRITE : FAKE_READ;
    begin(fake, op, address);
    bool done = reaches(fake, address, bytes);
    if (done && bytes)
        memcpy(memory_at(fake, address), bytes, length);
    else if (done)
        memcpy(buffer, memory_at(fake, address), length);
    return end(fake, op, address, done);
}

/* `present` of a trap is only a hint: what the hardware said a moment ago. */
static enum fault_result access_page(struct engine *engine, uintptr_t address, void *buffer, const void *bytes,
                                     size_t length)
{
    struct fake *fake = fake_of(engine->pf);
    for (int traps = 0; traps < TRAPS_MAX; traps++) {
        if (attempt(fake, address, buffer, bytes, length))
            return FAULT_HEALED;
        enum fake_page state = fake_state(fake, address);
        struct trap trap = {.address = address, .write = bytes, .present = state == FAKE_PROTECTED};
        enum fault_result result = fault_serve(engine, &trap);
        if (result != FAULT_HEALED)
            return result;
    }
    CHECK(false, "an access that never heals: word %llx", (unsigned long long) engine->pages[index_of(fake, address)]);
}

static enum fault_result access_all(struct engine *engine, uintptr_t address, unsigned char *buffer,
                                    const unsigned char *bytes, size_t length)
{
    size_t page = engine->pf->page;
    for (size_t done = 0, piece; done < length; done += piece) {
        piece = page - (address + done) % page;
        if (piece > length - done)
            piece = length - done;
        enum fault_result result =
            access_page(engine, address + done, buffer ? buffer + done : NULL, bytes ? bytes + done : NULL, piece);
        if (result != FAULT_HEALED)
            return result;
    }
    return FAULT_HEALED;
}

enum fault_result fake_read(struct engine *engine, uintptr_t address, void *buffer, size_t length)
{
    return access_all(engine, address, buffer, NULL, length);
}

enum fault_result fake_write(struct engine *engine, uintptr_t address, const void *bytes, size_t length)
{
    return access_all(engine, address, NULL, bytes, length);
}

bool fake_kernel_access(struct fake *fake, uintptr_t address, bool write)
{
    enum fake_op op = write ? FAKE_WRITE : FAKE_READ;
    begin(fake, op, address);
    return end(fake, op, address, reaches(fake, address, write));
}

void fake_hold(struct fake *fake, uintptr_t address)
{
    pthread_mutex_lock(&fake->mutex);
    size_t index = index_of(fake, address);
    CHECK(fake->state[index] == FAKE_PRESENT, "page %zu is in state %u under a system call that writes", index,
          fake->state[index]);
    fake->held[index]++;
    pthread_mutex_unlock(&fake->mutex);
}

void fake_let_go(struct fake *fake, uintptr_t address)
{
    pthread_mutex_lock(&fake->mutex);
    CHECK(fake->held[index_of(fake, address)]-- > 0, "a page is let go that nobody holds");
    pthread_mutex_unlock(&fake->mutex);
}

/* ---- a tier ---- */

static struct fake_tier *fake_tier_of(const struct tier *tier) { return (struct fake_tier *) tier; }

static struct fake_record *record_of(struct fake_tier *tier, tier_handle handle)
{
    CHECK(handle > 0 && handle <= tier->used && tier->records[handle - 1].bytes, "tier: dead handle %llu",
          (unsigned long long) handle);
    return &tier->records[handle - 1];
}

static tier_handle keep(struct fake_tier *tier, const struct record *record)
{
    if (tier->used == tier->room) {
        tier->room = tier->room ? 2 * tier->room : 64;
        tier->records = realloc(tier->records, tier->room * sizeof *tier->records);
    }
    unsigned char *bytes = malloc(record->size);
    memcpy(bytes, record->bytes, record->size);
    tier->records[tier->used++] = (struct fake_record){bytes, record->page, record->size, record->codec};
    tier->live++;
    return tier->used;
}

static int tier_store(struct tier *base, const struct record *run, size_t n, tier_handle *handles)
{
    struct fake_tier *tier = fake_tier_of(base);
    step(tier->fake, FAKE_STORE, 0, 0);
    pthread_mutex_lock(&tier->mutex);
    int stored = 0;
    while ((size_t) stored < n && (size_t) stored < tier->most_a_store && tier->live < tier->capacity &&
           tier->stores + 1 < tier->fail_store_at) {
        handles[stored] = keep(tier, &run[stored]);
        tier->stores++;
        stored++;
    }
    pthread_mutex_unlock(&tier->mutex);
    int result = stored ? stored : tier->store_error;
    step(tier->fake, FAKE_STORE | FAKE_RETURNED, 0, result);
    return result;
}

static int tier_load(struct tier *base, uint64_t page, tier_handle handle, void *scratch, struct record *out)
{
    struct fake_tier *tier = fake_tier_of(base);
    step(tier->fake, FAKE_LOAD, page, 0);
    pthread_mutex_lock(&tier->mutex);
    tier->loads++;
    int result = tier->load_error;
    if (result == 0) {
        struct fake_record *record = record_of(tier, handle);
        CHECK(page == TIER_ANY_PAGE || page == record->page, "tier: the record is another page's");
        memcpy(scratch, record->bytes, record->size);
        *out = (struct record){.page = record->page, .bytes = scratch, .size = record->size, .codec = record->codec};
    }
    pthread_mutex_unlock(&tier->mutex);
    step(tier->fake, FAKE_LOAD | FAKE_RETURNED, page, result);
    return result;
}

static void tier_release(struct tier *base, tier_handle handle)
{
    struct fake_tier *tier = fake_tier_of(base);
    step(tier->fake, FAKE_RELEASE, handle, 0);
    pthread_mutex_lock(&tier->mutex);
    struct fake_record *record = record_of(tier, handle);
    free(record->bytes);
    record->bytes = NULL;
    tier->live--;
    pthread_mutex_unlock(&tier->mutex);
    step(tier->fake, FAKE_RELEASE | FAKE_RETURNED, handle, 0);
}

static size_t live_in_segment(const struct fake_tier *tier, size_t segment)
{
    size_t live = 0;
    for (size_t i = segment * tier->segment; i < (segment + 1) * tier->segment; i++)
        live += tier->records[i].bytes != NULL;
    return live;
}

/* The closed segment that is asked for, or SIZE_MAX. */
static size_t choose_segment(const struct fake_tier *tier, enum tier_pick which, unsigned max_live_percent)
{
    size_t best = SIZE_MAX, least = SIZE_MAX;
    for (size_t segment = 0; tier->segment && segment < tier->used / tier->segment; segment++) {
        size_t live = live_in_segment(tier, segment);
        if (live == 0 || (which == PICK_EMPTIEST && live * 100 >= max_live_percent * tier->segment))
            continue;
        if (best == SIZE_MAX || (which == PICK_EMPTIEST && live < least)) {
            best = segment;
            least = live;
        }
    }
    return best;
}

static int tier_pick(struct tier *base, enum tier_pick which, unsigned max_live_percent, struct tier_item *items,
                     size_t max)
{
    struct fake_tier *tier = fake_tier_of(base);
    pthread_mutex_lock(&tier->mutex);
    CHECK(++tier->picks <= tier->picks_max, "tier: pick() is called for ever: the owner cleans and nothing gets clean");
    size_t n = 0, segment = choose_segment(tier, which, max_live_percent);
    for (size_t i = 0; segment != SIZE_MAX && i < tier->segment && n < max; i++) {
        struct fake_record *record = &tier->records[segment * tier->segment + i];
        if (record->bytes)
            items[n++] = (struct tier_item){{record->page, record->bytes, record->size, record->codec},
                                            segment * tier->segment + i + 1};
    }
    pthread_mutex_unlock(&tier->mutex);
    return (int) n;
}

static void tier_nothing(struct tier *tier) { (void) tier; }

static void tier_stats_of(const struct tier *base, struct tier_stats *out)
{
    struct fake_tier *tier = fake_tier_of(base);
    pthread_mutex_lock(&tier->mutex);
    *out = (struct tier_stats){.records = tier->live, .stores = tier->stores, .loads = tier->loads};
    pthread_mutex_unlock(&tier->mutex);
}

static const struct tier_ops fake_tier_ops = {
    .name = "fake",
    .store = tier_store,
    .load = tier_load,
    .release = tier_release,
    .pick = tier_pick,
    .pick_done = tier_nothing,
    .trim = tier_nothing,
    .stats = tier_stats_of,
};

void fake_tier_init(struct fake_tier *tier, struct fake *fake)
{
    *tier = (struct fake_tier){
        .tier = {&fake_tier_ops},
        .capacity = SIZE_MAX,
        .most_a_store = SIZE_MAX,
        .fail_store_at = UINT64_MAX,
        .store_error = -ENOSPC,
        .picks_max = UINT64_MAX,
        .fake = fake,
    };
    pthread_mutex_init(&tier->mutex, NULL);
}

void fake_tier_fini(struct fake_tier *tier)
{
    for (size_t i = 0; i < tier->used; i++)
        free(tier->records[i].bytes);
    free(tier->records);
    pthread_mutex_destroy(&tier->mutex);
}
