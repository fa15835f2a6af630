/* Pages that the kernel works on directly, or that a forked process shares, do not leave memory by take(). */
#include "contract.h"

#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

static void need_take(void)
{
    if (!pf.caps.takes)
        skip("cannot take pages");
}

static void start_filled(size_t pages)
{
    need_take();
    start_armed(pages);
    for (size_t i = 0; i < pages; i++)
        fill_page(page_at(i), i, true);
}

static void register_page(struct io_uring *ring, size_t page)
{
    struct iovec buffer = {(void *) page_at(page), pf.page};
    if (io_uring_queue_init(4, ring, 0) < 0)
        skip("no io_uring here");
    CHECK_EQ(io_uring_register_buffers(ring, &buffer, 1), 0);
}

static void a_registered_buffer_is_refused(void)
{
    struct io_uring ring;
    start_filled(8);
    register_page(&ring, 3);
    CHECK_EQ(OP(take, page_at(3), pf.page, 0), -EBUSY);
    CHECK(is_resident(page_at(3)));
    CHECK(pattern_is((void *) page_at(3), pf.page, 3));
    CHECK_EQ(OP(take, page_at(0), 8 * pf.page, 0), 3 * pf.page); /* up to it */
    CHECK(pattern_is(pf.staging, pf.page, 0));
    CHECK_EQ(trap_count(), 0);
    io_uring_queue_exit(&ring);
}

/* What the device writes arrives in the page that the program sees. */
static void a_registered_buffer_stays_connected(void)
{
    struct io_uring ring;
    int ends[2];
    start_filled(4);
    CHECK_EQ(pipe(ends), 0);
    register_page(&ring, 1);
    io_uring_prep_read_fixed(io_uring_get_sqe(&ring), ends[0], (void *) page_at(1), 8, 0, 0);
    CHECK_EQ(io_uring_submit(&ring), 1);
    CHECK_EQ(OP(take, page_at(1), pf.page, 0), -EBUSY);
    uint64_t sent = 424242;
    CHECK_EQ(write(ends[1], &sent, 8), 8);
    struct io_uring_cqe *done;
    CHECK_EQ(io_uring_wait_cqe(&ring, &done), 0);
    CHECK_EQ(done->res, 8);
    CHECK_EQ(load(page_at(1)), sent);
    CHECK_EQ(trap_count(), 0);
    io_uring_queue_exit(&ring);
}

static void a_released_buffer_can_be_taken(void)
{
    struct io_uring ring;
    int64_t taken = -EBUSY;
    start_filled(4);
    register_page(&ring, 1);
    CHECK_EQ(io_uring_unregister_buffers(&ring), 0);
    for (int i = 0; i < 1000 && taken == -EBUSY; i++, usleep(1000))
        taken = OP(take, page_at(1), pf.page, 0);
    CHECK_EQ(taken, pf.page);
    CHECK(pattern_is(pf.staging, pf.page, 1));
}

/* ---- direct reads while pages are taken ---- */

#define BLOCKS 64

static volatile bool stop;
static unsigned refused, taken_out;

static int make_file(void)
{
    int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    void *block;
    if (fd < 0)
        skip("no direct I/O here");
    CHECK_EQ(posix_memalign(&block, 4096, pf.page), 0);
    for (size_t i = 0; i < BLOCKS; i++) {
        pattern_fill(block, pf.page, i);
        if (pwrite(fd, block, pf.page, (off_t) (i * pf.page)) != (ssize_t) pf.page)
            skip("no direct I/O here");
    }
    free(block);
    return fd;
}

static void *take_and_put_back(void *unused)
{
    (void) unused;
    while (!stop) {
        int64_t moved = pf.ops->take(&pf, page_at(0), pf.page, 0);
        if (moved < 0) {
            refused += moved == -EBUSY;
            continue;
        }
        taken_out++;
        CHECK_EQ(pf.ops->place(&pf, page_at(0), pf.page, pf.staging, true), pf.page);
        usleep(20);
    }
    return NULL;
}

static void direct_reads_lose_nothing(void)
{
    pthread_t thread;
    start_filled(1);
    int fd = make_file();
    heal_with(heal_again);
    CHECK_EQ(pthread_create(&thread, NULL, take_and_put_back, NULL), 0);
    unsigned reads = 0;
    for (uint64_t end = milliseconds() + 1500, i = 0; milliseconds() < end; i++) {
        ssize_t got = pread(fd, (void *) page_at(0), pf.page, (off_t) (i % BLOCKS * pf.page));
        if (got != (ssize_t) pf.page)
            continue; /* it was out just then: EFAULT */
        reads++;
        CHECK(pattern_is((void *) page_at(0), pf.page, i % BLOCKS));
    }
    stop = true;
    pthread_join(thread, NULL);
    printf("  %u reads, %u refusals, taken %u times\n", reads, refused, taken_out);
    CHECK(reads > 20 && taken_out > 20);
}

/* ---- shared with a forked process ---- */

static void pages_shared_with_a_child_are_refused(void)
{
    int go[2];
    start_filled(8);
    CHECK_EQ(pipe(go), 0);
    pid_t child = fork_arena();
    if (child == 0) {
        char byte;
        close(go[1]);
        CHECK_EQ(OP(take, page_at(0), pf.page, 0), -EBUSY);
        CHECK_EQ(read(go[0], &byte, 1), 0);
        CHECK(pattern_is((void *) page_at(0), pf.page, 0));
        CHECK(pattern_is((void *) page_at(1), pf.page, 1));
        _exit(0);
    }
    CHECK_EQ(OP(take, page_at(0), pf.page, 0), -EBUSY);
    CHECK(pattern_is((void *) page_at(0), pf.page, 0));
    store(page_at(1), 9); /* now a page of its own */
    CHECK_EQ(OP(take, page_at(1), 2 * pf.page, 0), pf.page);
    CHECK_EQ(*(const uint64_t *) pf.staging, 9);
    close(go[1]);
    check_child(child);
}

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(a_registered_buffer_is_refused),
        CASE(a_registered_buffer_stays_connected),
        CASE(a_released_buffer_can_be_taken),
        CASE(direct_reads_lose_nothing),
        CASE(pages_shared_with_a_child_are_refused),
        CASES_END,
    };
    return contract_main(argc, argv, cases);
}
