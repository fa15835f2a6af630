/*
 * share.h: how processes divide one budget: the arithmetic alone.
 *
 * Everybody gets the same, but nobody more than they ask for, nor less than they hold without being able to give it up
 * (max-min fairness; Bertsekas and Gallager, Data Networks, 6.5.2). A share is what a process comes to; what it may take
 * at once is only what the others neither use nor have been granted: those above their shares need time to go down.
 *
 * Claims may come from memory that anybody scribbles over: every number is a possible one, and whatever they are, a share
 * is never less than the process's own `firm` part and never more than that or the budget.
 */
#ifndef VP_PAGER_SHARE_H
#define VP_PAGER_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes, of one process. */
struct claim {
    uint64_t use;     /* in memory now */
    uint64_t granted; /* it may come to that without asking again */
    uint64_t firm;    /* cannot be paged out */
    uint64_t demand;  /* would be of use to it */
    bool idle;        /* it has touched nothing lately that was not there: perhaps it can do with less */
};

/** What claims[me] may have in the end. */
uint64_t share_of(const struct claim *claims, size_t n, size_t me, uint64_t budget);

/** What claims[me] asks for: its demand; or, idle, a little less than it uses while all want more than there is. If it was
 *  needed after all, the process is no longer idle. */
uint64_t share_demand(const struct claim *claims, size_t n, size_t me, uint64_t budget);

/** What of the budget claims other than claims[me] leave now. */
uint64_t share_left(const struct claim *claims, size_t n, size_t me, uint64_t budget);

#endif
