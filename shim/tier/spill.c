/*
 * spill.c: see spill.h.
 *
 * Who writes what: everything belongs to the holder of LOCK_EVICT, except the counts of the segments (spill_space.h)
 * and the statistics. load() reads a segment's writer and sequence and a raw page's header without a lock: they were
 * set before the first handle into it was published, and change only after the last one was released.
 */
#include <errno.h>
#include <string.h>

#include "../../platform/os.h"
#include "spill.h"
#include "spill_format.h"
#include "spill_raw.h"
#include "spill_space.h"

#define SEGMENT_MIN   262144u
#define SEGMENT_PAGES 16u /* at least, so that the odd end of a segment stays small */
#define NONE          UINT32_MAX

struct spill {
    struct tier tier;
    struct spill_file file;
    struct spill_space space;
    struct spill_raw raw;
    struct seal *seal;
    size_t page_size, segment_size;
    uint64_t capacity;
    bool forked_off;  /* no writer id was to be had in this child: it only reads */
    uint32_t open;    /* the segment that is appended to, or NONE; it has one hold */
    uint32_t open_at; /* bytes of it in use, whole blocks */
    uint32_t picked;  /* likewise held */
    char *staging;    /* SPILL_IO_DEPTH segments: what a batch writes */
    char *picking;    /* one segment: what pick() read back */
    uint64_t stores, bytes_written;
    _Alignas(64) _Atomic uint64_t records, bytes, loads, bytes_read, errors;
};

static struct spill *spill_of(const struct tier *tier)
{
    return (struct spill *)tier;
}

static void count(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

static int failed(struct spill *spill, int error)
{
    count(&spill->errors, 1);
    return error;
}

static struct seal_nonce nonce_at(const struct spill *spill, uint32_t index, uint32_t offset)
{
    const struct spill_segment *segment = &spill->space.segments[index];
    return (struct seal_nonce){.writer = segment->writer, .sequence = segment->sequence, .offset = offset};
}

static uint64_t position_of(const struct spill *spill, uint32_t index, uint32_t offset)
{
    return (uint64_t)index * spill->segment_size + offset;
}

static uint32_t size_of(const struct spill *spill, const struct record *record)
{
    return slot_size(record->size, (uint32_t)spill->page_size);
}

static bool is_raw(const struct spill *spill, uint32_t size)
{
    return size == spill->page_size;
}

/* Where a slot of `size` bytes goes that comes after what ends at `at`. */
static uint32_t place_after(const struct spill *spill, uint32_t at, uint32_t size)
{
    return is_raw(spill, size) ? (uint32_t)block_ceil(at) : at;
}

/* ---- one slot ---- */

static void seal_slot(const struct spill *spill, uint32_t index, uint32_t offset, char *slot,
                      const struct record *record)
{
    struct slot_header header = {.page = record->page, .size = record->size, .codec = record->codec};
    uint32_t sealed = size_of(spill, record) - SEAL_TAG_SIZE;
    uint32_t used = (uint32_t)sizeof(header) + record->size;
    memcpy(slot, &header, sizeof(header));
    memcpy(slot + sizeof(header), record->bytes, record->size);
    memset(slot + used, 0, sealed - used);
    struct seal_nonce nonce = nonce_at(spill, index, offset);
    seal_close(spill->seal, &nonce, slot, sealed, slot + sealed);
}

/* Decrypts a slot in place. out->bytes points into it. */
static int open_slot(const struct spill *spill, uint32_t index, uint32_t offset, char *slot, uint32_t size,
                     struct record *out)
{
    struct seal_nonce nonce = nonce_at(spill, index, offset);
    uint32_t sealed = size - SEAL_TAG_SIZE;
    if (seal_open(spill->seal, &nonce, slot, sealed, slot + sealed) != 0)
        return -EBADMSG;
    struct slot_header header;
    memcpy(&header, slot, sizeof(header));
    *out = (struct record){
        .page = header.page, .bytes = slot + sizeof(header), .size = header.size, .codec = header.codec};
    return header.size > 0 && header.size < spill->page_size && size_of(spill, out) == size ? 0 : -EBADMSG;
}

/* ---- one raw page ---- */

/* Raw pages do not overlap, so no two begin in the same page-sized piece of a segment. */
static struct raw_header *raw_header_at(const struct spill *spill, uint32_t index, uint32_t offset)
{
    return spill_raw_header(&spill->raw, index, offset / (uint32_t)spill->page_size);
}

static void seal_raw(const struct spill *spill, uint32_t index, uint32_t offset, char *place,
                     const struct record *record)
{
    struct raw_header *header = raw_header_at(spill, index, offset);
    header->page = record->page;
    header->codec = record->codec;
    memcpy(place, record->bytes, spill->page_size);
    struct seal_nonce nonce = nonce_at(spill, index, offset);
    seal_close(spill->seal, &nonce, place, spill->page_size, header->tag);
}

/* Decrypts a raw page in place, which out->bytes becomes. */
static int open_raw(const struct spill *spill, uint32_t index, uint32_t offset, char *place, struct record *out)
{
    const struct raw_header *header = raw_header_at(spill, index, offset);
    struct seal_nonce nonce = nonce_at(spill, index, offset);
    if (!header || seal_open(spill->seal, &nonce, place, spill->page_size, header->tag) != 0)
        return -EBADMSG;
    *out = (struct record){
        .page = header->page, .bytes = place, .size = (uint32_t)spill->page_size, .codec = header->codec};
    return 0;
}

static int open_record(const struct spill *spill, uint32_t index, uint32_t offset, char *place, uint32_t size,
                       struct record *out)
{
    return is_raw(spill, size) ? open_raw(spill, index, offset, place, out)
                               : open_slot(spill, index, offset, place, size, out);
}

/* ---- store: planning extents ---- */

/* One write: records [first, first + count) of the run, at `start` of segment `index`: the summary and the slots in the
 * run's order, and from `raw_at` on the raw pages in theirs: one gap, however a run mixes them, so that what a picked
 * segment held fits into a fresh one. Each record is counted in the segment from the moment it is staged. */
struct extent {
    uint32_t index, start, size, raw_at;
    size_t first, count;
    char *staged;
};

static void close_segment(struct spill *spill)
{
    if (spill->open != NONE)
        spill_space_drop(&spill->space, spill->open, 1);
    spill->open = NONE;
}

/* Claims a segment to append to. */
static int open_segment(struct spill *spill)
{
    uint32_t index;
    int error = spill_space_claim(&spill->space, spill->picked != NONE, &index);
    if (error)
        return error;
    spill->open = index;
    spill->open_at = 0;
    error = spill_raw_prepare(&spill->raw, index);
    if (error)
        close_segment(spill);
    return error;
}

static bool is_storable(const struct spill *spill, const struct record *record)
{
    return record->size > 0 && record->size <= spill->page_size && record->page >> RAW_PAGE_BITS == 0;
}

/* Plans an extent at the end of the open segment, with as many records from run[first..n) as it has room for. */
static struct extent plan_extent(const struct spill *spill, const struct record *run, size_t first, size_t n)
{
    struct extent extent = {.index = spill->open, .start = spill->open_at, .first = first};
    size_t most = SPILL_SEGMENT_RECORDS - spill->space.segments[spill->open].stored;
    uint32_t packed = SUMMARY_SIZE, raw = 0;
    for (size_t i = first; i < n && extent.count < SUMMARY_RECORDS && extent.count < most; i++) {
        if (!is_storable(spill, &run[i]))
            break;
        uint32_t size = size_of(spill, &run[i]);
        *(is_raw(spill, size) ? &raw : &packed) += size;
        uint32_t raw_at = (uint32_t)block_ceil(packed);
        if (extent.start + raw_at + raw > spill->segment_size)
            break;
        extent.count++;
        extent.raw_at = raw_at;
        extent.size = raw_at + raw;
    }
    return extent;
}

static void stage_record(struct spill *spill, const struct extent *extent, uint32_t at, const struct record *record,
                         tier_handle *handle)
{
    uint32_t offset = extent->start + at, size = size_of(spill, record);
    if (is_raw(spill, size))
        seal_raw(spill, extent->index, offset, extent->staged + at, record);
    else
        seal_slot(spill, extent->index, offset, extent->staged + at, record);
    *handle = slot_handle(position_of(spill, extent->index, offset), size);
    spill->space.segments[extent->index].stored++;
    spill_space_hold(&spill->space, extent->index, 1);
}

static void seal_summary(const struct spill *spill, const struct extent *extent, struct summary *summary)
{
    summary->size = extent->size;
    summary->count = (uint32_t)extent->count;
    struct seal_nonce nonce = nonce_at(spill, extent->index, extent->start);
    seal_close(spill->seal, &nonce, summary, SUMMARY_SIZE - SEAL_TAG_SIZE, summary->tag);
}

static void stage_extent(struct spill *spill, const struct extent *extent, const struct record *run,
                         tier_handle *handles)
{
    struct summary *summary = (struct summary *)extent->staged;
    uint32_t packed = SUMMARY_SIZE, raw = extent->raw_at;
    size_t slots = 0;
    for (size_t i = extent->first; i < extent->first + extent->count; i++) {
        uint32_t size = size_of(spill, &run[i]), *at = is_raw(spill, size) ? &raw : &packed;
        stage_record(spill, extent, *at, &run[i], &handles[i]);
        if (at == &packed)
            summary->units[slots++] = (uint16_t)(size / SLOT_UNIT);
        *at += size;
    }
    for (; slots < SUMMARY_RECORDS; slots++)
        summary->units[slots] = slots < extent->count ? (uint16_t)(spill->page_size / SLOT_UNIT) : 0;
    memset(extent->staged + packed, 0, extent->raw_at - packed);
    seal_summary(spill, extent, summary);
    spill->open_at = spill->space.segments[extent->index].written = extent->start + extent->size;
}

/* Plans and stages one extent with records from run[first..n), in the open segment or in a new one. */
static int next_extent(struct spill *spill, struct extent *extent, char *staged, const struct record *run, size_t first,
                       size_t n, tier_handle *handles)
{
    if (!is_storable(spill, &run[first]))
        return -EINVAL;
    *extent = spill->open == NONE ? (struct extent){0} : plan_extent(spill, run, first, n);
    if (extent->count == 0) {
        close_segment(spill);
        int error = open_segment(spill);
        if (error)
            return error;
        *extent = plan_extent(spill, run, first, n);
    }
    extent->staged = staged;
    stage_extent(spill, extent, run, handles);
    return 0;
}

/* ---- store: writing ---- */

/* Takes back an extent of which not all was written. Its place is not used again before the segment gets a new sequence
 * number: the nonces there are spent. */
static void abandon_extent(struct spill *spill, const struct extent *extent)
{
    struct spill_segment *segment = &spill->space.segments[extent->index];
    if (extent->start < segment->written)
        segment->written = extent->start;
    segment->stored -= (uint32_t)extent->count;
    spill_space_drop(&spill->space, extent->index, (uint32_t)extent->count);
    if (spill->open == extent->index)
        close_segment(spill);
}

static void account(struct spill *spill, const struct extent *extent, const tier_handle *handles)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < extent->count; i++)
        bytes += slot_length(handles[extent->first + i]);
    count(&spill->records, extent->count);
    count(&spill->bytes, bytes);
    spill->stores += extent->count;
    spill->bytes_written += extent->size;
}

/* Writes a batch. *stored grows by the records of all extents before the first that failed. */
static int write_batch(struct spill *spill, const struct extent *extents, size_t n, const tier_handle *handles,
                       size_t *stored)
{
    struct spill_write writes[SPILL_IO_DEPTH];
    int error = 0;
    for (size_t i = 0; i < n; i++)
        writes[i] = (struct spill_write){.bytes = extents[i].staged,
                                         .size = extents[i].size,
                                         .offset = position_of(spill, extents[i].index, extents[i].start)};
    spill_file_write(&spill->file, writes, n);
    for (size_t i = 0; i < n; i++) {
        if (!error && writes[i].result < 0)
            error = failed(spill, (int)writes[i].result);
        if (error) {
            abandon_extent(spill, &extents[i]);
            continue;
        }
        account(spill, &extents[i], handles);
        *stored += extents[i].count;
    }
    return error;
}

static int store_batch(struct spill *spill, const struct record *run, size_t n, tier_handle *handles, size_t *stored)
{
    struct extent extents[SPILL_IO_DEPTH];
    size_t count = 0, next = *stored;
    int no_room = 0;
    while (count < SPILL_IO_DEPTH && next < n && !no_room) {
        char *staged = spill->staging + count * spill->segment_size;
        no_room = next_extent(spill, &extents[count], staged, run, next, n, handles);
        if (!no_room)
            next += extents[count++].count;
    }
    int error = write_batch(spill, extents, count, handles, stored);
    return error ? error : no_room;
}

static int spill_store(struct tier *tier, const struct record *run, size_t n, tier_handle *handles)
{
    struct spill *spill = spill_of(tier);
    if (spill->forked_off || !spill_space_is_mine(&spill->space))
        return -EPERM;
    size_t stored = 0;
    int error = 0;
    while (stored < n && !error)
        error = store_batch(spill, run, n, handles, &stored);
    return stored ? (int)stored : error;
}

/* ---- load, release: any thread ---- */

static uint32_t largest_slot(size_t page_size)
{
    return slot_size((uint32_t)page_size - 1, (uint32_t)page_size);
}

/* Whether a handle names something that this spill could have written. */
static bool is_ours(const struct spill *spill, tier_handle handle)
{
    uint64_t position = slot_position(handle), end = position + slot_length(handle);
    return handle >> TIER_HANDLE_BITS == 0 && slot_length(handle) > 0 &&
           slot_length(handle) <= largest_slot(spill->page_size) &&
           (!is_raw(spill, slot_length(handle)) || position == block_floor(position)) &&
           end <= position_of(spill, spill->space.limit, 0) &&
           position / spill->segment_size == (end - 1) / spill->segment_size;
}

size_t spill_scratch_size(size_t page_size)
{
    return (size_t)block_ceil(largest_slot(page_size)) + SPILL_BLOCK;
}

/* How many of the wanted records, from the front, one read of at most `room` bytes from `start` on covers. */
static size_t within_reach(const struct spill *spill, const struct tier_item *wanted, size_t n, uint64_t start,
                           size_t room)
{
    size_t reached = 1;
    uint64_t end = slot_position(wanted[0].handle) + slot_length(wanted[0].handle);
    for (; reached < n && is_ours(spill, wanted[reached].handle); reached++) {
        uint64_t position = slot_position(wanted[reached].handle);
        uint64_t next = position + slot_length(wanted[reached].handle);
        if (position < end || position - end > SPILL_BLOCK || block_ceil(next) - start > room)
            break;
        end = next;
    }
    return reached;
}

/* Opens what was asked for out of `scratch`, which holds the file from `start` on. */
static int open_wanted(struct spill *spill, const struct tier_item *wanted, uint64_t start, void *scratch,
                       struct record *out)
{
    uint64_t position = slot_position(wanted->handle);
    if (open_record(spill, (uint32_t)(position / spill->segment_size), (uint32_t)(position % spill->segment_size),
                    (char *)scratch + (position - start), slot_length(wanted->handle), out) != 0 ||
        (wanted->record.page != TIER_ANY_PAGE && out->page != wanted->record.page))
        return failed(spill, -EBADMSG);
    count(&spill->loads, 1);
    return 0;
}

static int spill_load_run(struct tier *tier, const struct tier_item *wanted, size_t n, void *scratch, size_t size,
                          struct record *out)
{
    struct spill *spill = spill_of(tier);
    if (!is_ours(spill, wanted[0].handle))
        return failed(spill, -EBADMSG);
    uint64_t start = block_floor(slot_position(wanted[0].handle));
    n = within_reach(spill, wanted, n, start, size);
    const struct tier_item *last = &wanted[n - 1];
    size_t bytes = (size_t)(block_ceil(slot_position(last->handle) + slot_length(last->handle)) - start);
    if (spill_file_read(&spill->file, scratch, bytes, start) != 0)
        return failed(spill, -EIO);
    count(&spill->bytes_read, bytes);
    size_t opened = 0;
    int error = 0;
    while (opened < n && (error = open_wanted(spill, &wanted[opened], start, scratch, &out[opened])) == 0)
        opened++;
    return opened ? (int)opened : error;
}

static int spill_load(struct tier *tier, uint64_t page, tier_handle handle, void *scratch, struct record *out)
{
    struct spill *spill = spill_of(tier);
    struct tier_item wanted = {.record.page = page, .handle = handle};
    int loaded = spill_load_run(tier, &wanted, 1, scratch, spill_scratch_size(spill->page_size), out);
    return loaded < 0 ? loaded : 0;
}

static void spill_release(struct tier *tier, tier_handle handle)
{
    struct spill *spill = spill_of(tier);
    if (!is_ours(spill, handle)) {
        failed(spill, -EBADMSG);
        return;
    }
    atomic_fetch_sub_explicit(&spill->records, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&spill->bytes, slot_length(handle), memory_order_relaxed);
    if (spill_space_is_mine(&spill->space))
        spill_space_drop(&spill->space, (uint32_t)(slot_position(handle) / spill->segment_size), 1);
}

/* ---- cleaning ---- */

/* What is live of a closed segment that no other process needs, in bytes of it; 0 where there is nothing to pick.
 * Counts say how many records are live, not which: their sizes are taken as the segment's average. */
static uint64_t live_bytes(const struct spill *spill, uint32_t index)
{
    const struct spill_segment *segment = &spill->space.segments[index];
    if (index == spill->open || segment->written == 0 || segment->stored == 0)
        return 0;
    return (uint64_t)spill_space_sole(&spill->space, index) * segment->written / segment->stored;
}

static uint32_t find_emptiest(const struct spill *spill, unsigned max_live_percent)
{
    uint64_t least = (uint64_t)spill->segment_size * max_live_percent / 100;
    uint32_t found = NONE, frontier = atomic_load_explicit(&spill->space.family->frontier, memory_order_relaxed);
    for (uint32_t i = 0; i < frontier; i++) {
        uint64_t live = live_bytes(spill, i);
        if (live > 0 && live < least) {
            least = live;
            found = i;
        }
    }
    return found;
}

/* By sequence number: a child's own come before its parent's, which is as good an order. */
static uint32_t find_oldest(const struct spill *spill)
{
    uint32_t found = NONE, frontier = atomic_load_explicit(&spill->space.family->frontier, memory_order_relaxed);
    for (uint32_t i = 0; i < frontier; i++) {
        if (live_bytes(spill, i) > 0 &&
            (found == NONE || spill->space.segments[i].sequence < spill->space.segments[found].sequence))
            found = i;
    }
    return found;
}

/* Opens the summary of the extent at `start` of the segment in the picking buffer, or returns NULL. */
static const struct summary *open_summary(const struct spill *spill, uint32_t index, uint32_t start)
{
    struct summary *summary = (struct summary *)(spill->picking + start);
    struct seal_nonce nonce = nonce_at(spill, index, start);
    if (seal_open(spill->seal, &nonce, summary, SUMMARY_SIZE - SEAL_TAG_SIZE, summary->tag) != 0)
        return NULL;
    bool sane = summary->count <= SUMMARY_RECORDS && summary->size >= SPILL_BLOCK &&
                summary->size <= spill->space.segments[index].written - start;
    return sane ? summary : NULL;
}

/* Adds the records of one extent to items[*n..max). A slot that does not open is left out: whoever needs it finds out
 * when loading it. Returns whether all opened. */
static bool offer_extent(struct spill *spill, uint32_t index, uint32_t start, const struct summary *summary,
                         struct tier_item *items, size_t max, size_t *n)
{
    uint32_t at = start + SUMMARY_SIZE;
    bool whole = true;
    for (uint32_t i = 0; i < summary->count && *n < max; i++) {
        uint32_t size = summary->units[i] * (uint32_t)SLOT_UNIT;
        at = place_after(spill, at, size);
        if (size == 0 || at > start + summary->size || size > start + summary->size - at)
            return false;
        struct tier_item *item = &items[*n];
        item->handle = slot_handle(position_of(spill, index, at), size);
        if (open_record(spill, index, at, spill->picking + at, size, &item->record) == 0) {
            ++*n;
        } else {
            failed(spill, -EBADMSG);
            whole = false;
        }
        at += size;
    }
    return whole;
}

/* Fills items from a segment. One with a damaged slot, whose count nobody can move away, is not picked a second time.
 */
static int read_back(struct spill *spill, uint32_t index, struct tier_item *items, size_t max)
{
    struct spill_segment *segment = &spill->space.segments[index];
    bool whole = true;
    size_t n = 0;
    if (spill_file_read(&spill->file, spill->picking, segment->written, position_of(spill, index, 0)) != 0)
        return failed(spill, -EIO);
    for (uint32_t start = 0; start < segment->written;) {
        const struct summary *summary = open_summary(spill, index, start);
        if (!summary)
            return failed(spill, -EBADMSG);
        whole &= offer_extent(spill, index, start, summary, items, max, &n);
        start += summary->size;
    }
    count(&spill->bytes_read, segment->written);
    if (!whole)
        segment->written = 0;
    return (int)n;
}

static void spill_pick_done(struct tier *tier)
{
    struct spill *spill = spill_of(tier);
    if (spill->picked != NONE)
        spill_space_drop(&spill->space, spill->picked, 1);
    spill->picked = NONE;
}

static int spill_pick(struct tier *tier, enum tier_pick which, unsigned max_live_percent, struct tier_item *items,
                      size_t max)
{
    struct spill *spill = spill_of(tier);
    spill_pick_done(tier);
    spill_space_reap(&spill->space, false); /* what only they had needed can be cleaned */
    uint32_t index = which == PICK_OLDEST ? find_oldest(spill) : find_emptiest(spill, max_live_percent);
    if (index == NONE)
        return 0;
    spill_space_hold(&spill->space, index, 1);
    spill->picked = index;
    int result = read_back(spill, index, items, max);
    if (result <= 0) {
        spill->space.segments[index].written = 0; /* damaged: the next pick is to offer another one */
        spill_pick_done(tier);
    }
    return result;
}

static void spill_trim(struct tier *tier)
{
    struct spill *spill = spill_of(tier);
    spill_space_trim(&spill->space);
    spill_raw_trim(&spill->raw, &spill->space);
}

/* ---- statistics, birth and death ---- */

static uint64_t counter(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void spill_stats(const struct tier *tier, struct tier_stats *out)
{
    const struct spill *spill = spill_of(tier);
    *out = (struct tier_stats){
        .records = counter(&spill->records),
        .bytes = counter(&spill->bytes),
        .held_bytes = spill_space_held(&spill->space),
        .capacity = spill->capacity,
        .stores = spill->stores,
        .loads = counter(&spill->loads),
        .bytes_written = spill->bytes_written,
        .bytes_read = counter(&spill->bytes_read),
        .errors = counter(&spill->errors),
    };
}

static const struct tier_ops spill_ops = {
    .name = "spill",
    .store = spill_store,
    .load = spill_load,
    .load_run = spill_load_run,
    .release = spill_release,
    .pick = spill_pick,
    .pick_done = spill_pick_done,
    .trim = spill_trim,
    .stats = spill_stats,
};

static size_t segment_size_for(size_t page_size)
{
    return page_size * SEGMENT_PAGES > SEGMENT_MIN ? page_size * SEGMENT_PAGES : SEGMENT_MIN;
}

static uint64_t file_limit(const struct spill_config *config, int fd)
{
    uint64_t limit = spill_io_size_limit(fd);
    if (config->max_bytes && config->max_bytes < limit)
        limit = config->max_bytes;
    return limit < SPILL_MAX_BYTES ? limit : SPILL_MAX_BYTES;
}

/* What needs the file to be open. */
static int build(struct spill *spill, const struct spill_config *config)
{
    int error = spill_space_init(&spill->space, &spill->file, spill->segment_size, file_limit(config, spill->file.fd));
    if (!error)
        error = spill_raw_init(&spill->raw, spill->space.limit, (uint32_t)(spill->segment_size / spill->page_size));
    if (error)
        return error;
    spill->capacity = config->max_bytes ? position_of(spill, spill->space.limit, 0) : UINT64_MAX;
    spill->staging = os_map_now(SPILL_IO_DEPTH * spill->segment_size); /* counted before the budget gets tight */
    spill->picking = os_map_now(spill->segment_size);
    return spill->staging && spill->picking ? seal_new(&spill->seal) : -ENOMEM;
}

int spill_new(struct tier **out, const struct spill_config *config)
{
    size_t page_size = config->page_size;
    if (page_size < SPILL_BLOCK || page_size > 65536 || page_size & (page_size - 1))
        return -EINVAL;
    struct spill *spill = os_map(sizeof(*spill));
    if (!spill)
        return -ENOMEM;
    *spill = (struct spill){.tier.ops = &spill_ops,
                            .page_size = page_size,
                            .segment_size = segment_size_for(page_size),
                            .open = NONE,
                            .picked = NONE};
    const struct spill_io *io = config->io ? config->io : &spill_io_default;
    int error = spill_file_open(&spill->file, config->directory, config->fd, io, config->io_context);
    if (error) {
        os_unmap(spill, sizeof(*spill));
        return error;
    }
    error = build(spill, config);
    if (error) {
        spill_free(&spill->tier);
        return error;
    }
    *out = &spill->tier;
    return 0;
}

void spill_free(struct tier *tier)
{
    if (!tier)
        return;
    struct spill *spill = spill_of(tier);
    if (spill->space.segments)
        spill_space_fini(&spill->space);
    spill_raw_fini(&spill->raw);
    spill_file_close(&spill->file);
    seal_free(spill->seal);
    if (spill->staging)
        os_unmap(spill->staging, SPILL_IO_DEPTH * spill->segment_size);
    if (spill->picking)
        os_unmap(spill->picking, spill->segment_size);
    os_unmap(spill, sizeof(*spill));
}

size_t spill_descriptors(const struct tier *tier, int fds[2])
{
    const struct spill_file *file = &spill_of(tier)->file;
    int ring = file->io->descriptor(file->state);
    fds[0] = file->fd;
    fds[1] = ring;
    return ring < 0 ? 1 : 2;
}

/* ---- fork ---- */

void spill_before_fork(struct tier *tier)
{
    spill_space_before_fork(&spill_of(tier)->space);
}

void spill_after_fork_parent(struct tier *tier)
{
    spill_space_after_fork_parent(&spill_of(tier)->space);
}

void spill_fork_failed(struct tier *tier)
{
    spill_space_fork_failed(&spill_of(tier)->space);
}

void spill_after_fork_child(struct tier *tier)
{
    struct spill *spill = spill_of(tier);
    spill->forked_off = spill_space_after_fork_child(&spill->space) != 0;
    if (spill_space_is_mine(&spill->space)) {
        close_segment(spill);
        spill_pick_done(tier);
    }
}
