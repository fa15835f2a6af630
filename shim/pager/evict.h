/*
 * evict.h: taking pages out of memory: what faults and the pager ask of the evictor.
 */
#ifndef VP_PAGER_EVICT_H
#define VP_PAGER_EVICT_H

#include "engine.h"

/** Backpressure: called by a fault before it brings in a page. While memory is over the limit it waits for the evictor
 *  (or, where there is no pager thread, evicts itself), but never for good: when nothing can leave, the fault goes on
 *  above the limit. Async-signal-safe. */
void evict_make_way(struct engine *engine);

/** The system has no memory for a page: gets some freed, whatever the limit says. Async-signal-safe. */
void evict_urgently(struct engine *engine);

/** The word that fills a page stored as PLACE_SAME. Async-signal-safe. */
uint64_t evict_same_word(const struct engine *engine, tier_handle handle);

/** Sets how much memory the pool may hold and moves its oldest content to the spill until it keeps to that, as far as
 *  the spill can take it. Holder of the evict lock. */
void evict_shrink_pool(struct engine *engine, uint64_t capacity);

#endif
