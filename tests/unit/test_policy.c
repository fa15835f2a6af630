/* Which pages leave: the pure functions on words. How well they choose is tests/bench/policy's. */
#include <criterion/criterion.h>

#include "../../shim/pager/policy.h"

enum { SOMETIME = 1000, NOT_LUCKY = 1 };

static const page_word copy = PAGE_RESIDENT | PAGE_PROTECTED | PAGE_MOVED;

/* Rounds of the hand until the page is due. */
static unsigned stays(page_word word)
{
    unsigned rounds = 0;
    while (!policy_age(&word))
        rounds++;
    return rounds;
}

/* The page leaves, and comes back after so many ticks. */
static page_word round_trip(page_word word, uint32_t now, uint32_t absence)
{
    return policy_came_back(PAGE_RESIDENT | policy_left(word, now), now + absence, NOT_LUCKY);
}

Test(policy, the_clock_ticks_a_few_times_while_all_leave)
{
    struct policy_clock clock = {0};
    for (int i = 0; i < 1000; i++)
        clock = policy_tick(clock, 1, 1000);
    cr_assert_eq(clock.now, POLICY_TICKS);
    clock = policy_tick(clock, 2600, 1000);
    cr_assert_eq(clock.now, POLICY_TICKS + 10);
    cr_assert_eq(clock.left, 100);
}

Test(policy, a_new_page_has_grace)
{
    cr_assert_eq(stays(policy_new(PAGE_RESIDENT)), POLICY_GRACE);
    cr_assert(policy_new(PAGE_RESIDENT) & PAGE_YOUNG);
}

Test(policy, the_hand_makes_nobody_young)
{
    page_word word = policy_new(PAGE_RESIDENT);
    policy_age(&word);
    cr_assert_not(word & PAGE_YOUNG);
}

Test(policy, an_absence_is_told_across_the_end_of_the_clock)
{
    for (uint32_t now = UINT32_MAX - 40; now != 40; now++)
        for (uint32_t absence = 0; absence <= PAGE_AGE_MAX; absence++)
            cr_assert_eq(policy_absence(policy_left(PAGE_RESIDENT, now), now + absence), absence);
}

Test(policy, each_proof_in_a_row_lets_it_stay_longer)
{
    page_word word = policy_new(PAGE_RESIDENT);
    unsigned before = 0;
    for (unsigned proofs = 1; proofs <= 3; proofs++) {
        word = round_trip(word, SOMETIME, POLICY_SOON);
        cr_assert_eq(page_heat(word), proofs);
        cr_assert_gt(stays(word), before + POLICY_GRACE);
        before = stays(word);
    }
    cr_assert_eq(stays(round_trip(word, SOMETIME, 0)), before, "there is a highest heat");
}

Test(policy, who_comes_late_has_no_proof_left)
{
    page_word word = round_trip(round_trip(PAGE_RESIDENT, SOMETIME, 0), SOMETIME, POLICY_SOON + 1);
    cr_assert_eq(page_heat(word), 0);
    cr_assert_eq(stays(word), 0);
    cr_assert(word & PAGE_YOUNG);
}

Test(policy, of_those_who_come_late_a_few_stay)
{
    unsigned few = 0;
    page_word away = PAGE_RESIDENT | policy_left(PAGE_RESIDENT, SOMETIME);
    for (uint64_t turn = 0; turn < 10 * POLICY_FEW; turn++) {
        page_word word = policy_came_back(away, SOMETIME + POLICY_SOON + 1, turn);
        few += stays(word) > 0;
        cr_assert_eq(page_heat(word), 0, "luck is no proof");
    }
    cr_assert_eq(few, 10);
}

Test(policy, a_rescue_is_a_proof)
{
    page_word word = policy_rescued(PAGE_RESIDENT);
    cr_assert_eq(page_heat(word), 1);
    cr_assert_gt(stays(word), POLICY_GRACE);
    cr_assert_eq(page_heat(policy_rescued(word)), 2);
}

Test(policy, nothing_else_of_the_word_changes)
{
    const page_word own = PAGE_YOUNG | PAGE_HEAT_MASK | PAGE_AGE_MASK;
    page_word word = copy | page_store_bits(PLACE_POOL, 0x123456789abc), aged = policy_new(word);
    policy_age(&aged);
    cr_assert_eq(aged & ~own, word);
    cr_assert_eq(policy_stay(word, PAGE_AGE_MAX) & ~own, word);
    cr_assert_eq(policy_rescued(word) & ~own, word);
    cr_assert_eq(policy_came_back(word | PAGE_AGE_MASK, SOMETIME, 0) & ~own, word);
    cr_assert_eq(policy_left(~UINT64_C(0), SOMETIME) & ~own, PAGE_WRITTEN | PAGE_READ,
                 "of a page that leaves the engine keeps what it wants");
}

static unsigned copies_kept(page_word word, unsigned broken)
{
    unsigned kept = 0;
    for (uint64_t turn = 0; turn < 10 * POLICY_ASK_AGAIN; turn++)
        kept += policy_keeps_copy(word, broken, turn);
    return kept;
}

Test(policy, copies_are_kept_of_what_is_only_read)
{
    const unsigned all = 10 * POLICY_ASK_AGAIN;
    cr_assert_eq(copies_kept(PAGE_READ, POLICY_ALL), all, "its own last stay tells more than others'");
    cr_assert_eq(copies_kept(PAGE_WRITTEN, 0), 10, "now and then it is asked again");
    cr_assert_eq(copies_kept(0, 0), all);
    cr_assert_eq(copies_kept(0, POLICY_ALL), 10);
}

Test(policy, what_becomes_of_copies_is_learnt_and_unlearnt)
{
    unsigned broken = 0;
    for (int i = 0; i < 100; i++)
        broken = policy_copy_ends(broken, true);
    cr_assert(broken > POLICY_ALL * 3 / 4 && broken <= POLICY_ALL, "%u", broken);
    for (int i = 0; i < 100; i++)
        broken = policy_copy_ends(broken, false);
    cr_assert_lt(broken, POLICY_ALL / 4);
}
