/* The spill tier: against a model, against a failing disk, and against whoever reads or changes the file. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/tier/spill.h"
#include "tier_model.h"

#ifndef LOGICAL_PAGE
#define LOGICAL_PAGE 4096
#endif

enum { PAGE = LOGICAL_PAGE, SEGMENT = 262144 };

/* Room for so many times 256 pages: a MiB of small ones. */
#define ROOM(n) ((uint64_t)(n) * 256 * PAGE)

static const char *directory = "/var/tmp";

/* ---- a device that fails on request ---- */

static struct {
    long writes_left; /* writes that still succeed; -1: all */
    int write_error;  /* what the others say */
    long allocations_left;
    int read_error;
    bool short_io; /* less than asked, and sometimes nothing but EINTR */
    unsigned tick;
    long flip_bit;        /* bit of what is read to flip; -1: none */
    bool write_past_half; /* a failing write leaves its first half behind */
    bool no_ring;         /* io_uring is refused */
    uint64_t punched, allocated;
    unsigned reads, writes;       /* that were asked for */
    uint64_t read_at, read_bytes; /* the last read */
    uint64_t write_bytes;         /* all writes */
} disk;

static void disk_reset(void)
{
    memset(&disk, 0, sizeof(disk));
    disk.writes_left = disk.allocations_left = -1;
    disk.flip_bit = -1;
}

static void *disk_start(void *context)
{
    return disk.no_ring ? NULL : spill_io_default.start(context);
}

static void disk_write_one(void *context, void *state, int fd, struct spill_write *write)
{
    if (disk.writes_left == 0) {
        if (disk.write_past_half)
            cr_assert_gt(pwrite(fd, write->bytes, write->size / 2 & ~(size_t)4095, (off_t)write->offset), -1);
        write->result = disk.write_error;
        return;
    }
    if (disk.writes_left > 0)
        disk.writes_left--;
    struct spill_write shorter = *write;
    if (disk.short_io && disk.tick++ % 3 == 0) {
        write->result = -EINTR;
        return;
    }
    if (disk.short_io)
        shorter.size = (write->size / 2 + 4095) & ~(size_t)4095;
    spill_io_default.write(context, state, fd, &shorter, 1);
    write->result = disk.short_io && shorter.result > 4096 ? shorter.result - 100 : shorter.result;
}

static void disk_write(void *context, void *state, int fd, struct spill_write *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        disk.writes++;
        disk.write_bytes += batch[i].size;
    }
    if (!disk.short_io && disk.writes_left < 0) {
        spill_io_default.write(context, state, fd, batch, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        disk_write_one(context, state, fd, &batch[i]);
}

static ssize_t disk_read(void *context, int fd, void *buffer, size_t size, uint64_t offset)
{
    disk.reads++;
    disk.read_at = offset;
    disk.read_bytes = size;
    if (disk.read_error)
        return disk.read_error;
    if (disk.short_io && disk.tick++ % 3 == 0)
        return -EINTR;
    if (disk.short_io && size > 4096)
        size = (size / 2 + 4095) & ~(size_t)4095;
    ssize_t got = spill_io_default.read(context, fd, buffer, size, offset);
    if (disk.flip_bit >= 0 && disk.flip_bit / 8 < got)
        ((char *)buffer)[disk.flip_bit / 8] ^= (char)(1 << disk.flip_bit % 8);
    return disk.short_io && got > 4096 ? got - 100 : got;
}

static int disk_allocate(void *context, int fd, uint64_t offset, uint64_t size)
{
    if (disk.allocations_left == 0)
        return -ENOSPC;
    if (disk.allocations_left > 0)
        disk.allocations_left--;
    if (offset + size > disk.allocated)
        disk.allocated = offset + size;
    return spill_io_default.allocate(context, fd, offset, size);
}

static int disk_punch(void *context, int fd, uint64_t offset, uint64_t size)
{
    disk.punched += size;
    return spill_io_default.punch(context, fd, offset, size);
}

static const struct spill_io *faulty(void)
{
    static struct spill_io io;
    io = spill_io_default;
    io.start = disk_start;
    io.write = disk_write;
    io.read = disk_read;
    io.allocate = disk_allocate;
    io.punch = disk_punch;
    return &io;
}

static struct tier *make_spill(uint64_t max_bytes, size_t page_size)
{
    struct tier *tier = NULL;
    struct spill_config config = {
        .directory = directory, .max_bytes = max_bytes, .page_size = page_size, .io = faulty()};
    cr_assert_eq(spill_new(&tier, &config), 0);
    return tier;
}

static void make_model(struct model *model, uint64_t max_bytes, size_t pages)
{
    model_init(model, make_spill(max_bytes, PAGE), pages, PAGE, spill_scratch_size(PAGE), SPILL_SEGMENT_RECORDS);
}

static void end_model(struct model *model)
{
    spill_free(model->tier);
    model_fini(model);
}

static int file_of(const struct model *model)
{
    int fds[2];
    cr_assert_geq(spill_descriptors(model->tier, fds), 1);
    return fds[0];
}

TestSuite(spill, .init = disk_reset, .timeout = 60);

/* ---- opening ---- */

Test(spill, file_is_nameless_private_and_high)
{
    struct model model;
    char path[64], target[512] = {0};
    struct stat stat;
    make_model(&model, ROOM(4), 10);
    int fd = file_of(&model);
    cr_assert_eq(fstat(fd, &stat), 0);
    cr_assert_eq(stat.st_nlink, 0);
    cr_assert_eq(stat.st_mode & 0777, 0600);
    cr_assert_geq(fd, 100);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    cr_assert_gt(readlink(path, target, sizeof(target) - 1), 0);
    cr_assert(strstr(target, "(deleted)"));
    end_model(&model);
    cr_assert_lt(fcntl(fd, F_GETFD), 0, "closed with the spill");
}

Test(spill, bad_directories_are_told_apart)
{
    struct tier *tier = NULL;
    char why[256];
    struct spill_config config = {.directory = "/dev/shm", .page_size = PAGE};
    cr_assert_eq(spill_new(&tier, &config), -ENODEV);
    cr_assert_eq(spill_check_directory("/dev/shm", why, sizeof(why)), -ENODEV);
    cr_assert(strstr(why, "memory"));
    config.directory = "/nonexistent/directory";
    cr_assert_eq(spill_new(&tier, &config), -ENOENT);
    cr_assert_eq(spill_check_directory(config.directory, why, sizeof(why)), -ENOENT);
    cr_assert(strstr(why, "does not exist"));
    cr_assert_eq(spill_check_directory("/etc/passwd", why, sizeof(why)), -ENOTDIR);
    cr_assert_eq(spill_check_directory(directory, why, sizeof(why)), 0);
    config.directory = NULL;
    config.fd = memfd_create("memory", 0);
    cr_assert_eq(spill_new(&tier, &config), -ENODEV, "a file in memory by descriptor");
    config = (struct spill_config){.directory = directory, .page_size = 4097};
    cr_assert_eq(spill_new(&tier, &config), -EINVAL);
    config = (struct spill_config){.directory = directory, .page_size = PAGE, .max_bytes = SEGMENT};
    cr_assert_eq(spill_new(&tier, &config), -EINVAL);
    spill_free(NULL);
}

Test(spill, a_descriptor_will_do)
{
    char name[] = "/var/tmp/test_spill_XXXXXX";
    struct tier *tier = NULL;
    struct spill_config config = {.fd = mkstemp(name), .page_size = PAGE};
    unlink(name);
    cr_assert_eq(spill_new(&tier, &config), 0);
    struct model model;
    model_init(&model, tier, 100, PAGE, spill_scratch_size(PAGE), SPILL_SEGMENT_RECORDS);
    cr_assert_eq(model_store(&model, 64), 64);
    model_verify_all(&model);
    end_model(&model);
}

/* ---- the model ---- */

Test(spill, keeps_records_of_every_size_at_every_page_size)
{
    static const size_t sizes[] = {4096, 16384, 65536};
    for (int s = 0; s < 3; s++) {
        struct model model;
        model_init(&model, make_spill(64 << 20, sizes[s]), 300, sizes[s], spill_scratch_size(sizes[s]),
                   SPILL_SEGMENT_RECORDS);
        for (int i = 0; i < 8; i++)
            cr_assert_eq(model_store(&model, 64), 64);
        model_verify_all(&model);
        struct tier_stats stats = model_stats(&model);
        cr_assert_eq(stats.records, model_records(&model));
        cr_assert_eq(stats.stores, 8 * 64);
        cr_assert_geq(stats.bytes, model.live_bytes);
        end_model(&model);
    }
}

/* 100,000 stores into 16 MiB at two thirds live; short reads and writes for a part of it. */
Test(spill, random_overwriting_with_cleaning_stays_within_its_size)
{
    uint64_t max = ROOM(16);
    struct model model;
    make_model(&model, max, 5400);
    for (int step = 0; step < 2000; step++) {
        disk.short_io = step % 100 == 99;
        model_store_cleaning(&model, 50);
        for (int i = 0; i < 5; i++)
            model_verify(&model, 1 + model_random(&model.random) % model.count);
        if (step % 1000 == 999)
            model_verify_all(&model);
    }
    model_verify_all(&model);
    struct tier_stats stats = model_stats(&model);
    cr_assert_gt(stats.bytes, max / 2, "the test is to be a tight one: %llu", (unsigned long long)stats.bytes);
    cr_assert_leq(stats.held_bytes, max);
    cr_assert_leq(disk.allocated, max);
    cr_assert_eq(stats.errors, 0);
    cr_assert_eq(stats.records, model_records(&model));
    end_model(&model);
}

Test(spill, short_reads_and_writes_are_made_whole)
{
    struct model model;
    make_model(&model, ROOM(32), 2000);
    disk.short_io = true;
    for (int i = 0; i < 20; i++)
        cr_assert_eq(model_store(&model, 64), 64);
    model_verify_all(&model);
    cr_assert_gt(model_clean(&model, PICK_OLDEST, 100, false), 0);
    model_verify_all(&model);
    cr_assert_eq(model_stats(&model).errors, 0);
    end_model(&model);
}

/* Stores 32 full pages numbered from `first`. */
static void store_block(struct model *model, uint64_t first, tier_handle *handles)
{
    static char bytes[PAGE];
    struct record run[32];
    for (uint64_t i = 0; i < 32; i++)
        run[i] = (struct record){.page = first + i, .bytes = bytes, .size = PAGE, .codec = 1};
    cr_assert_eq(model->tier->ops->store(model->tier, run, 32, handles), 32);
}

static void check_loads(struct model *model, uint64_t page, tier_handle handle)
{
    struct record got;
    cr_assert_eq(model->tier->ops->load(model->tier, page, handle, model->scratch, &got), 0);
}

/* Long runs, several writes in flight: with a ring, without one, and with one that the program has closed. */
Test(spill, writes_without_io_uring_too)
{
    for (int mode = 0; mode < 3; mode++) {
        static tier_handle handles[512];
        int fds[2];
        struct model model;
        disk.no_ring = mode == 1;
        make_model(&model, ROOM(16), 1);
        size_t descriptors = spill_descriptors(model.tier, fds);
        if (mode == 1)
            cr_assert_eq(descriptors, 1);
        if (mode == 2 && descriptors == 2)
            close(fds[1]);
        static char bytes[512][PAGE];
        static struct record run[512];
        for (uint64_t i = 0; i < 512; i++) {
            model_content(i, 1, bytes[i], PAGE);
            run[i] = (struct record){.page = i, .bytes = bytes[i], .size = PAGE, .codec = 1};
        }
        cr_assert_eq(model.tier->ops->store(model.tier, run, 512, handles), 512);
        for (uint64_t i = 0; i < 512; i++) {
            struct record got;
            cr_assert_eq(model.tier->ops->load(model.tier, i, handles[i], model.scratch, &got), 0);
            cr_assert_eq(memcmp(got.bytes, bytes[i], PAGE), 0);
        }
        end_model(&model);
    }
}

Test(spill, freed_space_is_punched_and_taken_again)
{
    enum { PAGES = 40000, KEPT = 1024 };
    static tier_handle handles[PAGES];
    struct model model;
    struct stat stat;
    make_model(&model, ROOM(512), 1);
    for (uint64_t i = 0; i < PAGES; i += 32)
        store_block(&model, i, handles + i);
    cr_assert_gt(model_stats(&model).held_bytes, ROOM(160));
    for (uint64_t i = KEPT; i < PAGES; i++)
        model.tier->ops->release(model.tier, handles[i]);
    for (int i = 0; i < 20; i++)
        model.tier->ops->trim(model.tier);
    cr_assert_gt(disk.punched, ROOM(64));
    cr_assert_leq(model_stats(&model).held_bytes, ROOM(64) + ROOM(8));
    cr_assert_eq(fstat(file_of(&model), &stat), 0);
    cr_assert_lt((uint64_t)stat.st_blocks * 512, ROOM(100), "the disk has it back");
    for (uint64_t i = KEPT; i < PAGES; i += 32)
        store_block(&model, i, handles + i);
    for (uint64_t i = 0; i < PAGES; i += i < KEPT ? 1 : 17)
        check_loads(&model, i, handles[i]);
    end_model(&model);
}

/* ---- a failing disk ---- */

/* At every index a write fails: a prefix is stored, all before lives, the device recovers and so does the spill. */
static void fail_every_write(int error)
{
    for (long index = 0; index < 12; index++) {
        struct model model;
        disk_reset();
        make_model(&model, ROOM(32), 3000);
        cr_assert_eq(model_store(&model, 64), 64);
        disk.writes_left = index;
        disk.write_error = error;
        disk.write_past_half = index % 2;
        int stored = 0, failures = 0;
        for (int i = 0; i < 20; i++) {
            stored = model_store(&model, 64);
            cr_assert(stored > 0 || stored == error);
            failures += stored != 64;
        }
        cr_assert_gt(failures, 0);
        cr_assert_eq(stored, error);
        model_verify_all(&model);
        cr_assert_eq(model_stats(&model).records, model_records(&model));
        cr_assert_gt(model_stats(&model).errors, 0);
        disk.writes_left = -1;
        for (int i = 0; i < 5; i++)
            cr_assert_eq(model_store(&model, 64), 64);
        model_verify_all(&model);
        for (int i = 0; i < 5; i++)
            cr_assert_geq(model_clean(&model, PICK_OLDEST, 100, false), 0);
        model_verify_all(&model);
        end_model(&model);
    }
}

Test(spill, enospc_at_every_write)
{
    fail_every_write(-ENOSPC);
}
Test(spill, eio_at_every_write)
{
    fail_every_write(-EIO);
}

/* A long run is several writes in flight: what follows the one that failed left no trace. */
Test(spill, a_failed_write_in_a_batch_stores_the_prefix_before_it)
{
    static char bytes[PAGE];
    static struct record run[400];
    static tier_handle handles[400];
    for (long index = 0; index < 4; index++) {
        struct model model;
        disk_reset();
        make_model(&model, ROOM(32), 10);
        for (size_t i = 0; i < 400; i++)
            run[i] = (struct record){.page = i + 1, .bytes = bytes, .size = PAGE, .codec = 1};
        disk.writes_left = index;
        disk.write_error = -EIO;
        int stored = model.tier->ops->store(model.tier, run, 400, handles);
        if (index == 0)
            cr_assert_eq(stored, -EIO);
        else
            cr_assert(stored > 0 && stored < 400);
        cr_assert_eq(model_stats(&model).records, (uint64_t)(stored > 0 ? stored : 0));
        disk.writes_left = -1;
        struct record got;
        for (int i = 0; i < stored; i++) {
            cr_assert_eq(model.tier->ops->load(model.tier, (uint64_t)i + 1, handles[i], model.scratch, &got), 0);
            model.tier->ops->release(model.tier, handles[i]);
        }
        for (int round = 0; round < 20; round++) { /* no segment was lost: 20 x 1.6 MiB through 32 MiB */
            cr_assert_eq(model.tier->ops->store(model.tier, run, 400, handles), 400);
            for (int i = 0; i < 400; i++)
                model.tier->ops->release(model.tier, handles[i]);
        }
        end_model(&model);
    }
}

Test(spill, a_full_disk_leaves_what_was_allocated_usable)
{
    struct model model;
    make_model(&model, 1u << 30, 60000);
    disk.allocations_left = 1; /* 64 MiB */
    int stored;
    while ((stored = model_store(&model, 64)) > 0)
        ;
    cr_assert_eq(stored, -ENOSPC);
    cr_assert_gt(model_stats(&model).bytes, 32 << 20);
    for (int i = 0; i < 20; i++)
        model_store_cleaning(&model, 8);
    for (uint64_t page = 1; page <= model.count; page += 9)
        model_verify(&model, page);
    end_model(&model);
}

Test(spill, a_failing_read_is_an_error_and_only_that)
{
    struct model model;
    struct record got;
    make_model(&model, ROOM(8), 200);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(model_store(&model, 40), 40);
    uint64_t page = 1;
    while (!model.pages[page].handle)
        page++;
    disk.read_error = -EIO;
    cr_assert_eq(model.tier->ops->load(model.tier, page, model.pages[page].handle, model.scratch, &got), -EIO);
    cr_assert_eq(model_clean(&model, PICK_OLDEST, 100, false), -EIO);
    cr_assert_eq(model_stats(&model).errors, 2);
    disk.read_error = 0;
    model_verify_all(&model);
    end_model(&model);
}

/* ---- who reads or changes the file ---- */

static void flip_in_file(int fd, uint64_t byte, int bit)
{
    static _Alignas(4096) unsigned char block[4096];
    uint64_t start = byte & ~(uint64_t)4095;
    cr_assert_eq(pread(fd, block, 4096, (off_t)start), 4096);
    block[byte - start] ^= (unsigned char)(1 << bit);
    cr_assert_eq(pwrite(fd, block, 4096, (off_t)start), 4096);
}

Test(spill, a_flipped_bit_anywhere_is_found)
{
    struct model model;
    struct record got;
    make_model(&model, ROOM(8), 20);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(model_store(&model, 5), 5);
    uint64_t page = 1;
    while (!model.pages[page].handle || model_size(&model, page, model.pages[page].version) > 1200)
        cr_assert_leq(++page, model.count);
    tier_handle handle = model.pages[page].handle;
    uint64_t position = (handle >> 11) * 64, length = (handle & 2047) * 64;
    for (uint64_t bit = 0; bit < length * 8; bit++) {
        disk.flip_bit = (long)((position & 4095) * 8 + bit);
        cr_assert_eq(model.tier->ops->load(model.tier, page, handle, model.scratch, &got), -EBADMSG, "bit %llu",
                     (unsigned long long)bit);
    }
    disk.flip_bit = -1;
    model_verify(&model, page);
    flip_in_file(file_of(&model), position + length / 2, 3);
    cr_assert_eq(model.tier->ops->load(model.tier, page, handle, model.scratch, &got), -EBADMSG);
    model.pages[page].handle = 0;
    model_verify_all(&model); /* and its neighbours live */
    end_model(&model);
}

Test(spill, moved_or_replayed_blocks_are_found)
{
    struct model model;
    static char first[PAGE], second[PAGE];
    static _Alignas(4096) char old[8192];
    memset(first, 1, PAGE);
    memset(second, 2, PAGE);
    make_model(&model, 2 * SEGMENT, 10);
    int fd = file_of(&model);
    struct tier *tier = model.tier;
    struct record run[2] = {{.page = 1, .bytes = first, .size = PAGE - 512, .codec = 1},
                            {.page = 1, .bytes = second, .size = PAGE - 512, .codec = 1}};
    struct record got;
    tier_handle handles[2], filler;
    cr_assert_eq(tier->ops->store(tier, run, 1, &handles[0]), 1);
    cr_assert_eq(tier->ops->store(tier, run + 1, 1, &handles[1]), 1);
    uint64_t at[2] = {(handles[0] >> 11) * 64 & ~UINT64_C(4095), (handles[1] >> 11) * 64 & ~UINT64_C(4095)};
    cr_assert_eq(pread(fd, old, 8192, (off_t)at[0]), 8192);
    cr_assert_eq(pwrite(fd, old, 8192, (off_t)at[1]), 8192);
    cr_assert_eq(tier->ops->load(tier, 1, handles[1], model.scratch, &got), -EBADMSG, "moved");
    tier->ops->release(tier, handles[0]);
    tier->ops->release(tier, handles[1]);
    for (int i = 0; i < 1000; i++) { /* until the same place is written again for the same page */
        cr_assert_eq(tier->ops->store(tier, run + 1, 1, &filler), 1);
        if (filler == handles[0])
            break;
        tier->ops->release(tier, filler);
    }
    cr_assert_eq(filler, handles[0], "the test is to come by the same place again");
    cr_assert_eq(tier->ops->load(tier, 1, filler, model.scratch, &got), 0);
    cr_assert_eq(pwrite(fd, old, 8192, (off_t)at[0]), 8192);
    cr_assert_eq(tier->ops->load(tier, 1, filler, model.scratch, &got), -EBADMSG, "replayed");
    end_model(&model);
}

Test(spill, wrong_pages_and_handles_are_refused)
{
    struct model model;
    struct record got;
    make_model(&model, ROOM(8), 20);
    cr_assert_eq(model_store(&model, 10), 10);
    uint64_t page = 1;
    while (!model.pages[page].handle)
        page++;
    tier_handle handle = model.pages[page].handle;
    tier_handle bad[] = {0,
                         handle + 1,
                         handle - 1,
                         handle + (1 << 11),
                         UINT64_MAX,
                         handle | UINT64_C(1) << 50,
                         (UINT64_C(1) << 47) | 1,
                         handle | 2047};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        cr_assert_lt(model.tier->ops->load(model.tier, page, bad[i], model.scratch, &got), 0, "handle %zu", i);
    cr_assert_eq(model.tier->ops->load(model.tier, page + 1, handle, model.scratch, &got), -EBADMSG);
    model_verify_all(&model);
    end_model(&model);
}

Test(spill, plaintext_never_reaches_the_file)
{
    struct model model;
    static const char secret[] = "the quick brown fox jumps over the lazy dog 0123456789";
    static char bytes[PAGE];
    static _Alignas(4096) char block[SEGMENT];
    make_model(&model, ROOM(8), 20);
    for (size_t at = 0; at + sizeof(secret) < PAGE; at += sizeof(secret))
        memcpy(bytes + at, secret, sizeof(secret));
    struct record run[40];
    tier_handle handles[40];
    for (uint64_t i = 0; i < 40; i++)
        run[i] = (struct record){.page = 0x70616765000000 + i, .bytes = bytes, .size = PAGE, .codec = 1};
    cr_assert_eq(model.tier->ops->store(model.tier, run, 40, handles), 40);
    ssize_t got;
    size_t total = 0;
    for (off_t at = 0; (got = pread(file_of(&model), block, SEGMENT, at)) > 0 && at < (1 << 20); at += got) {
        total += (size_t)got;
        cr_assert_null(memmem(block, (size_t)got, secret, 8));
        cr_assert_null(memmem(block, (size_t)got, "\0egap", 5), "page numbers are plain");
    }
    cr_assert_gt(total, 40 * PAGE);
    end_model(&model);
}

/* The same content twice looks different: no nonce twice. */
Test(spill, equal_pages_are_not_equal_in_the_file)
{
    struct model model;
    static char bytes[PAGE];
    static _Alignas(4096) char block[8192], other[8192];
    make_model(&model, ROOM(8), 20);
    struct record record = {.page = 3, .bytes = bytes, .size = PAGE, .codec = 1};
    tier_handle handles[2];
    cr_assert_eq(model.tier->ops->store(model.tier, &record, 1, &handles[0]), 1);
    cr_assert_eq(model.tier->ops->store(model.tier, &record, 1, &handles[1]), 1);
    pread(file_of(&model), block, 8192, (off_t)((handles[0] >> 11) * 64 & ~UINT64_C(4095)));
    pread(file_of(&model), other, 8192, (off_t)((handles[1] >> 11) * 64 & ~UINT64_C(4095)));
    for (size_t at = 512; at < 4096; at += 64)
        cr_assert_neq(memcmp(block + at, other + at, 64), 0);
    end_model(&model);
}

/* Damage in a picked segment: what opens is offered, the rest is not, and picking goes on elsewhere. */
Test(spill, cleaning_survives_damage)
{
    struct model model;
    make_model(&model, ROOM(16), 1500);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(model_store(&model, 64), 64);
    tier_handle any = 0;
    for (uint64_t page = 1; page <= model.count && !any; page++)
        any = model.pages[page].handle;
    uint64_t segment = (any >> 11) * 64 / SEGMENT * SEGMENT;
    for (uint64_t page = 1; page <= model.count; page++) /* its first slot goes, the test forgets whose that is */
        if (model.pages[page].handle && (model.pages[page].handle >> 11) * 64 == segment + 512)
            model.pages[page].handle = 0;
    flip_in_file(file_of(&model), segment + 512, 0);
    for (int i = 0; i < 40; i++)
        cr_assert_geq(model_clean(&model, PICK_OLDEST, 100, false), 0);
    model_verify_all(&model);
    for (uint64_t at = 0; at < (16 << 20); at += SEGMENT)
        flip_in_file(file_of(&model), at + 100, 0); /* every first summary */
    int picks = 0, offered;
    while ((offered = model_clean(&model, PICK_OLDEST, 100, false)) != 0) {
        cr_assert(offered > 0 || offered == -EBADMSG);
        if (offered > 0)
            for (int i = 0; i < offered; i++)
                model_drop(&model, model.items[i].record.page);
        cr_assert_lt(++picks, 200, "the same damaged segment again and again");
    }
    model_verify_all(&model);
    end_model(&model);
}

/* A damaged slot keeps its segment taken, but cleaning does not come back to it for ever. */
Test(spill, cleaning_ends_although_a_slot_is_damaged)
{
    struct model model;
    make_model(&model, ROOM(16), 1500);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(model_store(&model, 64), 64);
    for (uint64_t at = 0; at < 1 << 20; at += SEGMENT)
        flip_in_file(file_of(&model), at + 512, 0);
    int picks = 0;
    while (model_clean(&model, PICK_EMPTIEST, 100, true) != 0)
        cr_assert_lt(++picks, 100, "the same damaged segment again and again");
    end_model(&model);
}

/* ---- raw pages ---- */

/* What fits into a segment behind its summary. */
#define RAW_PER_SEGMENT ((SEGMENT - 4096) / PAGE)

static uint64_t position_of(tier_handle handle)
{
    return (handle >> 11) * 64;
}

/* Pages first to first + n - 1, at version 1, by one call. */
static void store_raw(struct model *model, uint64_t first, size_t n, tier_handle *handles)
{
    char *bytes = malloc(n * PAGE);
    struct record *run = calloc(n, sizeof(*run));
    model->raw = true;
    for (size_t i = 0; i < n; i++)
        run[i] = model_record(model, first + i, 1, bytes + i * PAGE);
    int stored = model->tier->ops->store(model->tier, run, n, handles);
    cr_assert_eq(stored, (int)n, "%d", stored);
    free(run);
    free(bytes);
}

static int load_raw(struct model *model, uint64_t page, tier_handle handle)
{
    struct record got;
    int error = model->tier->ops->load(model->tier, page, handle, model->scratch, &got);
    if (!error)
        cr_assert(model_matches(model, page, 1, &got), "page %llu has wrong bytes", (unsigned long long)page);
    return error;
}

Test(spill, a_raw_page_is_read_in_whole_blocks_of_its_own)
{
    enum { N = 2 * RAW_PER_SEGMENT };
    static tier_handle handles[N];
    struct model model;
    make_model(&model, ROOM(8), 1);
    store_raw(&model, 1, N, handles);
    cr_assert_eq(disk.writes, 2, "one write a segment");
    cr_assert_eq(disk.write_bytes, (uint64_t)N * PAGE + 2 * 4096, "the pages and one block a segment");
    for (uint64_t i = 0; i < N; i++) {
        disk.reads = 0;
        cr_assert_eq(load_raw(&model, i + 1, handles[i]), 0);
        cr_assert_eq(disk.reads, 1);
        cr_assert_eq(disk.read_bytes, PAGE);
        cr_assert_eq(disk.read_at, position_of(handles[i]));
        cr_assert_eq(disk.read_at % 4096, 0);
    }
    struct tier_stats stats = model_stats(&model);
    cr_assert_eq(stats.bytes, (uint64_t)N * PAGE);
    cr_assert_eq(stats.bytes_read, (uint64_t)N * PAGE);
    cr_assert_eq(stats.bytes_written, disk.write_bytes);
    end_model(&model);
}

Test(spill, neighbouring_raw_pages_come_by_one_read)
{
    enum { N = 8 };
    struct model model;
    tier_handle handles[N];
    struct tier_item wanted[N];
    struct record got[N];
    make_model(&model, ROOM(8), 1);
    store_raw(&model, 1, N, handles);
    for (uint64_t i = 0; i < N; i++)
        wanted[i] = (struct tier_item){.record.page = i + 1, .handle = handles[i]};
    char *scratch = aligned_alloc(4096, N * PAGE);
    cr_assert_eq(model.tier->ops->load_run(model.tier, wanted, N, scratch, N * PAGE, got), N);
    cr_assert_eq(disk.reads, 1);
    cr_assert_eq(disk.read_bytes, N * PAGE);
    for (uint64_t i = 0; i < N; i++)
        cr_assert(model_matches(&model, i + 1, 1, &got[i]));
    cr_assert_eq(model.tier->ops->load_run(model.tier, wanted, N, scratch, 3 * PAGE, got), 3, "as many as fit");
    wanted[2].record.page = 77;
    cr_assert_eq(model.tier->ops->load_run(model.tier, wanted, N, scratch, N * PAGE, got), 2, "up to a wrong one");
    free(scratch);
    end_model(&model);
}

Test(spill, a_flipped_bit_anywhere_in_a_raw_page_is_found)
{
    struct model model;
    tier_handle handles[3];
    make_model(&model, ROOM(8), 1);
    store_raw(&model, 1, 3, handles);
    for (long bit = 0; bit < PAGE * 8; bit += 2 * (PAGE / 4096) - 1) { /* every one of a small page */
        disk.flip_bit = bit;
        cr_assert_eq(load_raw(&model, 2, handles[1]), -EBADMSG, "bit %ld", bit);
    }
    disk.flip_bit = -1;
    for (uint64_t i = 0; i < 3; i++)
        cr_assert_eq(load_raw(&model, i + 1, handles[i]), 0);
    end_model(&model);
}

static void read_raw(const struct model *model, tier_handle handle, void *block)
{
    cr_assert_eq(pread(file_of(model), block, PAGE, (off_t)position_of(handle)), PAGE);
}

static void write_raw(const struct model *model, tier_handle handle, const void *block)
{
    cr_assert_eq(pwrite(file_of(model), block, PAGE, (off_t)position_of(handle)), PAGE);
}

Test(spill, exchanged_raw_pages_are_found)
{
    enum { N = RAW_PER_SEGMENT + 1 };
    static _Alignas(4096) char blocks[2][PAGE];
    static tier_handle handles[N];
    struct model model;
    make_model(&model, ROOM(8), 1);
    store_raw(&model, 1, N, handles);
    cr_assert_eq(position_of(handles[0]) % SEGMENT, position_of(handles[N - 1]) % SEGMENT, "the same place elsewhere");
    for (int other = 1; other < N; other += N - 2) { /* the neighbour, and that one */
        read_raw(&model, handles[0], blocks[0]);
        read_raw(&model, handles[other], blocks[1]);
        write_raw(&model, handles[0], blocks[1]);
        write_raw(&model, handles[other], blocks[0]);
        cr_assert_eq(load_raw(&model, 1, handles[0]), -EBADMSG);
        cr_assert_eq(load_raw(&model, (uint64_t)other + 1, handles[other]), -EBADMSG);
        write_raw(&model, handles[0], blocks[0]);
        write_raw(&model, handles[other], blocks[1]);
    }
    for (uint64_t i = 0; i < N; i++)
        cr_assert_eq(load_raw(&model, i + 1, handles[i]), 0);
    end_model(&model);
}

/* The same page with the same content at the same place, once more: what was there before is not it, nor are halves. */
Test(spill, stale_and_torn_raw_pages_are_found)
{
    static _Alignas(4096) char old[PAGE], now[PAGE];
    struct model model;
    tier_handle handle, again;
    make_model(&model, 2 * SEGMENT, 1);
    store_raw(&model, 1, 1, &handle);
    read_raw(&model, handle, old);
    model.tier->ops->release(model.tier, handle);
    int tries = 0;
    for (store_raw(&model, 1, 1, &again); again != handle; store_raw(&model, 1, 1, &again)) {
        model.tier->ops->release(model.tier, again);
        cr_assert_lt(++tries, 1000, "the test is to come by the same place again");
    }
    read_raw(&model, again, now);
    cr_assert_eq(load_raw(&model, 1, again), 0);
    for (size_t at = 0; at < PAGE; at += 64)
        cr_assert_neq(memcmp(old + at, now + at, 64), 0, "no nonce twice");
    write_raw(&model, again, old);
    cr_assert_eq(load_raw(&model, 1, again), -EBADMSG, "stale");
    memcpy(old, now, PAGE / 2);
    write_raw(&model, again, old);
    cr_assert_eq(load_raw(&model, 1, again), -EBADMSG, "torn");
    write_raw(&model, again, now);
    cr_assert_eq(load_raw(&model, 1, again), 0);
    end_model(&model);
}

Test(spill, a_raw_page_is_bound_to_its_number_and_place)
{
    struct model model;
    struct record got;
    tier_handle handles[2];
    make_model(&model, ROOM(8), 1);
    store_raw(&model, 1, 2, handles);
    const struct tier_ops *ops = model.tier->ops;
    cr_assert_eq(load_raw(&model, 2, handles[0]), -EBADMSG);
    cr_assert_eq(load_raw(&model, 1, handles[1]), -EBADMSG);
    cr_assert_eq(ops->load(model.tier, TIER_ANY_PAGE, handles[1], model.scratch, &got), 0);
    cr_assert(model_matches(&model, 2, 1, &got), "and says which it was");
    tier_handle block = 64 << 11, unit = 1 << 11;
    tier_handle wrong[] = {handles[0] - block,     handles[1] + block, handles[0] + unit,
                           handles[0] + 32 * unit, handles[0] + 1,     handles[0] + SEGMENT / 64 * unit,
                           handles[0] - 1};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        cr_assert_eq(ops->load(model.tier, 1, wrong[i], model.scratch, &got), -EBADMSG, "handle %zu", i);
    struct record record = {.page = UINT64_C(1) << 56, .bytes = model.scratch, .size = PAGE, .codec = 1};
    cr_assert_eq(ops->store(model.tier, &record, 1, handles), -EINVAL, "a number that could not be kept");
    end_model(&model);
}

/* Sizes of which a slot would be as long as a page, or nearly, are no raw pages. */
Test(spill, records_almost_as_large_as_a_page_are_kept)
{
    static char bytes[PAGE];
    struct model model;
    struct record got;
    make_model(&model, ROOM(8), 1);
    model_content(1, 1, bytes, PAGE);
    for (uint32_t size = PAGE - 140; size <= PAGE; size++) {
        struct record record = {.page = size, .bytes = bytes, .size = size, .codec = 2};
        tier_handle handle;
        cr_assert_eq(model.tier->ops->store(model.tier, &record, 1, &handle), 1);
        cr_assert_eq(model.tier->ops->load(model.tier, size, handle, model.scratch, &got), 0);
        cr_assert(got.page == size && got.size == size && got.codec == 2 && memcmp(got.bytes, bytes, size) == 0);
    }
    end_model(&model);
}

/* Runs of raw and compressed records, turn by turn and at random: each is found, also by cleaning. */
Test(spill, raw_and_compressed_records_share_runs_and_segments)
{
    enum { N = 200 };
    static char bytes[N][PAGE];
    static struct record run[N];
    static tier_handle handles[N];
    struct model model;
    struct record got;
    make_model(&model, ROOM(8), 1);
    for (unsigned pattern = 0; pattern < 16; pattern++) {
        for (uint64_t i = 0; i < N; i++) {
            bool raw = pattern < 2 ? i % 2 == pattern : model_random(&model.random) % 16 < pattern;
            uint32_t size = raw ? PAGE : 1 + (uint32_t)model_random(&model.random) % (PAGE * 7 / 8);
            run[i] = (struct record){.page = 1000 + i, .bytes = bytes[i], .size = size, .codec = (uint8_t)(1 + i % 3)};
            model_content(i, pattern, bytes[i], size);
        }
        cr_assert_eq(model.tier->ops->store(model.tier, run, N, handles), N);
        for (int i = 0; i < N; i++) {
            uint64_t position = position_of(handles[i]), length = (handles[i] & 2047) * 64;
            cr_assert_eq(model.tier->ops->load(model.tier, run[i].page, handles[i], model.scratch, &got), 0);
            cr_assert(got.size == run[i].size && got.codec == run[i].codec);
            cr_assert_eq(memcmp(got.bytes, bytes[i], got.size), 0);
            if (run[i].size == PAGE)
                cr_assert(position % 4096 == 0 && length == PAGE);
            for (int j = 0; j < i; j++) /* and none lies over another */
                cr_assert(position_of(handles[j]) >= position + length ||
                          position >= position_of(handles[j]) + (handles[j] & 2047) * 64);
        }
        for (int i = 0; i < N; i++)
            model.tier->ops->release(model.tier, handles[i]);
    }
    cr_assert_eq(model_stats(&model).errors, 0);
    end_model(&model);
}

/* Two segments, the first as full as it gets of raw pages and some slots: it moves into the other, whole. */
Test(spill, cleaning_moves_a_full_segment_of_raw_pages)
{
    enum { RAW = RAW_PER_SEGMENT - 1, SLOTS = 8, N = RAW + SLOTS };
    static char bytes[N][PAGE];
    static struct record run[N];
    static tier_handle handles[N], moved[N];
    struct model model;
    struct record got;
    make_model(&model, 2 * SEGMENT, 1);
    const struct tier_ops *ops = model.tier->ops;
    for (uint64_t i = 0; i < N; i++) {
        bool raw = i % 2 == 0 || i / 2 >= SLOTS;
        run[i] = (struct record){.page = 1 + i, .bytes = bytes[i], .size = raw ? PAGE : PAGE / 10, .codec = 1};
        model_content(i, 1, bytes[i], run[i].size);
    }
    cr_assert_eq(ops->store(model.tier, run, N, handles), N);
    cr_assert_eq(disk.writes, 1, "all of it is in one segment");
    struct record last = {.page = 999, .bytes = bytes[0], .size = PAGE, .codec = 1};
    tier_handle filler;
    cr_assert_eq(ops->store(model.tier, &last, 1, &filler), -ENOSPC, "one segment is kept back");
    cr_assert_eq(ops->pick(model.tier, PICK_EMPTIEST, 101, model.items, model.max_items), N);
    static struct record moving[N];
    for (int i = 0; i < N; i++) {
        uint64_t at = model.items[i].record.page - 1;
        cr_assert_eq(model.items[i].handle, handles[at]);
        cr_assert_eq(model.items[i].record.size, run[at].size);
        cr_assert_eq(memcmp(model.items[i].record.bytes, bytes[at], run[at].size), 0);
        moving[i] = model.items[i].record;
    }
    cr_assert_eq(ops->store(model.tier, moving, N, moved), N);
    uint64_t order[N];
    for (int i = 0; i < N; i++) {
        order[i] = model.items[i].record.page;
        ops->release(model.tier, model.items[i].handle);
    }
    ops->pick_done(model.tier);
    for (int i = 0; i < N; i++) {
        cr_assert_eq(ops->load(model.tier, order[i], moved[i], model.scratch, &got), 0);
        cr_assert_eq(memcmp(got.bytes, bytes[order[i] - 1], got.size), 0);
    }
    end_model(&model);
}

/* One that is damaged is left out, and the others of its segment are offered. */
Test(spill, cleaning_leaves_out_a_damaged_raw_page)
{
    enum { N = RAW_PER_SEGMENT };
    static tier_handle handles[N + 1];
    struct model model;
    make_model(&model, ROOM(8), 1);
    store_raw(&model, 1, N, handles);
    store_raw(&model, N + 1, 1, handles + N); /* closes that segment */
    flip_in_file(file_of(&model), position_of(handles[3]) + 7, 7);
    int n = model.tier->ops->pick(model.tier, PICK_OLDEST, 100, model.items, model.max_items);
    cr_assert_eq(n, N - 1);
    for (int i = 0; i < n; i++) {
        cr_assert_neq(model.items[i].record.page, 4);
        cr_assert(model_matches(&model, model.items[i].record.page, 1, &model.items[i].record));
    }
    model.tier->ops->pick_done(model.tier);
    cr_assert_eq(load_raw(&model, 4, handles[3]), -EBADMSG);
    end_model(&model);
}

Test(spill, overwriting_raw_pages_with_cleaning_loses_none)
{
    struct model model;
    make_model(&model, ROOM(8), 1300);
    model.raw = true;
    for (int step = 0; step < 400; step++) {
        disk.short_io = step % 100 == 99;
        model_store_cleaning(&model, 50);
    }
    model_verify_all(&model);
    cr_assert_eq(model_stats(&model).errors, 0);
    end_model(&model);
}

/* Private memory; what libraries map comes and goes. */
static uint64_t resident(void)
{
    unsigned long long kilobytes = 0;
    char line[256];
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof(line), file) && sscanf(line, "Anonymous: %llu", &kilobytes) != 1)
        ;
    if (file)
        fclose(file);
    return kilobytes * 1024;
}

/* 24 bytes for each page that the file has room for, however often that is used; given back by trim. */
Test(spill, memory_for_raw_pages_follows_the_file)
{
    enum { N = 20480 };
    static tier_handle handles[N];
    struct model model;
    tier_handle kept;
    make_model(&model, ROOM(512), 1);
    memset(handles, 1, sizeof(handles));
    store_raw(&model, 1, 1, &kept); /* so that nothing else is used for the first time */
    uint64_t before = resident(), full = 0, headers = 0;
    for (int round = 0; round < 6; round++) {
        for (size_t i = 0; i < N; i += 32)
            store_block(&model, 1 + i, handles + i);
        full = resident() - before;
        headers = 24 * model_stats(&model).held_bytes / PAGE;
        cr_assert_geq(full, 24 * N * 3 / 4);
        cr_assert_leq(full, headers + headers / 4, "round %d", round);
        for (size_t i = 0; i < N; i++)
            model.tier->ops->release(model.tier, handles[i]);
    }
    model.tier->ops->trim(model.tier);
    cr_assert_lt(resident() - before, full * 2 / 3);
    cr_assert_eq(load_raw(&model, 1, kept), 0, "what is needed stays");
    store_raw(&model, 1, 32, handles);
    for (uint64_t i = 0; i < 32; i++)
        cr_assert_eq(load_raw(&model, i + 1, handles[i]), 0);
    end_model(&model);
}

Test(spill, without_memory_for_raw_pages_nothing_is_stored)
{
    static char bytes[PAGE];
    struct model model;
    struct record record = {.page = 1, .bytes = bytes, .size = PAGE, .codec = 1}, got;
    struct rlimit limit, none;
    tier_handle handle;
    make_model(&model, 2 * SEGMENT, 1);
    const struct tier_ops *ops = model.tier->ops;
    getrlimit(RLIMIT_AS, &limit);
    none = limit;
    none.rlim_cur = 4096;
    for (int i = 0; i < 3; i++) {
        setrlimit(RLIMIT_AS, &none);
        int stored = ops->store(model.tier, &record, 1, &handle);
        setrlimit(RLIMIT_AS, &limit);
        cr_assert_eq(stored, -ENOMEM);
    }
    cr_assert_eq(model_stats(&model).records, 0);
    cr_assert_eq(ops->store(model.tier, &record, 1, &handle), 1, "and no segment is lost");
    cr_assert_eq(ops->load(model.tier, 1, handle, model.scratch, &got), 0);
    end_model(&model);
}

/* ---- threads ---- */

enum { THREADS = 3, SHARED_PAGES = 500, ROUNDS = 1500 };

struct shared_page {
    _Atomic uint32_t busy;
    tier_handle handle;
    uint32_t version;
};

static struct shared_page shared[SHARED_PAGES + 1];
static struct model threads_model;
static _Atomic bool finished;

static bool grab(struct shared_page *page)
{
    return !atomic_exchange_explicit(&page->busy, 1, memory_order_acquire);
}
static void put(struct shared_page *page)
{
    atomic_store_explicit(&page->busy, 0, memory_order_release);
}

static void *fault_loop(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    struct tier *tier = threads_model.tier;
    void *scratch = aligned_alloc(4096, spill_scratch_size(PAGE));
    while (!atomic_load(&finished)) {
        uint64_t number = 1 + model_random(&random) % SHARED_PAGES;
        struct shared_page *page = &shared[number];
        struct record got;
        if (!grab(page))
            continue;
        if (page->handle) {
            cr_assert_eq(tier->ops->load(tier, number, page->handle, scratch, &got), 0);
            cr_assert(model_matches(&threads_model, number, page->version, &got));
            if (model_random(&random) % 2) {
                tier->ops->release(tier, page->handle);
                page->handle = 0;
            }
        }
        put(page);
    }
    free(scratch);
    return NULL;
}

static void store_some(uint64_t *random)
{
    static char bytes[16][PAGE];
    struct record run[16];
    struct shared_page *pages[16];
    tier_handle handles[16];
    size_t n = 0;
    for (int i = 0; i < 16; i++) {
        uint64_t number = 1 + model_random(random) % SHARED_PAGES;
        struct shared_page *page = &shared[number];
        if (!grab(page))
            continue;
        if (page->handle) {
            put(page);
            continue;
        }
        run[n] = model_record(&threads_model, number, ++page->version, bytes[n]);
        pages[n++] = page;
    }
    int stored = n ? threads_model.tier->ops->store(threads_model.tier, run, n, handles) : 0;
    for (size_t i = 0; i < n; i++) {
        if ((int)i < stored)
            pages[i]->handle = handles[i];
        put(pages[i]);
    }
}

static void clean_some(void)
{
    struct tier *tier = threads_model.tier;
    int n = tier->ops->pick(tier, PICK_EMPTIEST, 90, threads_model.items, SPILL_SEGMENT_RECORDS);
    cr_assert_geq(n, 0);
    for (int i = 0; i < n; i++) {
        const struct tier_item *item = &threads_model.items[i];
        struct shared_page *page = &shared[item->record.page];
        tier_handle moved;
        while (!grab(page))
            ;
        if (page->handle == item->handle && tier->ops->store(tier, &item->record, 1, &moved) == 1) {
            cr_assert(model_matches(&threads_model, item->record.page, page->version, &item->record));
            tier->ops->release(tier, page->handle);
            page->handle = moved;
        }
        put(page);
    }
    tier->ops->pick_done(tier);
}

Test(spill, loads_and_releases_race_with_stores_and_cleaning)
{
    make_model(&threads_model, 8 * SEGMENT, SHARED_PAGES);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, fault_loop, (void *)(uintptr_t)(i + 1));
    uint64_t random = 5;
    for (int round = 0; round < ROUNDS; round++) {
        store_some(&random);
        if (round % 50 == 0)
            clean_some();
    }
    atomic_store(&finished, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (uint64_t number = 1; number <= SHARED_PAGES; number++)
        if (shared[number].handle)
            threads_model.tier->ops->release(threads_model.tier, shared[number].handle);
    cr_assert_eq(model_stats(&threads_model).errors, 0);
    cr_assert_eq(model_stats(&threads_model).records, 0);
    cr_assert_eq(model_stats(&threads_model).bytes, 0);
    end_model(&threads_model);
}

/* ---- fork ---- */

static void rewrite_and_verify(struct model *model, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        if (model_store(model, 32) == -ENOSPC)
            model_clean(model, PICK_EMPTIEST, 99, false);
        for (int j = 0; j < 20; j++)
            model_verify(model, 1 + model_random(&model->random) % model->count);
    }
    model_verify_all(model);
}

/* So few pages that both find room without cleaning at the same time, for which there is one segment. */
static void share_the_file(bool raw, size_t pages)
{
    struct model model;
    make_model(&model, ROOM(32), pages);
    model.raw = raw;
    for (int i = 0; i < 30; i++)
        cr_assert_eq(model_store(&model, 32), 32);
    spill_before_fork(model.tier);
    pid_t child = fork();
    if (child == 0) {
        spill_after_fork_child(model.tier);
        model.random = 4711;
        model_verify_all(&model);
        rewrite_and_verify(&model, 150);
        for (uint64_t page = 1; page <= model.count; page++)
            model_drop(&model, page);
        spill_free(model.tier);
        _exit(0);
    }
    spill_after_fork_parent(model.tier);
    rewrite_and_verify(&model, 150);
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0, "the child failed");
    rewrite_and_verify(&model, 100);
    for (uint64_t page = 1; page <= model.count; page++)
        model_drop(&model, page);
    rewrite_and_verify(&model, 300); /* and every segment is free again: 10 times the file's size */
    end_model(&model);
}

Test(spill, parent_and_child_share_the_file_without_overlap)
{
    share_the_file(false, 1000);
}

Test(spill, parent_and_child_share_the_file_with_raw_pages)
{
    share_the_file(true, 500);
}

static void child_keeps(bool raw)
{
    struct model model;
    int go[2];
    make_model(&model, ROOM(8), 500);
    model.raw = raw;
    for (int i = 0; i < 15; i++)
        cr_assert_eq(model_store(&model, 32), 32);
    cr_assert_eq(pipe(go), 0);
    spill_before_fork(model.tier);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(go[1]); /* so that the read ends if the parent fails */
        spill_after_fork_child(model.tier);
        if (read(go[0], &byte, 1) != 1)
            _exit(2);
        model_verify_all(&model);
        _exit(0);
    }
    spill_after_fork_parent(model.tier);
    for (uint64_t page = 1; page <= model.count; page++)
        model_drop(&model, page);
    rewrite_and_verify(&model, 250);
    cr_assert_eq(write(go[1], "x", 1), 1);
    int status = -1;
    waitpid(child, &status, 0);
    cr_assert_eq(status, 0);
    end_model(&model);
}

Test(spill, a_child_keeps_what_the_parent_releases)
{
    child_keeps(false);
}

Test(spill, a_child_keeps_raw_pages_that_the_parent_releases)
{
    child_keeps(true);
}

/* The segment that is open at the fork goes on in the parent, and in both each writes where the other had or has
 * written: what the child knows of a segment is as of the fork, until it claims it itself. */
Test(spill, raw_pages_outlive_a_fork_in_a_segment_that_goes_on)
{
    enum { N = 4 };
    struct model model;
    tier_handle before[N], after[N];
    int go[2], ready[2];
    make_model(&model, 6 * SEGMENT, 1);
    store_raw(&model, 1, N, before);
    cr_assert(pipe(go) == 0 && pipe(ready) == 0);
    spill_before_fork(model.tier);
    pid_t child = fork();
    char byte = 0;
    if (child == 0) {
        close(go[1]);
        spill_after_fork_child(model.tier);
        tier_handle own[N];
        store_raw(&model, 50, N, own);
        if (write(ready[1], "x", 1) != 1 || read(go[0], &byte, 1) != 1)
            _exit(2);
        for (uint64_t i = 0; i < N; i++)
            if (load_raw(&model, 1 + i, before[i]) != 0 || load_raw(&model, 50 + i, own[i]) != 0)
                _exit(3);
        int n = model.tier->ops->pick(model.tier, PICK_OLDEST, 100, model.items, model.max_items);
        for (int i = 0; i < n; i++)
            if (model.items[i].record.page > N) /* what the parent wrote later is not the child's */
                _exit(4);
        _exit(n == N ? 0 : 5);
    }
    close(ready[1]);
    spill_after_fork_parent(model.tier);
    store_raw(&model, 1 + N, N, after);
    cr_assert_eq(position_of(after[0]) / SEGMENT, position_of(before[0]) / SEGMENT, "the same segment");
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    for (uint64_t i = 0; i < N; i++) {
        cr_assert_eq(load_raw(&model, 1 + i, before[i]), 0);
        cr_assert_eq(load_raw(&model, 1 + N + i, after[i]), 0);
        model.tier->ops->release(model.tier, before[i]);
        model.tier->ops->release(model.tier, after[i]);
    }
    for (int i = 0; i < 200; i++) { /* through all that is free */
        store_raw(&model, 100, N, after);
        for (uint64_t j = 0; j < N; j++)
            model.tier->ops->release(model.tier, after[j]);
    }
    cr_assert_eq(write(go[1], "x", 1), 1);
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0, "the child says %d", WEXITSTATUS(status));
    end_model(&model);
}

Test(spill, a_failed_fork_leaves_no_trace)
{
    struct model model;
    make_model(&model, 4 * SEGMENT, 500);
    for (int i = 0; i < 100; i++) {
        if (model_store(&model, 16) <= 0)
            for (uint64_t page = 1; page <= model.count; page++)
                model_drop(&model, page);
        spill_before_fork(model.tier);
        spill_after_fork_parent(model.tier);
        spill_fork_failed(model.tier);
        model_verify_all(&model);
    }
    for (uint64_t page = 1; page <= model.count; page++)
        model_drop(&model, page);
    cr_assert_eq(model_store(&model, 64), 64);
    end_model(&model);
}

Test(spill, a_child_nobody_prepared_may_not_write)
{
    struct model model;
    make_model(&model, ROOM(4), 100);
    cr_assert_eq(model_store(&model, 16), 16);
    pid_t child = fork();
    if (child == 0)
        _exit(model_store(&model, 1) == -EPERM ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    cr_assert_eq(status, 0);
    end_model(&model);
}
