/*
 * pager.c: the budget and the pager's thread.
 *
 * The budget is for the whole process, which may share it with others (share.h). What it holds outside the arena (its own small memory, the pool, our tables) is
 * read from the kernel; what is left is the arena's. Faults wait at the limit; the thread evicts from the high down to
 * the low watermark before they have to.
 *
 * The thread has no thread-local storage (os_thread_start): the rules of fault.c hold here too.
 */
#include "pager.h"

#include "../../platform/os.h"
#include "../base/log.h"
#include "evict.h"

/* The arena always has this much: an instruction may need several pages, and a batch is in flight. */
#define FLOOR_BYTES (UINT64_C(2) << 20)

/* Between limit and high, and between high and low watermark: a part of the limit, within these bounds. What lies idle there
 * is missed by the program; a batch of the evictor's is enough for it to be ahead of faults, and for other memory to grow by
 * between two looks. Where that would be much of all, less. */
#define SLACK_PART      64
#define SLACK_MOST_PART 16
#define SLACK_MIN_BYTES (UINT64_C(1) << 20)
#define SLACK_MAX_BYTES (UINT64_C(4) << 20)

#define INTERVAL_MIN_NS (UINT64_C(2) * 1000000)
#define INTERVAL_MAX_NS (UINT64_C(50) * 1000000)
#define OVERHEAD_NS     (UINT64_C(100) * 1000000)

#define RATIO_ONE 1024u

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/* ---- the budget ---- */

/* What the estimate of other memory loses of its excess at each tick: half in four seconds. */
#define FORGET 64

/* Every tenth of a second: what costs more to find out, and what fades. Returns whether it was time. */
static bool tick(struct pager *pager)
{
    uint64_t now = os_now_ns();
    if (now - pager->overhead_at < OVERHEAD_NS)
        return false;
    pager->overhead_at = now;
    if (pager->config.overhead)
        pager->overhead = pager->config.overhead();
    return true;
}

/* Memory that is neither arena nor pool. A page of ours may be counted before it is touched (a buffer that is about to be
 * read into): what is measured is then too little. So growth is believed at once, shrinking slowly. */
static uint64_t elsewhere(struct pager *pager, uint64_t measured, bool fade)
{
    if (measured >= pager->elsewhere)
        pager->elsewhere = measured;
    else if (fade)
        pager->elsewhere -= (pager->elsewhere - measured) / FORGET;
    return pager->elsewhere;
}

static void set_limits(struct engine *engine, uint64_t arena_bytes)
{
    struct pager *pager = &engine->pager;
    uint64_t most = arena_bytes / SLACK_MOST_PART, least = most < SLACK_MIN_BYTES ? most : SLACK_MIN_BYTES;
    uint64_t slack = clamp(arena_bytes / SLACK_PART, least, SLACK_MAX_BYTES);
    __atomic_store_n(&engine->limit, arena_bytes >> engine->page_shift, __ATOMIC_RELAXED);
    __atomic_store_n(&pager->high, minus(arena_bytes, slack) >> engine->page_shift, __ATOMIC_RELAXED);
    pager->low = minus(arena_bytes, 2 * slack) >> engine->page_shift;
}

/* What the pool leaves to the arena: this, or half where there is less. */
#define ARENA_BYTES (UINT64_C(8) << 20)

/* The better pages compress, the more of the budget the pool may take if there is so much to store: a page kept there costs
 * microseconds, one in the spill a disk access. At least a twentieth, so that a change in the data is noticed; at most
 * eight tenths: what is in use all the time needs room as well. */
static uint64_t pool_share(const struct pager *pager, uint64_t bytes)
{
    uint64_t share = bytes / RATIO_ONE * clamp((RATIO_ONE - pager->ratio) * 3 / 2, RATIO_ONE / 20, RATIO_ONE * 8 / 10);
    uint64_t most = bytes - (bytes / 2 < ARENA_BYTES ? bytes / 2 : ARENA_BYTES);
    return share < most ? share : most;
}

static uint64_t pool_held(const struct engine *engine)
{
    struct tier_stats stats = {0};
    if (engine->pool)
        engine->pool->ops->stats(engine->pool, &stats);
    return stats.held_bytes;
}

static void note_peak(const struct tier *tier, struct tier_peak *peak)
{
    struct tier_stats stats;
    if (!tier)
        return;
    tier->ops->stats(tier, &stats);
    peak->records = stats.records > peak->records ? stats.records : peak->records;
    peak->held_bytes = stats.held_bytes > peak->held_bytes ? stats.held_bytes : peak->held_bytes;
}

/* For how long a process that had pages come back or leave is taken to want more memory; and one that had not is taken to be
 * idle afterwards. */
#define PRESSED_NS (UINT64_C(2) * 1000000000)

static bool is_pressed(struct engine *engine)
{
    struct pager *pager = &engine->pager;
    uint64_t now = os_now_ns(), moves = __atomic_load_n(&engine->counters.refills, __ATOMIC_RELAXED) +
                                        __atomic_load_n(&engine->counters.evictions, __ATOMIC_RELAXED);
    if (moves != pager->moves)
        pager->moved_at = now;
    pager->moves = moves;
    return pager->moved_at && now - pager->moved_at < PRESSED_NS;
}

/* For as long it has touched nothing that was not there. What it gives up then makes pages leave: that does not count. */
static bool is_idle(struct engine *engine)
{
    struct pager *pager = &engine->pager;
    uint64_t now = os_now_ns(), faults = __atomic_load_n(&engine->counters.faults, __ATOMIC_RELAXED);
    if (faults != pager->faults || !pager->faulted_at)
        pager->faulted_at = now;
    pager->faults = faults;
    return now - pager->faulted_at >= PRESSED_NS;
}

static uint64_t stored(const struct tier *tier)
{
    struct tier_stats stats = {0};
    if (tier)
        tier->ops->stats(tier, &stats);
    return stats.records;
}

/* What memory would be of use: what there is, room to grow before the next look, and, where pages come and go, all that
 * is stored. What lies there untouched asks for nothing. */
static uint64_t demand(struct engine *engine, uint64_t used, bool idle)
{
    uint64_t room = used / 8 > engine->pager.config.budget / 16 ? used / 8 : engine->pager.config.budget / 16;
    uint64_t absent = is_pressed(engine) && !idle ? stored(engine->pool) + stored(engine->spill) : 0;
    return used + room + (absent << engine->page_shift);
}

/* This process's part of the budget. */
static uint64_t allotted(struct engine *engine, uint64_t used, uint64_t other)
{
    const struct pager_config *config = &engine->pager.config;
    if (!config->allot)
        return config->budget;
    bool idle = is_idle(engine);
    return config->allot(&(struct claim){
        .use = used, .firm = other + FLOOR_BYTES, .demand = demand(engine, used, idle), .idle = idle});
}

/* Shares the budget out. Holder of the evict lock. */
static void apportion(struct engine *engine)
{
    struct pager *pager = &engine->pager;
    bool fade = tick(pager);
    uint64_t used = pager->config.resident() + pager->overhead, pool = pool_held(engine);
    uint64_t resident = __atomic_load_n(&engine->resident, __ATOMIC_RELAXED) << engine->page_shift;
    uint64_t other = elsewhere(pager, minus(used, resident + pool), fade);
    uint64_t whole = allotted(engine, used, other);
    /* The kernel's counters are a little behind, and so are we: some pages are in motion. */
    uint64_t margin = whole / 64 + 32 * engine_page_size(engine);
    uint64_t paged = minus(whole, margin + other); /* what arena and pool have between them */
    if (engine->pool)
        evict_shrink_pool(engine, pool_share(pager, paged));
    pool = pool_held(engine);
    uint64_t arena_bytes = minus(paged, pool);
    set_limits(engine, arena_bytes > FLOOR_BYTES ? arena_bytes : FLOOR_BYTES);

    bool steady = used < pager->last_used + pager->last_used / 128;
    pager->last_used = used;
    pager->interval_ns = steady ? clamp(pager->interval_ns * 2, INTERVAL_MIN_NS, INTERVAL_MAX_NS) : INTERVAL_MIN_NS;
}

/* What leaves makes the pool grow, which the limit has to follow: not more than this goes between two looks. */
#define STEP_BYTES (UINT64_C(1) << 20)

/* How many pages the thread has to take out now: from above the high watermark on until the low one is reached. */
static size_t due(struct engine *engine)
{
    struct pager *pager = &engine->pager;
    uint64_t resident = __atomic_load_n(&engine->resident, __ATOMIC_RELAXED), step = STEP_BYTES >> engine->page_shift;
    if (resident > pager->high || resident <= pager->low)
        pager->draining = resident > pager->high;
    uint64_t excess = pager->draining ? resident - pager->low : 0;
    return excess < step ? excess : step;
}

/* Holder of the evict lock. */
static void look(struct engine *engine)
{
    apportion(engine);
    note_peak(engine->pool, &engine->pool_peak);
    note_peak(engine->spill, &engine->spill_peak);
}

size_t pager_relieve(struct engine *engine, size_t want)
{
    if (__atomic_load_n(&engine->pager.configured, __ATOMIC_ACQUIRE))
        look(engine);
    return evict_pages(engine, want);
}

size_t pager_step(struct engine *engine)
{
    lock_acquire(&engine->evict_lock);
    look(engine);
    size_t want = due(engine), left = want ? evict_pages(engine, want) : 0;
    lock_release(&engine->evict_lock);
    return left;
}

void pager_note_ratio(struct engine *engine, size_t size)
{
    unsigned ratio = (unsigned) (size * RATIO_ONE >> engine->page_shift);
    engine->pager.ratio += (ratio >> 6) - (engine->pager.ratio >> 6);
}

/* ---- the thread ---- */

static void run(void *argument)
{
    struct engine *engine = argument;
    struct pager *pager = &engine->pager;
    for (;;) {
        uint32_t bell = __atomic_load_n(&pager->bell, __ATOMIC_SEQ_CST);
        if (pager_step(engine) > 0)
            continue;
        __atomic_store_n(&pager->asleep, 1, __ATOMIC_SEQ_CST);
        os_futex_wait(&pager->bell, bell, pager->interval_ns, false);
        __atomic_store_n(&pager->asleep, 0, __ATOMIC_SEQ_CST);
    }
}

/* Makes the thread unless somebody else does. */
static int start_thread(struct engine *engine)
{
    uint32_t not_yet = 0;
    if (engine->pager.config.no_thread ||
        !__atomic_compare_exchange_n(&engine->pager.running, &not_yet, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return 0;
    int result = os_thread_start(run, engine, "vp-pager");
    if (result < 0) {
        engine->pager.config.no_thread = true; /* asked once, refused for good */
        __atomic_store_n(&engine->pager.running, 0, __ATOMIC_SEQ_CST);
    }
    return result;
}

int pager_start(struct engine *engine, const struct pager_config *config)
{
    engine->pager = (struct pager){.config = *config, .ratio = RATIO_ONE / 2, .interval_ns = INTERVAL_MIN_NS};
    lock_acquire(&engine->evict_lock);
    apportion(engine);
    lock_release(&engine->evict_lock);
    __atomic_store_n(&engine->pager.configured, true, __ATOMIC_RELEASE);
    return start_thread(engine);
}

bool pager_ring(struct engine *engine)
{
    struct pager *pager = &engine->pager;
    if (!__atomic_load_n(&pager->configured, __ATOMIC_ACQUIRE))
        return false;
    if (!__atomic_load_n(&pager->running, __ATOMIC_ACQUIRE) && (pager->config.no_thread || start_thread(engine) < 0))
        return false;
    __atomic_fetch_add(&pager->bell, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&pager->asleep, __ATOMIC_SEQ_CST))
        os_futex_wake(&pager->bell, 1, false);
    return true;
}

void pager_note_growth(struct engine *engine)
{
    struct pager *pager = &engine->pager;
    if (__atomic_load_n(&engine->paging, __ATOMIC_ACQUIRE) &&
        __atomic_load_n(&engine->resident, __ATOMIC_RELAXED) > __atomic_load_n(&pager->high, __ATOMIC_RELAXED) &&
        (__atomic_load_n(&pager->asleep, __ATOMIC_RELAXED) || !__atomic_load_n(&pager->running, __ATOMIC_RELAXED)))
        pager_ring(engine);
}
