/*
 * tier.h: where a page's content lives while the page is absent.
 *
 * A tier keeps records. A record is one page's content as a codec wrote it (codec.h). The page state word
 * (pager/page.h) holds the record's handle and is what keeps a record alive: from store() to release() its bytes stay
 * readable where they are. Tiers move nothing behind the owner's back; they offer records for moving (pick) and the
 * owner decides.
 *
 * Who may call what:
 *   load, release   any thread, any number at once, in the fault path (async-signal-safe, no lock, no allocation, errno
 *                   untouched, at most 2 KiB of stack);
 *   everything else one thread at a time: the holder of LOCK_EVICT.
 */
#ifndef VP_TIER_TIER_H
#define VP_TIER_TIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A record's place in its tier: 46 bits, never 0. */
typedef uint64_t tier_handle;
#define TIER_HANDLE_BITS 46

/* load() takes this for a record that was stored under another page number and could not be renumbered. */
#define TIER_ANY_PAGE UINT64_MAX

struct record {
    uint64_t page;     /* page number in the arena (under 2^56); kept with the record, checked when it is read back */
    const void *bytes; /* the encoded content */
    uint32_t size;     /* bytes at `bytes`: 1 to the engine's page size */
    uint8_t codec;     /* enum codec_id; opaque to the tier */
};

/* A record offered by pick(), or asked for: then only record.page counts. */
struct tier_item {
    struct record record;
    tier_handle handle;
};

struct tier_stats {
    uint64_t records;    /* live */
    uint64_t bytes;      /* live records' bytes, headers and padding included */
    uint64_t held_bytes; /* memory (pool) or file space (spill) held for them; held - bytes is fragmentation */
    uint64_t idle_bytes; /* of held_bytes: free for the next records */
    uint64_t capacity;   /* the most that held_bytes may be; UINT64_MAX where only the disk sets it */
    uint64_t stores;     /* records stored since start */
    uint64_t loads;      /* records loaded since start */
    uint64_t bytes_written;
    uint64_t bytes_read;
    uint64_t errors; /* failed reads, writes and authentications */
};

struct tier;

enum tier_pick { PICK_OLDEST, PICK_EMPTIEST };

struct tier_ops {
    const char *name;

    /**
     * Stores records from the front of run[0..n). handles[i] receives the place of run[i].
     * Returns how many were stored (1..n: fewer than n when space ran out on the way), or when none was:
     * -ENOSPC (tier full), -EIO or another errno (the device failed). What was not stored left no trace.
     */
    int (*store)(struct tier *tier, const struct record *run, size_t n, tier_handle *handles);

    /**
     * Finds the record of `page` (or TIER_ANY_PAGE) at `handle`. out->bytes points into the tier's own memory (stable
     * until release) or into `scratch`, which is tier_scratch_size() bytes, aligned to 4096. Returns 0; -EIO when the
     * device failed; -EBADMSG when the record is not what was stored.
     */
    int (*load)(struct tier *tier, uint64_t page, tier_handle handle, void *scratch, struct record *out);

    /**
     * Loads records that lie near each other with one access. wanted[0] always counts; of the others as many from the
     * front as follow it closely and fit into scratch[0..size). out[i] receives wanted[i]'s, all in `scratch`.
     * Returns how many were loaded (1..n), or as load() when the first was not. May be NULL: nothing is gained by it.
     */
    int (*load_run)(struct tier *tier, const struct tier_item *wanted, size_t n, void *scratch, size_t size,
                    struct record *out);

    /** The record is no longer needed; its handle is dead. */
    void (*release)(struct tier *tier, tier_handle handle);

    /**
     * Offers the records of one closed segment for moving elsewhere (to the next tier, or together with others into a
     * fresh segment). PICK_OLDEST: the segment stored first. PICK_EMPTIEST: the one with the least live bytes, and only
     * if less than `max_live_percent` of it is live.
     * items[0..max) receives them, dead records left out where the tier can tell and possibly included where not: the
     * owner compares handles. bytes stay readable until pick_done(), over any number of store()s. Returns the number of
     * items (0: nothing to offer), or a negative errno. The owner stores the live ones elsewhere, swings their pages'
     * state words, then release()s the old handles. A tier keeps one segment back for this: the live items of one pick
     * fit into it whenever they are stored by one call.
     */
    int (*pick)(struct tier *tier, enum tier_pick which, unsigned max_live_percent, struct tier_item *items,
                size_t max);
    void (*pick_done)(struct tier *tier);

    /** Gives unused memory or file space back (segments freed by release() since the last call are collected first). */
    void (*trim)(struct tier *tier);

    void (*stats)(const struct tier *tier, struct tier_stats *out);
};

/* First member of every tier. */
struct tier {
    const struct tier_ops *ops;
};

#endif
