/* tree.c: see tree.h. */
#include "tree.h"

#include <stddef.h>

#include "../../platform/os.h"
#include "peer.h"

/* A row that was not brought up to date for that long is looked at. The dead are found out within twice that. */
#define STALE_NS (UINT64_C(250) * 1000000)

/* What is shared is found out at most that often, and with at most a twentieth of the time. */
#define SHARED_NS   (UINT64_C(100) * 1000000)
#define SHARED_PART 20

/* So many at a time: a look takes time, and rows that are out of date can be made. The rest come next. */
#define LOOKS_MAX 8

#define RELAXED memory_order_relaxed

/* ---- the table ---- */

int tree_found(char text[SEGMENT_TEXT_MAX])
{
    int fd = segment_make(sizeof(struct tree_table), text);
    uint64_t namespace = peer_namespace();
    if (fd >= 0)
        os_pwrite(fd, &namespace, sizeof namespace, offsetof(struct tree_table, namespace));
    return fd;
}

static uint32_t rows_used(const struct tree *tree)
{
    uint32_t used = atomic_load_explicit(&tree->table->rows_used, RELAXED);
    return used < TREE_ROWS ? used : TREE_ROWS;
}

static void row_reset(struct tree_row *row)
{
    atomic_store_explicit(&row->pages, 0, RELAXED);
    atomic_store_explicit(&row->birth, 0, RELAXED);
    atomic_store_explicit(&row->looked_at, 0, RELAXED);
    atomic_store_explicit(&row->use, 0, RELAXED);
    atomic_store_explicit(&row->granted, 0, RELAXED);
    atomic_store_explicit(&row->firm, 0, RELAXED);
    atomic_store_explicit(&row->demand, 0, RELAXED);
    atomic_store_explicit(&row->shared, 0, RELAXED);
}

static bool row_take(struct tree *tree, uint32_t i, uint32_t process)
{
    uint32_t nobody = 0, used = rows_used(tree);
    if (!atomic_compare_exchange_strong(&tree->table->rows[i].process, &nobody, process))
        return false;
    row_reset(&tree->table->rows[i]);
    if (used < i + 1)
        atomic_compare_exchange_strong(&tree->table->rows_used, &used, i + 1);
    __atomic_store_n(&tree->self, i, __ATOMIC_RELAXED);
    return true;
}

static bool row_is(const struct tree *tree, uint32_t i, uint32_t process)
{
    return atomic_load_explicit(&tree->table->rows[i].process, RELAXED) == process;
}

/* ---- the others ---- */

/* Also where the clock is not ours or the time is made up: then it is looked at all the time. */
static bool is_stale(const struct tree_row *row, uint64_t now)
{
    uint64_t at = atomic_load_explicit(&row->looked_at, RELAXED);
    return (at < now ? now - at : at - now) > STALE_NS;
}

/* Whether it is still the process that took the row: at the first look it is who has that number. */
static bool is_same(struct tree_row *row, const struct peer *peer)
{
    uint64_t unknown = 0;
    return peer->birth == 0 || atomic_compare_exchange_strong(&row->birth, &unknown, peer->birth) ||
           unknown == peer->birth;
}

/* Brings another's row up to date. Returns false when that process is dead; its row is free then. */
static bool row_look(struct tree_row *row, uint32_t process, uint64_t now)
{
    struct peer peer;
    atomic_store_explicit(&row->looked_at, now, RELAXED); /* first: nobody else need do it */
    if (atomic_exchange(&row->pages, 0)) /* silent for so long: it may be another program by now */
        atomic_store(&row->granted, 0);
    if (peer_look(process, &peer) && is_same(row, &peer)) {
        if (peer.use > 0) {
            atomic_store_explicit(&row->use, peer.use, RELAXED);
            atomic_store_explicit(&row->shared, peer.shared, RELAXED);
        }
        return true;
    }
    atomic_compare_exchange_strong(&row->process, &process, 0);
    return false;
}

static uint64_t at_most(uint64_t value, uint64_t most) { return value < most ? value : most; }

static uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static struct claim row_claim(const struct tree_row *row)
{
    struct claim claim = {.use = atomic_load_explicit(&row->use, RELAXED), .granted = atomic_load(&row->granted)};
    if (atomic_load_explicit(&row->pages, RELAXED)) {
        claim.firm = atomic_load_explicit(&row->firm, RELAXED);
        claim.demand = atomic_load_explicit(&row->demand, RELAXED);
    } else { /* nothing of it can leave */
        claim.granted = minus(claim.granted, atomic_load_explicit(&row->shared, RELAXED));
        claim.firm = claim.demand = claim.use > claim.granted ? claim.use : claim.granted;
    }
    return claim;
}

static uint64_t limited_sum(uint64_t a, uint64_t b) { return a + b < a ? UINT64_MAX : a + b; }

/* Takes down what the others claim. Returns how many they are. */
static size_t look_around(struct tree *tree)
{
    uint64_t now = os_now_ns(), use = 0;
    uint32_t n = rows_used(tree);
    size_t others = 0;
    int looks = LOOKS_MAX;
    for (uint32_t i = 0; i < n; i++) {
        struct tree_row *row = &tree->table->rows[i];
        uint32_t process = atomic_load_explicit(&row->process, RELAXED);
        if (process == 0 || i == tree->self ||
            (is_stale(row, now) && looks-- > 0 && !row_look(row, process, now)))
            continue;
        tree->claims[others] = row_claim(row);
        use = limited_sum(use, tree->claims[others].use);
        others++;
    }
    __atomic_store_n(&tree->processes, (uint32_t) others + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&tree->use, use, __ATOMIC_RELAXED);
    return others;
}

/* ---- coming and going ---- */

/* Our own row from before exec; else a free one; else a dead one's. */
static void take_row(struct tree *tree)
{
    uint32_t process = os_process_id(), n = rows_used(tree);
    __atomic_store_n(&tree->self, TREE_NOBODY, __ATOMIC_RELAXED);
    tree->granted = 0;
    for (uint32_t i = 0; i < n; i++)
        if (row_is(tree, i, process)) {
            row_reset(&tree->table->rows[i]);
            __atomic_store_n(&tree->self, i, __ATOMIC_RELAXED);
            return;
        }
    for (uint32_t i = 0; i < TREE_ROWS; i++)
        if (row_take(tree, i, process))
            return;
    look_around(tree);
    for (uint32_t i = 0; i < TREE_ROWS; i++)
        if (row_take(tree, i, process))
            return;
}

/* Who was taken for dead, or whose row was scribbled over, comes back. */
static void keep_row(struct tree *tree)
{
    if (!tree->left && (tree->self == TREE_NOBODY || !row_is(tree, tree->self, os_process_id())))
        take_row(tree);
}

void tree_join(struct tree *tree, const char *text)
{
    int fd = segment_find(text, sizeof *tree->table);
    tree->self = TREE_NOBODY;
    if (fd < 0)
        return;
    tree->table = segment_map(fd, sizeof *tree->table);
    if (tree->table && atomic_load_explicit(&tree->table->namespace, RELAXED) != peer_namespace())
        tree->table = NULL;
    if (tree->table)
        take_row(tree);
}

void tree_after_fork(struct tree *tree)
{
    tree->shared_at = tree->processes = 0;
    if (tree->table)
        take_row(tree);
}

/* Who pages has much to give back, which takes time after this: it is gone when it is dead. */
void tree_leave(struct tree *tree)
{
    tree->left = true;
    if (!tree->table || tree->self == TREE_NOBODY)
        return;
    struct tree_row *row = &tree->table->rows[tree->self];
    uint32_t process = os_process_id();
    if (!atomic_load_explicit(&row->pages, RELAXED))
        atomic_compare_exchange_strong(&row->process, &process, 0);
}

bool tree_has_others(const struct tree *tree) { return tree->table && rows_used(tree) > 1; }

/* ---- shares ---- */

static void grant(struct tree *tree, uint64_t bytes)
{
    tree->granted = bytes;
    if (tree->self != TREE_NOBODY)
        atomic_store(&tree->table->rows[tree->self].granted, bytes);
}

/* Not more than it was, whatever the row says; but less, when it was given back. */
static uint64_t granted(const struct tree *tree)
{
    return tree->self == TREE_NOBODY ? tree->granted
                                     : at_most(tree->granted, atomic_load(&tree->table->rows[tree->self].granted));
}

/* What the others leave now. */
static uint64_t left_now(struct tree *tree, uint64_t budget)
{
    size_t others = look_around(tree);
    return share_left(tree->claims, others, others, budget);
}

/* Takes `wanted` bytes or what there is of them, and has at least what it had; `shared` is to be granted with them. Who
 * else has taken the same at that moment is seen afterwards; then neither has. */
static uint64_t take(struct tree *tree, uint64_t budget, uint64_t wanted, uint64_t shared)
{
    uint64_t had = at_most(minus(granted(tree), shared), wanted), got = at_most(wanted, left_now(tree, budget));
    got = got > had ? got : had;
    grant(tree, got + shared);
    if (got > had && left_now(tree, budget) < got)
        grant(tree, (got = had) + shared);
    return got;
}

/* Brought up to date now and then: it takes a walk through all that is in memory. */
static uint64_t shared_now(struct tree *tree)
{
    uint64_t now = os_now_ns(), resident, proportional;
    if (!tree_has_others(tree) || tree->processes == 1) /* at the last look */
        return 0;
    uint64_t pause = tree->shared_cost * SHARED_PART > SHARED_NS ? tree->shared_cost * SHARED_PART : SHARED_NS;
    if (tree->shared_at && now - tree->shared_at < pause)
        return tree->shared;
    tree->shared = peer_self(&resident, &proportional) ? minus(resident, proportional) : 0;
    tree->shared_at = os_now_ns();
    tree->shared_cost = tree->shared_at - now;
    return tree->shared;
}

static void publish_shared(struct tree *tree, uint64_t shared)
{
    if (tree->self != TREE_NOBODY)
        atomic_store_explicit(&tree->table->rows[tree->self].shared, shared, RELAXED);
}

bool tree_admit(struct tree *tree, uint64_t budget, uint64_t need)
{
    if (need > budget)
        return false;
    if (!tree->table)
        return true;
    keep_row(tree);
    uint64_t shared = at_most(shared_now(tree), need), own = need - shared;
    publish_shared(tree, shared);
    size_t others = look_around(tree);
    tree->claims[others] = (struct claim){.use = own, .demand = own};
    tree->share = share_of(tree->claims, others + 1, others, budget);
    return own <= tree->share && take(tree, budget, own, shared) == own;
}

void tree_give_back(struct tree *tree, uint64_t need)
{
    struct tree_table *table = tree->table;
    uint32_t self = __atomic_load_n(&tree->self, __ATOMIC_RELAXED);
    if (!table || self >= TREE_ROWS)
        return;
    uint64_t had = atomic_load_explicit(&table->rows[self].granted, RELAXED);
    if (need < had)
        atomic_compare_exchange_strong(&table->rows[self].granted, &had, need);
}

/* Says what we have and want. */
static void publish(struct tree *tree, const struct claim *claim)
{
    if (tree->self == TREE_NOBODY)
        return;
    struct tree_row *row = &tree->table->rows[tree->self];
    atomic_store_explicit(&row->use, claim->use, RELAXED);
    atomic_store_explicit(&row->firm, claim->firm, RELAXED);
    atomic_store_explicit(&row->demand, claim->demand, RELAXED);
    atomic_store_explicit(&row->looked_at, os_now_ns(), RELAXED);
    atomic_store_explicit(&row->pages, 1, RELAXED);
}

uint64_t tree_allot(struct tree *tree, uint64_t budget, const struct claim *mine)
{
    if (!tree->table)
        return budget;
    keep_row(tree);
    uint64_t shared = shared_now(tree);
    struct claim claim = {.use = minus(mine->use, shared), .firm = minus(mine->firm, shared),
                          .demand = minus(mine->demand, shared), .idle = mine->idle};
    size_t others = look_around(tree);
    tree->claims[others] = claim;
    tree->claims[others].demand = claim.demand = share_demand(tree->claims, others + 1, others, budget);
    publish(tree, &claim);
    tree->use = limited_sum(tree->use, claim.use);
    tree->share = share_of(tree->claims, others + 1, others, budget);
    uint64_t allotted = take(tree, budget, tree->share, 0);
    if (others == 0) /* but others are told only what is of use to it: they may come at any time */
        return tree->share = budget;
    return at_most(allotted > claim.firm ? allotted : claim.firm, budget) + shared;
}

uint64_t tree_use_of_others(const struct tree *tree)
{
    uint64_t use = 0;
    uint32_t n = tree_has_others(tree) ? rows_used(tree) : 0;
    for (uint32_t i = 0; i < n; i++)
        if (i != tree->self && atomic_load_explicit(&tree->table->rows[i].process, RELAXED))
            use = limited_sum(use, atomic_load_explicit(&tree->table->rows[i].use, RELAXED));
    return use;
}
