/*
 * stream.c: see stream.h.
 *
 * The last few faults are remembered, and apart from them those that were followed by others, so that a program that reads
 * here and there between does not make us forget them. A fault belongs to a sequence if it comes right behind it, but for some pages
 * that were in memory already.
 */
#include "stream.h"

#include <stdbool.h>

/* How many pages that are in memory a sequence may pass. */
#define GAP 16

/* From how many pages on it is one. Two are an object across the end of a page. */
#define LENGTH_KNOWN 3

#define LENGTH_MAX ((size_t) 1 << 20)

static size_t get(const size_t *field) { return __atomic_load_n(field, __ATOMIC_RELAXED); }
static void set(size_t *field, size_t value) { __atomic_store_n(field, value, __ATOMIC_RELAXED); }

/* Whether the page is next: 1 up, -1 down, else 0. */
static int continues(const struct stream_entry *entry, size_t page)
{
    if (!get(&entry->length))
        return 0;
    if (page - get(&entry->end) <= GAP)
        return 1;
    return get(&entry->first) - 1 - page <= GAP ? -1 : 0;
}

static const struct stream_entry *find(const struct stream_entry *entries, size_t n, size_t page, int *direction)
{
    for (size_t i = 0; i < n; i++)
        if ((*direction = continues(&entries[i], page)) != 0)
            return &entries[i];
    return NULL;
}

static const struct stream_entry *find_any(const struct streams *streams, size_t page, int *direction)
{
    const struct stream_entry *entry = find(streams->known, STREAMS_KNOWN, page, direction);
    return entry ? entry : find(streams->recent, STREAMS_RECENT, page, direction);
}

struct stream stream_find(const struct streams *streams, size_t page)
{
    int direction;
    const struct stream_entry *entry = find_any(streams, page, &direction);
    return entry ? (struct stream){direction, get(&entry->length)} : (struct stream){0, 0};
}

static void write_entry(struct stream_entry *entry, size_t first, size_t end, size_t length)
{
    set(&entry->first, first);
    set(&entry->end, end);
    set(&entry->length, length < LENGTH_MAX ? length : LENGTH_MAX);
}

static struct stream_entry *replaceable(struct stream_entry *entries, size_t n, uint32_t *next)
{
    return &entries[__atomic_fetch_add(next, 1, __ATOMIC_RELAXED) % n];
}

static bool is_known(const struct streams *streams, const struct stream_entry *entry)
{
    return entry >= streams->known && entry < streams->known + STREAMS_KNOWN;
}

void stream_note(struct streams *streams, size_t page, size_t first, size_t end)
{
    int direction;
    struct stream_entry *entry = (struct stream_entry *) find_any(streams, page, &direction);
    size_t length = end - first + (entry ? get(&entry->length) : 0);
    if (!entry) {
        entry = replaceable(streams->recent, STREAMS_RECENT, &streams->next_recent);
    } else if (length >= LENGTH_KNOWN && !is_known(streams, entry)) {
        set(&entry->length, 0);
        entry = replaceable(streams->known, STREAMS_KNOWN, &streams->next_known);
    }
    write_entry(entry, first, end, length);
}
