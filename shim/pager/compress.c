/*
 * compress.c: a batch's contents become records, by whoever has the time.
 *
 * Compressing is most of what taking a page out costs, and the only part that needs no order. So the evictor lays it open,
 * and threads that wait at the limit for its round to end take pages from it: the more wait, the sooner it ends.
 */
#include "compress.h"

#include "evictor.h"

#include "../../platform/os.h"

/* How long the evictor sleeps before it looks again whether the last page is done. It is woken for that. */
#define LOOK_NS (UINT64_C(1) * 1000000)

/* Fewer are done before a sleeper is awake. */
#define WORTH_A_CALL 8

/* The queue in one word, so that who takes a job takes it from the batch that is open: the next one, and how many. */
static uint32_t next_job(uint64_t queue) { return (uint32_t) queue; }
static uint32_t end_of_jobs(uint64_t queue) { return (uint32_t) (queue >> 32); }

static bool take_job(struct compress_work *work, size_t *job)
{
    uint64_t queue = __atomic_load_n(&work->queue, __ATOMIC_ACQUIRE);
    do {
        if (next_job(queue) >= end_of_jobs(queue))
            return false;
    } while (!__atomic_compare_exchange_n(&work->queue, &queue, queue + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    *job = next_job(queue);
    return true;
}

static void do_job(struct engine *engine, struct codec_encoder *encoder, size_t job)
{
    struct evictor *evictor = engine->evictor;
    const struct victim *victim = &evictor->victims[evictor->record_of[job]];
    size_t size = engine_page_size(engine);
    codec_encode(encoder, CODEC_LZ4, victim->content, size, evictor->encoded + job * codec_limit(size),
                 &evictor->records[job]);
}

/* Returns how many it did. */
static size_t do_jobs(struct engine *engine, struct codec_encoder *encoder)
{
    struct compress_work *work = &engine->evictor->work;
    size_t done = 0;
    for (size_t job; take_job(work, &job); done++) {
        do_job(engine, encoder, job);
        if (__atomic_sub_fetch(&work->unfinished, 1, __ATOMIC_SEQ_CST) == 0)
            os_futex_wake(&work->unfinished, 1, false);
    }
    return done;
}

void compress_batch(struct engine *engine, size_t n)
{
    struct compress_work *work = &engine->evictor->work;
    __atomic_store_n(&work->unfinished, (uint32_t) n, __ATOMIC_RELAXED);
    __atomic_store_n(&work->queue, (uint64_t) n << 32, __ATOMIC_RELEASE);
    if (n >= WORTH_A_CALL) {
        __atomic_fetch_add(&engine->progress, 1, __ATOMIC_SEQ_CST);
        os_futex_wake(&engine->progress, COMPRESS_HELPERS, false);
    }
    do_jobs(engine, &engine->evictor->encoder);
    uint32_t left;
    while ((left = __atomic_load_n(&work->unfinished, __ATOMIC_SEQ_CST)) > 0)
        os_futex_wait(&work->unfinished, left, LOOK_NS, false);
}

bool compress_help(struct engine *engine)
{
    struct compress_work *work = &engine->evictor->work;
    uint64_t queue = __atomic_load_n(&work->queue, __ATOMIC_RELAXED);
    uint32_t taken = __atomic_load_n(&work->helpers, __ATOMIC_RELAXED);
    unsigned mine;
    if (next_job(queue) >= end_of_jobs(queue) || work->process != os_process_id())
        return false;
    do {
        if (taken == (UINT32_C(1) << COMPRESS_HELPERS) - 1)
            return false;
        mine = (unsigned) __builtin_ctz(~taken);
    } while (!__atomic_compare_exchange_n(&work->helpers, &taken, taken | UINT32_C(1) << mine, false, __ATOMIC_ACQUIRE,
                                          __ATOMIC_RELAXED));
    size_t done = do_jobs(engine, &work->encoders[mine]);
    __atomic_fetch_and(&work->helpers, ~(UINT32_C(1) << mine), __ATOMIC_RELEASE);
    count(&engine->counters.helped, done);
    return done > 0;
}

void compress_reset(struct engine *engine)
{
    struct compress_work *work = &engine->evictor->work;
    work->process = os_process_id();
    __atomic_store_n(&work->helpers, 0, __ATOMIC_RELEASE);
}
