/* share.c: see share.h. */
#include "share.h"

static uint64_t at_most(uint64_t value, uint64_t most) { return value < most ? value : most; }

/* A claim's part when everybody may have `level`. Not above the budget: sums of them cannot overflow. */
static uint64_t part(const struct claim *claim, uint64_t level, uint64_t budget)
{
    uint64_t wanted = at_most(claim->demand, level);
    return at_most(wanted > claim->firm ? wanted : claim->firm, budget);
}

static bool is_within(const struct claim *claims, size_t n, uint64_t level, uint64_t budget)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n && sum <= budget; i++)
        sum += part(&claims[i], level, budget);
    return sum <= budget;
}

/* A level is found to this part of the budget. */
#define STEPS 24

uint64_t share_of(const struct claim *claims, size_t n, size_t me, uint64_t budget)
{
    if (is_within(claims, n, budget, budget))
        return part(&claims[me], budget, budget);
    uint64_t low = 0, high = budget;
    for (int i = 0; i < STEPS; i++) {
        uint64_t middle = low + (high - low) / 2;
        if (is_within(claims, n, middle, budget))
            low = middle;
        else
            high = middle;
    }
    return part(&claims[me], low, budget);
}

/* What an idle process gives up at a time. Asked for every twentieth of a second, half of what it has goes in a second. */
#define IDLE_PART 32

uint64_t share_demand(const struct claim *claims, size_t n, size_t me, uint64_t budget)
{
    const struct claim *claim = &claims[me];
    if (!claim->idle || is_within(claims, n, budget, budget))
        return claim->demand;
    uint64_t less = claim->use - claim->use / IDLE_PART;
    return at_most(less > claim->firm ? less : claim->firm, claim->demand);
}

uint64_t share_left(const struct claim *claims, size_t n, size_t me, uint64_t budget)
{
    uint64_t left = budget;
    for (size_t i = 0; i < n; i++) {
        const struct claim *claim = &claims[i];
        if (i != me)
            left -= at_most(claim->use > claim->granted ? claim->use : claim->granted, left);
    }
    return left;
}
