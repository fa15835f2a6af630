/*
 * vm.c: virtual memory on Linux, for every trap backend.
 */
#include "../vm.h"
#include "../os.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <ucontext.h>

#define ALIGNMENT  (UINT64_C(1) << 30)
#define SIZE_FLOOR (UINT64_C(1) << 28)

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* Exactly at `wanted`, or where the kernel likes (0). Returns 0 when refused. */
static uintptr_t map_nothing(uintptr_t wanted, size_t size)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (wanted ? MAP_FIXED_NOREPLACE : 0);
    long at = SYS6(SYS_mmap, wanted, size, PROT_NONE, flags, -1, 0);
    if (at < 0 && at > -4096)
        return 0;
    if (wanted && (uintptr_t) at != wanted) { /* an old kernel takes the address for a wish */
        SYS2(SYS_munmap, at, size);
        return 0;
    }
    return (uintptr_t) at;
}

/* Neighbouring mappings merge only when their pages' owner (the kernel's anon_vma) is the same. One touch gives the whole
 * reservation one owner, and whatever is later split off inherits it. */
static int unify(uintptr_t base, size_t size)
{
    size_t page = os_page_size();
    vm_never_merge(base, size); /* where all memory of the process is to be merged: at once now, with an owner 17 s for a TiB */
    int result = vm_protect(base, page, VM_READ_WRITE);
    if (result < 0)
        return result;
    *(volatile char *) base = 1;
    vm_protect(base, page, VM_NONE);
    return vm_discard(&(struct extent){base, page}, 1);
}

int vm_reserve(struct platform *pf)
{
    /* Under an address-space limit at least half of it is left to the program. */
    struct rlimit limit;
    size_t size = pf->size;
    if (SYS4(SYS_prlimit64, 0, RLIMIT_AS, NULL, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        while (size > limit.rlim_cur / 2)
            size /= 2;

    for (; size >= SIZE_FLOOR; size /= 2) {
        size_t slack = size < 2 * ALIGNMENT ? 2u << 20 : ALIGNMENT;
        if (pf->base && pf->base % ALIGNMENT == 0 && map_nothing(pf->base, size)) {
            pf->size = size;
            return unify(pf->base, size);
        }
        uintptr_t at = map_nothing(0, size + slack);
        if (!at)
            continue;
        uintptr_t base = (at + slack - 1) & ~(slack - 1);
        if (base > at)
            SYS2(SYS_munmap, at, base - at);
        if (base + size < at + size + slack)
            SYS2(SYS_munmap, base + size, at + slack - base);
        pf->base = base;
        pf->size = size;
        return unify(base, size);
    }
    return -ENOMEM;
}

void vm_release(struct platform *pf) { SYS2(SYS_munmap, pf->base, pf->size); }

int vm_reserve_again(uintptr_t start, size_t length, int protection)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    long at = SYS6(SYS_mmap, start, length, protection, flags, -1, 0);
    return at == (long) start ? 0 : (int) at;
}

int vm_protect(uintptr_t start, size_t length, enum vm_protection protection)
{
    static const int bits[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
    return (int) SYS3(SYS_mprotect, start, length, bits[protection]);
}

int vm_inherit(uintptr_t start, size_t length, enum vm_inheritance inheritance)
{
    static const int advice[] = {MADV_DOFORK, MADV_DONTFORK, MADV_WIPEONFORK};
    return (int) SYS3(SYS_madvise, start, length, advice[inheritance]);
}

/* ---- discarding ---- */

/* process_madvise() on oneself with an advice that destroys is recent, and its batched TLB flush more so. */
static long discard_vector(const struct iovec *vector, size_t n)
{
#ifdef SYS_process_madvise
#ifndef PIDFD_SELF_THREAD_GROUP
#define PIDFD_SELF_THREAD_GROUP -10001
#endif
    return SYS5(SYS_process_madvise, PIDFD_SELF_THREAD_GROUP, vector, n, MADV_DONTNEED, 0);
#else
    (void) vector, (void) n;
    return -ENOSYS;
#endif
}

bool vm_discard_batches(void)
{
    static signed char known; /* 0 unknown, 1 yes, -1 no; every thread finds the same */
    if (known)
        return known > 0;
    size_t page = os_page_size();
    unsigned char *pages = os_map(4 * page);
    if (!pages)
        return false;
    pages[0] = pages[page] = pages[2 * page] = 1;
    struct iovec vector[] = {{pages, page}, {pages + 2 * page, page}};
    long done = discard_vector(vector, 2);
    known = done == (long) (2 * page) && pages[0] == 0 && pages[page] == 1 && pages[2 * page] == 0 ? 1 : -1;
    os_unmap(pages, 4 * page);
    return known > 0;
}

/* Locked memory is not discarded: what is freed or paged out is no longer locked. */
static int discard_one(const struct extent *extent)
{
    long result = SYS3(SYS_madvise, extent->start, extent->length, MADV_DONTNEED);
    if (result == -EINVAL && SYS2(SYS_munlock, extent->start, extent->length) == 0)
        result = SYS3(SYS_madvise, extent->start, extent->length, MADV_DONTNEED);
    return (int) result;
}

int vm_discard(const struct extent *extents, size_t n)
{
    _Static_assert(sizeof(struct extent) == sizeof(struct iovec), "an extent is handed to the kernel as an iovec");
    if (n == 0)
        return 0;
    if (n > 1 && vm_discard_batches()) {
        while (n > 0) {
            size_t count = n < 1024 ? n : 1024, bytes = 0;
            for (size_t i = 0; i < count; i++)
                bytes += extents[i].length;
            if (discard_vector((const struct iovec *) extents, count) != (long) bytes)
                break; /* some of it may be done; doing it again does no harm */
            extents += count;
            n -= count;
        }
    }
    int result = 0;
    for (size_t i = 0; i < n; i++) {
        int one = discard_one(&extents[i]);
        result = result ? result : one;
    }
    return result;
}

/* ---- residency ---- */

#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)

/* The page map knows swapped pages too; mincore() does not, but needs no /proc. */
static int residency_pagemap(int fd, uintptr_t start, size_t length, size_t unit, unsigned char *vec)
{
    size_t page = os_page_size(), per_unit = unit / page, count = length / page, done = 0;
    uint64_t entries[64];
    while (done < count) {
        size_t want = count - done < 64 ? count - done : 64;
        ssize_t got = os_pread(fd, entries, want * 8, (start / page + done) * 8);
        if (got < 8)
            return got < 0 ? (int) got : -EIO;
        for (size_t i = 0; i < (size_t) got / 8; i++, done++)
            if (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
                vec[done / per_unit] = 1;
    }
    return 0;
}

static int residency_mincore(uintptr_t start, size_t length, size_t unit, unsigned char *vec)
{
    size_t page = os_page_size(), per_unit = unit / page, count = length / page;
    unsigned char chunk[256];
    for (size_t done = 0; done < count;) {
        size_t want = count - done < sizeof chunk ? count - done : sizeof chunk;
        long result = SYS3(SYS_mincore, start + done * page, want * page, chunk);
        if (result < 0)
            return (int) result;
        for (size_t i = 0; i < want; i++, done++)
            if (chunk[i] & 1)
                vec[done / per_unit] = 1;
    }
    return 0;
}

/* Opened once: it is asked for in the middle of the program's life, which may count on the lowest number that is free. The
 * process and the descriptor + 1 in one word, which any thread replaces; a forked child opens its own. */
static int pagemap(void)
{
    static uint64_t opened;
    uint64_t seen = __atomic_load_n(&opened, __ATOMIC_ACQUIRE);
    uint32_t process = os_process_id();
    if (seen >> 32 == process)
        return (int) (uint32_t) seen - 1;
    int fd = os_open("/proc/thread-self/pagemap", O_RDONLY, 0);
    if (fd < 0)
        return fd;
    uint64_t mine = (uint64_t) process << 32 | (uint32_t) (fd + 1);
    bool won = __atomic_compare_exchange_n(&opened, &seen, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    if (won && seen)
        os_close((int) (uint32_t) seen - 1); /* the parent's, inherited */
    if (!won)
        os_close(fd);
    return won ? fd : (int) (uint32_t) seen - 1;
}

int vm_residency(uintptr_t start, size_t length, size_t unit, unsigned char *vec)
{
    for (size_t i = 0; i < length / unit; i++)
        vec[i] = 0;
    int fd = pagemap();
    int result = fd < 0 ? fd : residency_pagemap(fd, start, length, unit, vec);
    return result == 0 ? 0 : residency_mincore(start, length, unit, vec);
}

/* linux/fs.h, since 6.7. */
struct page_region {
    uint64_t start, end, categories;
};

struct page_scan {
    uint64_t size, flags, start, end, walk_end, regions, regions_count, pages_max;
    uint64_t inverted, all_of, any_of, returned;
};

#define PAGE_SCAN    _IOWR('f', 16, struct page_scan)
#define SCAN_PRESENT (UINT64_C(1) << 3)
#define SCAN_SWAPPED (UINT64_C(1) << 4)

/* Passes over page tables that are not there. */
uintptr_t vm_present_from(uintptr_t start, size_t length)
{
    struct page_region found = {.start = start};
    struct page_scan scan = {
        .size = sizeof scan,
        .start = start,
        .end = start + length,
        .regions = (uintptr_t) &found,
        .regions_count = 1,
        .pages_max = 1,
        .any_of = SCAN_PRESENT | SCAN_SWAPPED,
        .returned = SCAN_PRESENT | SCAN_SWAPPED,
    };
    int fd = pagemap();
    long regions = fd < 0 ? fd : SYS3(SYS_ioctl, fd, PAGE_SCAN, &scan);
    return regions == 0 && scan.walk_end == scan.end ? start + length : regions == 1 ? found.start : start;
}

/* ---- pages in general ---- */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int vm_populate(uintptr_t start, size_t length)
{
    return (int) SYS3(SYS_madvise, start, length, MADV_POPULATE_WRITE);
}

void vm_never_merge(uintptr_t start, size_t length)
{
    SYS3(SYS_madvise, start, length, MADV_UNMERGEABLE); /* refused only where the kernel cannot merge at all */
}

int vm_copy_out(uintptr_t start, void *out, size_t length)
{
    struct iovec from = {(void *) start, length}, to = {out, length};
    long copied = SYS6(SYS_process_vm_readv, os_thread_id(), &to, 1, &from, 1, 0);
    return copied == (long) length ? 0 : copied < 0 ? (int) copied : -EFAULT;
}

/* ---- moving ---- */

int vm_move(uintptr_t from, uintptr_t to, size_t length)
{
    long at = SYS5(SYS_mremap, from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);
    return at == (long) to ? 0 : (int) at;
}

int vm_copy_present(uintptr_t from, uintptr_t to, size_t length)
{
    size_t page = os_page_size();
    unsigned char vec[256];
    for (size_t at = 0; at < length; at += sizeof vec * page) {
        size_t bytes = length - at < sizeof vec * page ? length - at : sizeof vec * page;
        int result = vm_residency(from + at, bytes, page, vec);
        if (result < 0)
            return result;
        for (size_t i = 0; i < bytes / page; i++)
            if (vec[i])
                memcpy((void *) (to + at + i * page), (const void *) (from + at + i * page), page);
    }
    return 0;
}

/* ---- behind the protection ---- */

/* thread-self, not self: that is the main thread, which may have ended before the process does. The open file stays good
 * when this thread ends.
 *
 * A process that has given up privilege is closed to inspection, its own too; for the moment of opening it is not. */
static int open_memory(void)
{
    int fd = os_open("/proc/thread-self/mem", O_RDWR, 0);
    long dumpable = SYS1(SYS_prctl, PR_GET_DUMPABLE);
    if (fd != -EACCES || dumpable == 1)
        return fd;
    SYS2(SYS_prctl, PR_SET_DUMPABLE, 1);
    fd = os_open("/proc/thread-self/mem", O_RDWR, 0);
    SYS2(SYS_prctl, PR_SET_DUMPABLE, dumpable == 2 ? 0 : dumpable); /* 2 cannot be set; 0 is as strict */
    return fd;
}

int vm_behind_open(int *handle)
{
    int fd = open_memory();
    if (fd < 0)
        return fd;
    *handle = fd;
    return 0;
}

void vm_behind_close(int handle) { os_close(handle); }

int vm_peek(int handle, uintptr_t address, void *out, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t got = os_pread(handle, (char *) out + done, length - done, address + done);
        if (got <= 0)
            return got < 0 ? (int) got : -EIO;
        done += (size_t) got;
    }
    return 0;
}

int vm_poke(int handle, uintptr_t address, const void *content, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t put = os_pwrite(handle, (const char *) content + done, length - done, address + done);
        if (put <= 0)
            return put < 0 ? (int) put : -EIO;
        done += (size_t) put;
    }
    return 0;
}

size_t vm_map_limit(void)
{
    char text[32];
    size_t limit = 0;
    if (os_read_file("/proc/sys/vm/max_map_count", text, sizeof text) <= 0)
        return 65530; /* the kernel's own default */
    for (const char *at = text; *at >= '0' && *at <= '9'; at++)
        limit = limit * 10 + (size_t) (*at - '0');
    return limit;
}

void vm_decode(const siginfo_t *info, const void *context, struct trap *out)
{
    const ucontext_t *machine = context;
    *out = (struct trap){.address = (uintptr_t) info->si_addr};
#if defined(__x86_64__)
    /* The page fault's error code: bit 0 the page was present, bit 1 a write. */
    uint64_t error = (uint64_t) machine->uc_mcontext.gregs[REG_ERR];
    out->present = error & 1;
    out->write = error & 2;
#elif defined(__aarch64__)
    /* ESR_ELx of a data abort: bit 6 a write; fault status 0b0011xx is a permission fault. */
    const struct _aarch64_ctx *record = (const void *) machine->uc_mcontext.__reserved;
    while (record->magic && record->magic != ESR_MAGIC)
        record = (const void *) ((const char *) record + record->size);
    if (record->magic == ESR_MAGIC) {
        uint64_t esr = ((const struct esr_context *) record)->esr;
        out->write = esr & (1 << 6);
        out->present = (esr & 0x3c) == 0x0c;
    }
#endif
}
