/* The page's state word: which steps there are, what is packed where, and that nobody sleeps for ever. */
#include <criterion/criterion.h>
#include <pthread.h>

#include "../../platform/os.h"
#include "../../shim/pager/page.h"

/* Written down from the description in page.h, not from the table in page.c. */
struct move {
    enum page_state from, to;
};

static const struct move documented[] = {
    {PAGE_FRESH, PAGE_FILLING},     /* first touch, free, move */
    {PAGE_FRESH, PAGE_RESIDENT},    /* adopted when paging arms */
    {PAGE_FILLING, PAGE_RESIDENT},  /* filled */
    {PAGE_FILLING, PAGE_FRESH},     /* freed, or not filled */
    {PAGE_FILLING, PAGE_STORED},    /* not filled */
    {PAGE_FILLING, PAGE_POISONED},  /* cannot be read back */
    {PAGE_RESIDENT, PAGE_FILLING},  /* first write to a kept copy, free */
    {PAGE_RESIDENT, PAGE_RESIDENT}, /* age, heat */
    {PAGE_RESIDENT, PAGE_LEAVING},  /* chosen */
    {PAGE_EVICTING, PAGE_FILLING},  /* rescued, freed */
    {PAGE_EVICTING, PAGE_LEAVING},  /* stored */
    {PAGE_LEAVING, PAGE_STORED},    /* gone */
    {PAGE_LEAVING, PAGE_EVICTING},  /* writers are blocked: they may rescue it from here on */
    {PAGE_LEAVING, PAGE_RESIDENT},  /* could not go */
    {PAGE_LEAVING, PAGE_FRESH},     /* its memory was gone already */
    {PAGE_STORED, PAGE_FILLING},    /* fault, free */
    {PAGE_STORED, PAGE_STORED},     /* its record moves */
    {PAGE_POISONED, PAGE_FILLING},  /* free */
};

static bool is_documented(enum page_state from, enum page_state to)
{
    for (size_t i = 0; i < sizeof documented / sizeof *documented; i++)
        if (documented[i].from == from && documented[i].to == to)
            return true;
    return false;
}

Test(page, exactly_the_documented_moves_are_allowed)
{
    for (int from = 0; from < PAGE_STATES; from++)
        for (int to = 0; to < PAGE_STATES; to++)
            cr_expect_eq(page_may_move((enum page_state) from, (enum page_state) to),
                         is_documented((enum page_state) from, (enum page_state) to), "%d to %d", from, to);
}

Test(page, state_flags_heat_place_and_handle_do_not_disturb_each_other)
{
    static const tier_handle handles[] = {1, 0x123456789abc, (UINT64_C(1) << TIER_HANDLE_BITS) - 1};
    static const page_word flags[] = {0, PAGE_PROTECTED, PAGE_YOUNG, PAGE_MOVED,
                                      PAGE_PROTECTED | PAGE_YOUNG | PAGE_MOVED};
    for (size_t h = 0; h < 3; h++)
        for (unsigned heat = 0; heat < 4; heat++)
            for (int place = 0; place < 4; place++)
                for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
                    for (int state = 0; state < PAGE_STATES; state++) {
                        page_word word = page_store_bits((enum page_place) place, handles[h]) | flags[f] |
                                         (page_word) heat << PAGE_HEAT_SHIFT | PAGE_WAITERS;
                        word = page_in_state(word, (enum page_state) state);
                        cr_assert_eq(page_state(word), (enum page_state) state);
                        cr_assert_eq(page_place(word), (enum page_place) place);
                        cr_assert_eq(page_handle(word), handles[h]);
                        cr_assert_eq(page_heat(word), heat);
                        cr_assert_eq(word & (PAGE_PROTECTED | PAGE_YOUNG | PAGE_MOVED | PAGE_WAITERS), flags[f]);
                        cr_assert_eq(word & ~PAGE_STORE_MASK & (PAGE_MOVED | PAGE_PLACE_MASK), 0);
                    }
}

Test(page, no_two_fields_share_a_bit)
{
    const page_word handle = ~UINT64_C(0) << PAGE_HANDLE_SHIFT;
    const page_word fields[] = {PAGE_STATE_MASK, PAGE_WAITERS,    PAGE_PROTECTED, PAGE_YOUNG,
                                PAGE_HEAT_MASK,  PAGE_PLACE_MASK, PAGE_MOVED,     PAGE_AGE_MASK,  handle};
    page_word all = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        cr_assert_eq(all & fields[i], 0);
        all |= fields[i];
    }
    cr_assert_eq(PAGE_HANDLE_SHIFT + TIER_HANDLE_BITS, 64);
    cr_assert_eq((page_word) PAGE_FRESH, 0, "a table of zeros must be fresh pages");
}

Test(page, swap_fails_without_change_and_tells_what_was_there)
{
    page_word word = PAGE_STORED | page_store_bits(PLACE_POOL, 7), seen = PAGE_FRESH;
    cr_assert_not(page_swap(&word, &seen, PAGE_FILLING));
    cr_assert_eq(seen, word);
    cr_assert(page_swap(&word, &seen, page_in_state(seen, PAGE_FILLING)));
    cr_assert_eq(page_state(word), PAGE_FILLING);
    cr_assert_eq(page_handle(word), 7);
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 40000 };

static page_word shared;
static uint64_t inside, owned[THREADS];

/* Takes the page, is alone with it, gives it back; who finds it taken sleeps. A missed wakeup hangs the test. */
static void *take_and_give(void *argument)
{
    for (size_t done = 0; done < ROUNDS;) {
        page_word seen = page_load(&shared);
        if (page_state(seen) == PAGE_FILLING) {
            page_wait(&shared, seen);
        } else if (page_swap(&shared, &seen, page_in_state(seen, PAGE_FILLING))) {
            cr_assert_eq(__atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST), 0);
            if (done % 16 == 0)
                os_yield(); /* so that others find it taken */
            __atomic_fetch_sub(&inside, 1, __ATOMIC_SEQ_CST);
            page_finish(&shared, done % 2 ? PAGE_FRESH : PAGE_RESIDENT);
            done++;
        }
    }
    ++*(uint64_t *) argument;
    return NULL;
}

static void run_threads(int n)
{
    pthread_t threads[THREADS];
    shared = PAGE_FRESH;
    for (int i = 0; i < n; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, take_and_give, &owned[i]), 0);
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    cr_assert_neq(page_state(shared), PAGE_FILLING);
    cr_assert_eq(shared & PAGE_WAITERS, 0);
}

Test(page, no_wakeup_is_missed, .timeout = 60)
{
    for (int n = 2; n <= THREADS; n++)
        run_threads(n);
}

static void *wait_for_owner(void *argument)
{
    (void) argument;
    for (page_word seen; page_state(seen = page_load(&shared)) == PAGE_LEAVING;)
        page_wait(&shared, seen);
    return NULL;
}

Test(page, finish_wakes_everybody, .timeout = 20)
{
    pthread_t threads[THREADS];
    shared = PAGE_LEAVING;
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, wait_for_owner, NULL), 0);
    while (!(page_load(&shared) & PAGE_WAITERS))
        os_yield();
    page_finish(&shared, PAGE_STORED);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

Test(page, wait_returns_at_once_when_the_word_has_changed, .timeout = 20)
{
    shared = PAGE_RESIDENT;
    page_wait(&shared, PAGE_FILLING);
    cr_assert_eq(shared, (page_word) PAGE_RESIDENT);
}
