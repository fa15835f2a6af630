/* oracles.c: see oracles.h. */
#include "oracles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

static void *zeros(size_t n, size_t size)
{
    void *memory = calloc(n, size);
    if (!memory) {
        perror("policy");
        exit(2);
    }
    return memory;
}

/* A miss counts when it is no first touch and warming up is over. */
struct tally {
    const struct workload *workload;
    bool *seen;
    uint64_t misses;
};

static struct tally tally_new(const struct workload *workload)
{
    return (struct tally){workload, zeros(workload->pages, 1), 0};
}

static void tally_miss(struct tally *tally, uint32_t page, size_t i)
{
    tally->misses += tally->seen[page] && i >= tally->workload->warm;
    tally->seen[page] = true;
}

static uint64_t tally_end(struct tally *tally)
{
    free(tally->seen);
    return tally->misses;
}

/* ---- queues: doubly linked lists over page numbers, a page in at most one of them ---- */

struct queue {
    uint32_t head, tail, length; /* head: last put in */
};

struct links {
    uint32_t *newer, *older;
    unsigned char *in; /* which queue, 0: none */
};

static struct links links_new(uint32_t pages)
{
    return (struct links){zeros(pages, 4), zeros(pages, 4), zeros(pages, 1)};
}

static void links_free(struct links *links)
{
    free(links->newer);
    free(links->older);
    free(links->in);
}

static void push(struct links *links, struct queue *queue, unsigned char id, uint32_t page)
{
    links->newer[page] = NONE;
    links->older[page] = queue->length ? queue->head : NONE;
    if (queue->length++)
        links->newer[queue->head] = page;
    else
        queue->tail = page;
    queue->head = page;
    links->in[page] = id;
}

static void take(struct links *links, struct queue *queue, uint32_t page)
{
    uint32_t newer = links->newer[page], older = links->older[page];
    if (newer != NONE)
        links->older[newer] = older;
    else
        queue->head = older;
    if (older != NONE)
        links->newer[older] = newer;
    else
        queue->tail = newer;
    queue->length--;
    links->in[page] = 0;
}

static uint32_t pop(struct links *links, struct queue *queue)
{
    uint32_t page = queue->tail;
    take(links, queue, page);
    return page;
}

/* ---- FIFO, LRU, CLOCK ---- */

enum order { FIFO, LRU, CLOCK };

static uint64_t one_queue(const struct workload *workload, uint32_t capacity, enum order order)
{
    struct tally tally = tally_new(workload);
    struct links links = links_new(workload->pages);
    bool *used = zeros(workload->pages, 1);
    struct queue queue = {0};
    for (size_t i = 0; i < workload->count; i++) {
        uint32_t page = access_page(workload->accesses[i]);
        if (links.in[page]) {
            used[page] = true;
            if (order == LRU) {
                take(&links, &queue, page);
                push(&links, &queue, 1, page);
            }
            continue;
        }
        tally_miss(&tally, page, i);
        while (queue.length >= capacity) {
            uint32_t oldest = pop(&links, &queue);
            if (order == CLOCK && used[oldest])
                push(&links, &queue, 1, oldest);
            used[oldest] = false;
        }
        push(&links, &queue, 1, page);
        used[page] = false;
    }
    links_free(&links);
    free(used);
    return tally_end(&tally);
}

static uint64_t fifo(const struct workload *workload, uint32_t capacity)
{
    return one_queue(workload, capacity, FIFO);
}
static uint64_t lru(const struct workload *workload, uint32_t capacity)
{
    return one_queue(workload, capacity, LRU);
}
static uint64_t bits(const struct workload *workload, uint32_t capacity)
{
    return one_queue(workload, capacity, CLOCK);
}

/* ---- random ---- */

static uint64_t any(const struct workload *workload, uint32_t capacity)
{
    struct tally tally = tally_new(workload);
    uint32_t *slots = zeros(capacity, 4), filled = 0;
    bool *in = zeros(workload->pages, 1);
    uint64_t seed = 99;
    for (size_t i = 0; i < workload->count; i++) {
        uint32_t page = access_page(workload->accesses[i]);
        if (in[page])
            continue;
        tally_miss(&tally, page, i);
        uint32_t slot = filled < capacity ? filled++ : (uint32_t)(random_next(&seed) % capacity);
        in[slots[slot]] = false;
        slots[slot] = page;
        in[page] = true;
    }
    free(slots);
    free(in);
    return tally_end(&tally);
}

/* ---- 2Q, full version (Johnson & Shasha 1994): Kin = 1/4, Kout = 1/2 of the capacity ---- */

static uint64_t two_queues(const struct workload *workload, uint32_t capacity)
{
    enum { IN = 1, OUT, MAIN };
    struct tally tally = tally_new(workload);
    struct links links = links_new(workload->pages);
    struct queue in = {0}, out = {0}, main_queue = {0};
    for (size_t i = 0; i < workload->count; i++) {
        uint32_t page = access_page(workload->accesses[i]);
        unsigned char where = links.in[page];
        if (where == MAIN) {
            take(&links, &main_queue, page);
            push(&links, &main_queue, MAIN, page);
        }
        if (where == MAIN || where == IN)
            continue;
        tally_miss(&tally, page, i);
        if (where == OUT)
            take(&links, &out, page);
        if (in.length + main_queue.length >= capacity) {
            if (in.length > capacity / 4 || !main_queue.length)
                push(&links, &out, OUT, pop(&links, &in));
            else
                pop(&links, &main_queue);
            if (out.length > capacity / 2)
                pop(&links, &out);
        }
        push(&links, where == OUT ? &main_queue : &in, where == OUT ? MAIN : IN, page);
    }
    links_free(&links);
    return tally_end(&tally);
}

/* ---- S3-FIFO (Yang et al. 2023): a tenth of the capacity is the small queue ---- */

static uint64_t s3_fifo(const struct workload *workload, uint32_t capacity)
{
    enum { SMALL = 1, MAIN, GHOST };
    struct tally tally = tally_new(workload);
    struct links links = links_new(workload->pages);
    unsigned char *hits = zeros(workload->pages, 1);
    struct queue small = {0}, main_queue = {0}, ghost = {0};
    for (size_t i = 0; i < workload->count; i++) {
        uint32_t page = access_page(workload->accesses[i]);
        unsigned char where = links.in[page];
        if (where == SMALL || where == MAIN) {
            hits[page] += hits[page] < 3;
            continue;
        }
        tally_miss(&tally, page, i);
        if (where == GHOST)
            take(&links, &ghost, page);
        while (small.length + main_queue.length >= capacity) {
            bool from_small = small.length >= capacity / 10 || !main_queue.length;
            uint32_t oldest = pop(&links, from_small ? &small : &main_queue);
            if (from_small && hits[oldest] > 1) {
                push(&links, &main_queue, MAIN, oldest);
            } else if (from_small) {
                push(&links, &ghost, GHOST, oldest);
                if (ghost.length > capacity)
                    pop(&links, &ghost);
            } else if (hits[oldest] > 0) {
                hits[oldest]--;
                push(&links, &main_queue, MAIN, oldest);
                continue;
            }
            hits[oldest] = 0;
        }
        hits[page] = 0;
        push(&links, where == GHOST ? &main_queue : &small, where == GHOST ? MAIN : SMALL, page);
    }
    links_free(&links);
    free(hits);
    return tally_end(&tally);
}

/* ---- MIN (Belady 1966): out goes what is needed last; a heap of next uses, stale entries skipped ---- */

struct need {
    uint32_t next, page;
};

static void heap_push(struct need *heap, size_t *n, struct need need)
{
    size_t at = (*n)++;
    for (; at > 0 && heap[(at - 1) / 2].next < need.next; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = need;
}

static struct need heap_pop(struct need *heap, size_t *n)
{
    struct need top = heap[0], last = heap[--*n];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < *n; at = child) {
        child += child + 1 < *n && heap[child + 1].next > heap[child].next;
        if (heap[child].next <= last.next)
            break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return top;
}

static uint64_t min(const struct workload *workload, uint32_t capacity)
{
    struct tally tally = tally_new(workload);
    uint32_t *next = zeros(workload->count, 4), *later = zeros(workload->pages, 4), in = 0;
    struct need *heap = zeros(workload->count + 1, sizeof *heap);
    bool *resident = zeros(workload->pages, 1);
    size_t n = 0;
    memset(later, 0xff, workload->pages * sizeof *later);
    for (size_t i = workload->count; i-- > 0;) {
        uint32_t page = access_page(workload->accesses[i]);
        next[i] = later[page];
        later[page] = (uint32_t)i;
    }
    for (size_t i = 0; i < workload->count; i++) { /* later[page]: its next use from now on */
        uint32_t page = access_page(workload->accesses[i]);
        if (!resident[page]) {
            tally_miss(&tally, page, i);
            for (struct need out; in >= capacity;) {
                out = heap_pop(heap, &n);
                if (resident[out.page] && later[out.page] == out.next) {
                    resident[out.page] = false;
                    in--;
                }
            }
            resident[page] = true;
            in++;
        }
        later[page] = next[i];
        heap_push(heap, &n, (struct need){next[i], page});
    }
    free(next);
    free(later);
    free(heap);
    free(resident);
    return tally_end(&tally);
}

const struct oracle oracles[] = {{"MIN", min},         {"LRU", lru},   {"clock+bits", bits}, {"2Q", two_queues},
                                 {"S3-FIFO", s3_fifo}, {"FIFO", fifo}, {"random", any},      {NULL, NULL}};
