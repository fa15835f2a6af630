/* How processes divide one budget (shim/pager/share.h). */
#include "../../shim/pager/share.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define BUDGET 100000u
#define NEAR   2u /* the level is found to a 2^24th of the budget */

#define N(claims) (sizeof(claims) / sizeof *(claims))

static void share_is(const struct claim *claims, size_t n, size_t me, uint64_t wanted)
{
    uint64_t share = share_of(claims, n, me, BUDGET);
    cr_assert(share + NEAR >= wanted && share <= wanted + NEAR, "%lu, not %lu", share, wanted);
}

Test(share, who_asks_for_little_gets_it_and_the_rest_is_divided)
{
    const struct claim claims[] = {{.demand = 10000}, {.demand = BUDGET}, {.demand = 500000}};
    share_is(claims, N(claims), 0, 10000);
    share_is(claims, N(claims), 1, 45000);
    share_is(claims, N(claims), 2, 45000);
}

Test(share, all_get_what_they_ask_for_where_that_fits)
{
    const struct claim claims[] = {{.demand = 60000}, {.demand = 40000}};
    share_is(claims, N(claims), 0, 60000);
    share_is(claims, N(claims), 1, 40000);
}

Test(share, alone_it_is_the_demand_up_to_the_budget)
{
    share_is(&(struct claim){.demand = 7}, 1, 0, 7);
    share_is(&(struct claim){.demand = UINT64_MAX}, 1, 0, BUDGET);
}

Test(share, what_cannot_leave_is_left_to_its_owner)
{
    const struct claim claims[] = {{.firm = 70000, .demand = 70000}, {.demand = BUDGET}, {.demand = BUDGET}};
    share_is(claims, N(claims), 0, 70000);
    share_is(claims, N(claims), 1, 15000);
}

Test(share, nobody_gets_less_than_the_floor)
{
    const struct claim claims[] = {{.firm = 90000, .demand = 90000}, {.firm = 20000, .demand = BUDGET}};
    share_is(claims, N(claims), 0, 90000);
    share_is(claims, N(claims), 1, 20000);
}

Test(share, what_is_left_is_without_what_others_use_or_were_granted)
{
    const struct claim claims[] = {{.use = 10000, .granted = 30000}, {.use = 20000, .granted = 5000}, {.use = 99999}};
    cr_assert_eq(share_left(claims, N(claims), 2, BUDGET), BUDGET - 50000);
    cr_assert_eq(share_left(claims, N(claims), 0, BUDGET), 0, "more than there is");
    cr_assert_eq(share_left(claims, 0, 0, BUDGET), BUDGET);
}

/* ---- whatever the numbers ---- */

static uint64_t anything(void)
{
    static const uint64_t odd[] = {0, 1, BUDGET - 1, BUDGET, BUDGET + 1, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX};
    uint64_t random = (uint64_t) rand() << 33 ^ (uint64_t) rand() << 11 ^ (uint64_t) rand();
    return rand() % 3 == 0 ? odd[random % N(odd)] : rand() % 2 ? random % (2 * BUDGET) : random;
}

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

Test(share, any_claims_give_a_possible_share)
{
    struct claim claims[40];
    srand(1);
    for (int round = 0; round < 20000; round++) {
        size_t n = (size_t) rand() % N(claims) + 1, me = (size_t) rand() % n;
        for (size_t i = 0; i < n; i++)
            claims[i] = (struct claim){anything(), anything(), anything(), anything(), false};
        uint64_t share = share_of(claims, n, me, BUDGET);
        cr_assert_leq(share, BUDGET);
        cr_assert_geq(share, smaller(claims[me].firm, BUDGET));
        cr_assert_leq(share_left(claims, n, me, BUDGET), BUDGET);
    }
}

Test(share, honest_shares_fit_together_and_leave_nothing_that_is_wanted)
{
    struct claim claims[40];
    srand(2);
    for (int round = 0; round < 5000; round++) {
        size_t n = (size_t) rand() % N(claims) + 1;
        uint64_t sum = 0, wanted = 0;
        for (size_t i = 0; i < n; i++) {
            uint64_t firm = (uint64_t) rand() % (BUDGET / n), demand = firm + (uint64_t) rand() % BUDGET;
            claims[i] = (struct claim){.firm = firm, .demand = demand};
            wanted += smaller(demand, BUDGET);
        }
        for (size_t i = 0; i < n; i++)
            sum += share_of(claims, n, i, BUDGET);
        cr_assert_leq(sum, BUDGET);
        cr_assert_geq(sum + n * NEAR, smaller(wanted, BUDGET));
    }
}

Test(share, an_idle_one_asks_for_less_while_all_want_more_than_there_is)
{
    struct claim claims[] = {{.use = 64000, .firm = 1000, .demand = 66000, .idle = true}, {.demand = 30000}};
    cr_assert_eq(share_demand(claims, N(claims), 0, BUDGET), 66000, "there is enough");
    claims[1].demand = BUDGET;
    cr_assert_eq(share_demand(claims, N(claims), 0, BUDGET), 62000);
    cr_assert_eq(share_demand(claims, N(claims), 1, BUDGET), BUDGET, "it is not idle");
    claims[0].firm = 63000;
    cr_assert_eq(share_demand(claims, N(claims), 0, BUDGET), 63000);
    claims[0] = (struct claim){.use = UINT64_MAX, .demand = 5, .idle = true};
    cr_assert_eq(share_demand(claims, N(claims), 0, BUDGET), 5, "never more than it wanted");
}
