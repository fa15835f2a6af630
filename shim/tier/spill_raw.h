/*
 * spill_raw.h: what is kept in memory of the raw pages in the spill file.
 *
 * A raw page has no room beside it for a header and a tag (spill_format.h). They are here, 24 bytes a page, found by
 * the segment and the page's place in it. Private and copied by fork, as what spill_space.h knows of a segment is: a
 * child opens what its parent had written before, and each writes over entries only of segments that it has claimed.
 *
 * Chunks of the table are mapped when a segment in them is first claimed (a table for the largest file would be
 * gigabytes of addresses, which RLIMIT_AS counts), used again with the segments, and given back by trim.
 *
 * header: any thread that holds a record there, async-signal-safe. The rest: the holder of LOCK_EVICT.
 */
#ifndef VP_TIER_SPILL_RAW_H
#define VP_TIER_SPILL_RAW_H

#include "spill_format.h"
#include "spill_space.h"

struct spill_raw {
    uint32_t per_segment; /* raw pages that a segment has room for */
    uint32_t count;       /* of chunks */
    struct raw_header **chunks;
};

/** Prepares the table for `segments` segments with at most `per_segment` raw pages each. Returns 0 or -ENOMEM. */
int spill_raw_init(struct spill_raw *raw, uint32_t segments, uint32_t per_segment);

void spill_raw_fini(struct spill_raw *raw);

/** Sees to memory for the headers of segment `index`. Returns 0 or -ENOMEM. */
int spill_raw_prepare(struct spill_raw *raw, uint32_t index);

/** The header of a raw page; NULL where no segment was ever claimed. `place`: under per_segment. */
struct raw_header *spill_raw_header(const struct spill_raw *raw, uint32_t index, uint32_t place);

/** Gives back the memory for segments in which this process needs nothing. */
void spill_raw_trim(struct spill_raw *raw, const struct spill_space *space);

#endif
