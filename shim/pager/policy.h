/*
 * policy.h: which pages leave, told by their state words alone.
 *
 * There are no access bits to be had (FACTS). What tells hot from cold is how long a page stays away: the word of a
 * page that leaves records when, on a coarse clock driven by leaving pages. One that comes back soon would have been
 * hit in a memory only somewhat larger: it is proven, and each proof in a row lets it stay for more rounds of the
 * evictor's hand. One that comes back late forgets its proofs and leaves when the hand comes, but for a few: were all
 * alike, what goes round and round in more than there is memory for would find nothing of itself again.
 *
 * A page that leaves before the instruction that wants it is done comes back at once, which is a proof: it stays longer
 * the next time. So nobody goes round in circles for want of grace.
 *
 * Sources: ghost queue: Johnson & Shasha, "2Q" (1994); refault distance: Linux, mm/workingset.c; refaults as reference
 * bits: Babaoglu & Joy (1981); the few that stay: bimodal insertion, Qureshi et al., "Adaptive Insertion Policies for
 * High Performance Caching" (2007). The numbers: tests/bench/policy, which runs these very functions.
 */
#ifndef VP_PAGER_POLICY_H
#define VP_PAGER_POLICY_H

#include "page.h"

/* The clock's ticks while as many pages leave as there may be in memory. */
#define POLICY_TICKS 4

/* A page that was away for at most this many ticks is proven. */
#define POLICY_SOON 2

/* Of the pages that come back late, one in so many stays as if proven to the full. */
#define POLICY_FEW 32

/* One in so many pages that were written to in their last stay is asked whether they still are. */
#define POLICY_ASK_AGAIN 32

/* A share of one. */
#define POLICY_ALL 1024u

/* Rounds for which a page stays that is new. */
#define POLICY_GRACE 1

struct policy_clock {
    uint32_t now;  /* ticks; wraps */
    uint32_t left; /* pages since the last tick */
};

/** `left` more pages have left, where `room` (at least POLICY_TICKS) may be in memory. Returns the clock after that. */
static inline struct policy_clock policy_tick(struct policy_clock clock, uint64_t left, uint64_t room)
{
    uint64_t tick = room / POLICY_TICKS, sum = clock.left + left;
    return (struct policy_clock){clock.now + (uint32_t)(sum / tick), (uint32_t)(sum % tick)};
}

/** The word of a resident page that stays for `rounds` (at most PAGE_AGE_MAX) of the hand. */
static inline page_word policy_stay(page_word word, unsigned rounds)
{
    return (word & ~PAGE_AGE_MASK) | (page_word)rounds << PAGE_AGE_SHIFT;
}

/** The word of a page that has just got its first content. */
static inline page_word policy_new(page_word word)
{
    return policy_stay(word | PAGE_YOUNG, POLICY_GRACE);
}

/** Whether the stored copy of a page that comes back by a read is kept, and the page protected until its first write: not
 *  if it will be written to all the same, which costs a second fault. Told by its last stay, else by what happened to
 *  other copies: `broken` of POLICY_ALL. Once in a while it is asked again. turn: as for policy_came_back(). */
static inline bool policy_keeps_copy(page_word word, unsigned broken, uint64_t turn)
{
    bool written = word & PAGE_WRITTEN || (!(word & PAGE_READ) && broken > POLICY_ALL / 2);
    return !written || turn % POLICY_ASK_AGAIN == 0;
}

/** The share of kept copies that are broken by a write, after one more was (or left whole). */
static inline unsigned policy_copy_ends(unsigned broken, bool by_write)
{
    return by_write ? broken + (POLICY_ALL - broken) / 32 : broken - broken / 32;
}

/** What of a page's word is kept when it leaves now. */
static inline page_word policy_left(page_word word, uint32_t now)
{
    return (word & (PAGE_HEAT_MASK | PAGE_WRITTEN | PAGE_READ)) | (page_word)(now & PAGE_AGE_MAX) << PAGE_AGE_SHIFT;
}

/** For how many ticks a stored page has been away: modulo 32, so that a long absence looks short now and then. */
static inline uint32_t policy_absence(page_word word, uint32_t now)
{
    return (now - page_age(word)) & PAGE_AGE_MAX;
}

/** The word of a page that comes back. turn: any number that is another one each time. */
static inline page_word policy_came_back(page_word word, uint32_t now, uint64_t turn)
{
    static const unsigned char rounds[] = {0, 4, 11, PAGE_AGE_MAX};
    unsigned heat = 0, chosen = turn % POLICY_FEW == 0 ? 3 : 0;
    if (policy_absence(word, now) <= POLICY_SOON)
        heat = chosen = page_heat(word) < 3 ? page_heat(word) + 1 : 3;
    return policy_stay((word & ~PAGE_HEAT_MASK) | PAGE_YOUNG | (page_word)heat << PAGE_HEAT_SHIFT, rounds[chosen]);
}

/** The word of a page that was wanted while it was leaving: the shortest absence there is. */
static inline page_word policy_rescued(page_word word)
{
    return policy_came_back(policy_stay(word, 0), 0, 1);
}

/** Ages the word of a resident page that the hand has come to. Returns whether the page is due. */
static inline bool policy_age(page_word *word)
{
    *word &= ~PAGE_YOUNG;
    if (page_age(*word) == 0)
        return true;
    *word -= UINT64_C(1) << PAGE_AGE_SHIFT;
    return false;
}

#endif
