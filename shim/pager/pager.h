/*
 * pager.h: when pages leave: the budget, and the thread that keeps to it.
 */
#ifndef VP_PAGER_PAGER_H
#define VP_PAGER_PAGER_H

#include "engine.h"

/**
 * Takes over the budget and starts the thread. Where no thread can be had, faults evict for themselves.
 * Holder of LOCK_LIFECYCLE, after engine_start_paging(). Returns 0, or the negative errno for which there is no thread.
 */
int pager_start(struct engine *engine, const struct pager_config *config);

/** One look at the process's memory: sets engine->limit, evicts when it is near. What the thread does all the time;
 *  also for tests. Takes the evict lock. Returns how many pages left. */
size_t pager_step(struct engine *engine);

/** The same where there is no thread: a look, and `want` pages go. Holder of the evict lock, async-signal-safe. */
size_t pager_relieve(struct engine *engine, size_t want);

/** Wakes the thread if it sleeps, makes one where a fork has lost it. Returns whether there is one.
 *  Async-signal-safe. */
bool pager_ring(struct engine *engine);

/** A fault has brought pages in: rings when it is time. Async-signal-safe. */
void pager_note_growth(struct engine *engine);

/** The evictor compressed a page to `size` bytes: how well the pool pays. Holder of the evict lock. */
void pager_note_ratio(struct engine *engine, size_t size);

#endif
