/*
 * uffd.c: trap backends on userfaultfd(2). Absent pages are pages that are not there: a touch becomes a SIGBUS in the
 * faulting thread (uffd-signal, for any user), or a message to threads of ours (uffd-thread, with privilege: it alone
 * also serves faults that the kernel takes inside a system call).
 *
 * UFFDIO_COPY fills a page in one step, UFFDIO_MOVE takes one away in one step (refusing pages that the kernel has
 * pinned for direct access), UFFDIO_WRITEPROTECT blocks writers while readers go on. No mapping is ever split.
 */
#include "../os.h"
#include "../posix/protection.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

/* Newer than many systems' headers. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFDIO_MOVE
struct uffdio_move {
    __u64 dst, src, len, mode;
    __s64 move;
};
#define UFFDIO_MOVE                     _IOWR(UFFDIO, 0x05, struct uffdio_move)
#define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES ((__u64) 1 << 1)
#endif
#ifndef UFFDIO_POISON
struct uffdio_poison {
    struct uffdio_range range;
    __u64 mode;
    __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

#define STAGING_SIZE ((size_t) 1 << 20)
#define ZEROS_SIZE   ((size_t) 64 << 10)
#define RESOLVERS    2
#define TRIES        1000 /* of an ioctl that the kernel says to try again */

struct state {
    struct protection protection;
    int fd;                     /* -1 until armed */
    int behind;                 /* handle of vm_peek, or -1 */
    const unsigned char *zeros; /* what fresh pages are filled with */
    uint32_t generation;        /* resolver threads of an earlier one end; any thread, atomically */
};

/* ---- the descriptor ---- */

enum mode { BY_SIGNAL, BY_THREAD };

static int open_raw(enum mode mode)
{
    if (mode == BY_SIGNAL)
        return (int) SYS1(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    int fd = (int) SYS1(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        return fd;
    int device = os_open("/dev/userfaultfd", O_RDWR, 0); /* a udev rule may grant what the system call does not */
    if (device < 0)
        return fd;
    long made = SYS3(SYS_ioctl, device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    os_close(device);
    return (int) made;
}

/* An open descriptor with what we need switched on, or a negative errno. */
static int open_with(enum mode mode, uint64_t wanted)
{
    int fd = open_raw(mode);
    if (fd < 0)
        return fd;
    fd = os_fd_raise(fd);
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | wanted};
    long result = SYS3(SYS_ioctl, fd, UFFDIO_API, &api);
    if (result < 0) {
        os_close(fd);
        return (int) result;
    }
    return fd;
}

static int open_uffd(enum mode mode)
{
    if (mode == BY_SIGNAL)
        return open_with(mode, UFFD_FEATURE_SIGBUS);
    int fd = open_with(mode, UFFD_FEATURE_EXACT_ADDRESS);
    return fd == -EINVAL ? open_with(mode, 0) : fd; /* older kernels name the page only */
}

static int watch(int fd, uintptr_t start, size_t length)
{
    struct uffdio_register request = {
        .range = {start, length},
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
    };
    return (int) SYS3(SYS_ioctl, fd, UFFDIO_REGISTER, &request);
}

/* ---- moving content ---- */

static int copy_in(int fd, uintptr_t to, const void *from, size_t length, bool protect, size_t *done)
{
    struct uffdio_copy request = {
        .dst = to, .src = (uintptr_t) from, .len = length, .mode = protect ? UFFDIO_COPY_MODE_WP : 0};
    long result = SYS3(SYS_ioctl, fd, UFFDIO_COPY, &request);
    *done = request.copy > 0 ? (size_t) request.copy : 0;
    return (int) result;
}

static int move_pages(int fd, uintptr_t to, uintptr_t from, size_t length, uint64_t mode, size_t *done)
{
    struct uffdio_move request = {.dst = to, .src = from, .len = length, .mode = mode};
    long result = SYS3(SYS_ioctl, fd, UFFDIO_MOVE, &request);
    *done = request.move > 0 ? (size_t) request.move : 0;
    return (int) result;
}

/* A request has to lie within one mapping. The kernel merges the arena's mappings where it can, not everywhere: one that
 * is refused as a whole is made page by page. */
static bool crosses_mappings(long error, size_t length, size_t page)
{
    return (error == -ENOENT || error == -EINVAL) && length > page;
}

/* Runs `step`, which handles `piece` bytes at `at` and sets `done`, until all is done. -EAGAIN means that the address
 * space was changing: again. Returns the bytes done from the front, or the error where that is none. */
#define REPEAT(length, page, step)                                              \
    int result = 0;                                                             \
    size_t piece = (length), done;                                              \
    for (size_t at = 0, tries = 0; at < (length); at += done) {                 \
        piece = piece < (length) -at ? piece : (length) -at;                    \
        result = step;                                                          \
        if (result == 0 || done > 0)                                            \
            continue;                                                           \
        if (crosses_mappings(result, piece, page))                              \
            piece = (page);                                                     \
        else if (result != -EAGAIN || ++tries > TRIES)                          \
            return at > 0 ? (int64_t) at : result;                              \
    }                                                                           \
    return (int64_t) (length)

static int64_t place_content(int fd, uintptr_t start, size_t length, size_t page, const char *content, bool writable)
{
    REPEAT(length, page, copy_in(fd, start + at, content + at, piece, !writable, &done));
}

/* Content in staging goes back without any memory being needed. */
static int restore(int fd, uintptr_t to, uintptr_t staged, size_t length, size_t page, size_t *done)
{
    int result = move_pages(fd, to, staged, length, 0, done);
    /* What the program has made read-only meanwhile is not moved to. */
    return result == -EINVAL && length == page ? copy_in(fd, to, (const void *) staged, page, false, done) : result;
}

static int64_t place_staged(int fd, uintptr_t start, size_t length, size_t page, uintptr_t staged)
{
    REPEAT(length, page, restore(fd, start + at, staged + at, piece, page, &done));
}

/* Zeros, as far as there are any to copy. Pages that have content already keep it: they need none. */
static int copy_zeros(const struct state *state, uintptr_t start, size_t length, size_t page, size_t *done)
{
    int result = copy_in(state->fd, start, state->zeros, length < ZEROS_SIZE ? length : ZEROS_SIZE, false, done);
    if (result != -EEXIST || *done > 0)
        return result;
    *done = page;
    return 0;
}

static int64_t place_zeros(const struct state *state, uintptr_t start, size_t length, size_t page)
{
    REPEAT(length, page, copy_zeros(state, start + at, piece, page, &done));
}

static int64_t uffd_place(struct platform *pf, uintptr_t start, size_t length, const void *content, bool writable)
{
    const struct state *state = pf->state;
    if (!content)
        return place_zeros(state, start, length, pf->page);
    if (writable && pf->staging && (uintptr_t) content - (uintptr_t) pf->staging < pf->staging_size)
        return place_staged(state->fd, start, length, pf->page, (uintptr_t) content);
    return place_content(state->fd, start, length, pf->page, content, writable);
}

static int write_protect_once(int fd, uintptr_t start, size_t length, bool on, size_t *done)
{
    struct uffdio_writeprotect request = {{start, length}, on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
    long result = SYS3(SYS_ioctl, fd, UFFDIO_WRITEPROTECT, &request);
    *done = result == 0 ? length : 0;
    return (int) result;
}

static int64_t write_protect(int fd, uintptr_t start, size_t length, size_t page, bool on)
{
    REPEAT(length, page, write_protect_once(fd, start + at, piece, on, &done));
}

/* For requests of which a part is as bad as nothing. */
static int all_or_error(int64_t done, size_t length)
{
    return done == (int64_t) length ? 0 : done < 0 ? (int) done : -EIO;
}

static int uffd_protect(struct platform *pf, uintptr_t start, size_t length)
{
    const struct state *state = pf->state;
    return all_or_error(write_protect(state->fd, start, length, pf->page, true), length);
}

static int uffd_unprotect(struct platform *pf, uintptr_t start, size_t length)
{
    const struct state *state = pf->state;
    return all_or_error(write_protect(state->fd, start, length, pf->page, false), length);
}

/* Never read in place: the program may be freeing the block, and this thread could not take the fault. What the program has
 * made inaccessible is read behind its protection. */
static const void *uffd_peek(struct platform *pf, uintptr_t page, void *scratch)
{
    const struct state *state = pf->state;
    unsigned char present;
    /* What was dropped behind our back would be a fault, served by threads that wait for the owner of the page: the caller. */
    if (pf->caps.kernel_faults && (vm_residency(page, pf->page, pf->page, &present) < 0 || !present))
        return NULL;
    if (vm_copy_out(page, scratch, pf->page) == 0)
        return scratch;
    return state->behind >= 0 && vm_peek(state->behind, page, scratch, pf->page) == 0 ? scratch : NULL;
}

/* Where the kernel's own faults are served, see uffd_peek(). */
static int uffd_zero(struct platform *pf, uintptr_t start, size_t length)
{
    const struct state *state = pf->state;
    int result = state->behind < 0 ? -EACCES : 0;
    for (size_t at = 0; at < length && result == 0; at += pf->page) {
        unsigned char present = 1;
        if (pf->caps.kernel_faults)
            result = vm_residency(start + at, pf->page, pf->page, &present);
        if (result == 0)
            result = present ? vm_poke(state->behind, start + at, state->zeros, pf->page) : -ENOENT;
    }
    return result;
}

static int uffd_drop(struct platform *pf, const struct extent *extents, size_t n)
{
    (void) pf;
    return vm_discard(extents, n);
}

static int64_t uffd_take(struct platform *pf, uintptr_t start, size_t length, size_t staging_offset)
{
    int fd = ((struct state *) pf->state)->fd;
    size_t done = 0;
    int result = -EAGAIN;
    for (int tries = 0; result == -EAGAIN && done == 0 && tries < TRIES; tries++) {
        result = move_pages(fd, (uintptr_t) pf->staging + staging_offset, start, length, 0, &done);
        if (done == 0 && crosses_mappings(result, length, pf->page)) {
            length = pf->page;
            result = -EAGAIN;
        }
    }
    return done > 0 ? (int64_t) done : result;
}

static void uffd_staging_clear(struct platform *pf, size_t length)
{
    vm_discard(&(struct extent){(uintptr_t) pf->staging, length}, 1);
}

/* What cannot be moved (a forked child shares it, or there is no UFFDIO_MOVE) is copied, absent pages left out. */
static int move_piece(const struct platform *pf, int fd, uintptr_t from, uintptr_t to, size_t length, size_t *done)
{
    if (pf->caps.takes) {
        int result = move_pages(fd, to, from, length, UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES, done);
        if (*done > 0 || (result != -EBUSY && (result != -EINVAL || length > pf->page)))
            return result;
    }
    unsigned char present = 0;
    *done = 0;
    int result = vm_residency(from, pf->page, pf->page, &present);
    if (result == 0 && present)
        return copy_in(fd, to, (const void *) from, pf->page, false, done);
    *done = result == 0 ? pf->page : 0;
    return result;
}

static int64_t move_pieces(const struct platform *pf, int fd, uintptr_t from, uintptr_t to, size_t length)
{
    REPEAT(length, pf->page, move_piece(pf, fd, from + at, to + at, piece, &done));
}

/* A moved mapping never merges with its new neighbours: when mappings run low, content is copied instead. */
static int move_unwatched(struct state *state, uintptr_t from, uintptr_t to, size_t length)
{
    struct protection *protection = &state->protection;
    lock_acquire(&protection->lock);
    bool moved = protection_left(protection) > protection->edges_max / 2 && vm_move(from, to, length) == 0;
    if (moved)
        protection_spend(protection, 2);
    lock_release(&protection->lock);
    return moved ? 0 : vm_copy_present(from, to, length);
}

static int uffd_move(struct platform *pf, uintptr_t from, uintptr_t to, size_t length)
{
    const struct state *state = pf->state;
    /* Watched memory is never given to mremap(): the moved mapping may merge with its new neighbours, and all of what
     * was merged is then no longer watched. A neighbour's absent pages would read as zeros. */
    if (state->fd >= 0)
        return all_or_error(move_pieces(pf, state->fd, from, to, length), length);
    return move_unwatched(pf->state, from, to, length);
}

/* Swap that nobody uses has none of ours. To undo protection for nothing takes nearly as long as moving: 0.3 us a page. */
static bool uffd_swaps(const struct platform *pf)
{
    struct sysinfo machine;
    (void) pf;
    return SYS1(SYS_sysinfo, &machine) < 0 || machine.totalswap != machine.freeswap;
}

/* ---- probing ---- */

/* Whether one whole page can be taken from `from` to `to`; both in a watched mapping. */
static bool can_take(int fd, unsigned char *from, unsigned char *to, size_t page)
{
    size_t done;
    return move_pages(fd, (uintptr_t) to, (uintptr_t) from, page, 0, &done) == 0 && to[0] == 7;
}

/* Fills, protects and takes pages of a small mapping. Returns 0, or an errno and the step that failed. */
static int try_out(int fd, unsigned char *pages, size_t page, bool *takes, const char **step)
{
    static const unsigned char content[64 << 10] = {7};
    size_t done;
    *step = "watching memory";
    int result = watch(fd, (uintptr_t) pages, 2 * page);
    if (result < 0)
        return result;
    *step = "filling a page";
    result = copy_in(fd, (uintptr_t) pages, content, page, true, &done);
    if (result < 0 || pages[0] != 7)
        return result < 0 ? result : -EIO;
    *step = "write protection";
    result = all_or_error(write_protect(fd, (uintptr_t) pages, page, page, false), page);
    if (result < 0)
        return result;
    pages[1] = 1;
    *takes = can_take(fd, pages, pages + page, page);
    return 0;
}

static void explain(char *why, size_t size, const char *step, int error)
{
    const char *what = error == -ENOSYS ? "is not in this kernel" : error == -EPERM ? "is not permitted" : "failed";
    snprintf(why, size, "%s %s", step, what);
}

static int probe(enum mode mode, struct platform_caps *caps, char *why, size_t size)
{
    size_t page = os_page_size();
    int fd = open_uffd(mode);
    if (fd < 0) {
        explain(why, size, "userfaultfd", fd);
        return fd;
    }
    unsigned char *pages = os_map(2 * page);
    const char *step = "mapping memory";
    bool takes = false;
    int result = pages ? try_out(fd, pages, page, &takes, &step) : -ENOMEM;
    os_close(fd);
    if (pages)
        os_unmap(pages, 2 * page);
    if (result < 0) {
        explain(why, size, step, result);
        return result;
    }
    *caps = (struct platform_caps){
        .evicts = true,
        .protects = true,
        .takes = takes,
        .batch_drop = vm_discard_batches(),
        .kernel_faults = mode == BY_THREAD,
        .move = true,
        .mappings = true,
    };
    return 0;
}

static int probe_signal(struct platform_caps *caps, char *why, size_t size)
{
    return probe(BY_SIGNAL, caps, why, size);
}

static int probe_thread(struct platform_caps *caps, char *why, size_t size)
{
    return probe(BY_THREAD, caps, why, size);
}

/* ---- address space ---- */

static int uffd_reserve(struct platform *pf)
{
    int result = vm_reserve(pf);
    if (result < 0)
        return result;
    struct state *state = os_map(sizeof *state);
    if (!state || protection_init(&state->protection, pf->base, pf->size) < 0) {
        vm_release(pf);
        return -ENOMEM;
    }
    state->fd = state->behind = -1;
    pf->page = os_page_size();
    pf->state = state;
    return 0;
}

/* First forgotten, then closed: a resolver must not read from what gets the number next. */
static void close_both(struct state *state)
{
    int fd = __atomic_exchange_n(&state->fd, -1, __ATOMIC_SEQ_CST), behind = state->behind;
    state->behind = -1;
    if (fd >= 0)
        os_close(fd);
    if (behind >= 0)
        os_close(behind);
}

static void uffd_release(struct platform *pf)
{
    struct state *state = pf->state;
    __atomic_fetch_add(&state->generation, 1, __ATOMIC_SEQ_CST);
    close_both(state);
    vm_release(pf);
    protection_fini(&state->protection);
    if (pf->staging)
        os_unmap((void *) pf->staging, pf->staging_size);
}

static int uffd_open(struct platform *pf, uintptr_t start, size_t length)
{
    struct state *state = pf->state;
    return protection_set(&state->protection, start, length, VM_READ_WRITE);
}

static int uffd_close(struct platform *pf, uintptr_t start, size_t length)
{
    struct state *state = pf->state;
    if (protection_left(&state->protection)) /* else it stays open, and reads as zero */
        protection_set(&state->protection, start, length, VM_NONE);
    return vm_discard(&(struct extent){start, length}, 1);
}

static int uffd_populate(struct platform *pf, uintptr_t start, size_t length)
{
    (void) pf;
    return vm_populate(start, length);
}

static int uffd_residency(struct platform *pf, uintptr_t start, size_t length, unsigned char *vec)
{
    return vm_residency(start, length, pf->page, vec);
}

static uintptr_t uffd_present_from(const struct platform *pf, uintptr_t start, size_t length)
{
    (void) pf;
    return vm_present_from(start, length);
}

/* Closed pages and the program's own protections raise SIGSEGV. */
static bool uffd_decode(const siginfo_t *info, const void *context, struct trap *out)
{
    vm_decode(info, context, out);
    return info->si_signo == SIGBUS;
}

static size_t uffd_granule(struct platform *pf) { return pf->page; }

/* ---- arming ---- */

/* The next part of the arena from *at on that is not foreign. Returns false when there is none. */
static bool next_own(const struct platform *pf, uintptr_t *at, size_t *foreign, struct extent *out)
{
    const struct foreign *list = &pf->foreign;
    while (*foreign < list->count && list->extents[*foreign].start == *at)
        *at += list->extents[(*foreign)++].length;
    uintptr_t end = *foreign < list->count ? list->extents[*foreign].start : pf->base + pf->size;
    *out = (struct extent){*at, end - *at};
    *at = end;
    return out->length > 0;
}

/* All but what is foreign: a file cannot be watched. */
static int watch_arena(const struct platform *pf, int fd)
{
    struct extent own;
    uintptr_t at = pf->base;
    int result = 0;
    for (size_t foreign = 0; result == 0 && next_own(pf, &at, &foreign, &own);)
        result = watch(fd, own.start, own.length);
    return result;
}

static int uffd_reclaim(struct platform *pf, uintptr_t start, size_t length, int protection)
{
    const struct state *state = pf->state;
    int result = vm_reserve_again(start, length, protection);
    if (result < 0 || state->fd < 0)
        return result;
    vm_never_merge(start, length);
    vm_inherit(start, length, VM_MISSING);
    return watch(state->fd, start, length);
}

/* Opens a descriptor and has it watch the arena and the staging memory. */
static int attach(struct platform *pf, enum mode mode)
{
    struct state *state = pf->state;
    int fd = open_uffd(mode);
    if (fd < 0)
        return fd;
    int result = watch_arena(pf, fd);
    if (result == 0 && pf->staging)
        result = watch(fd, (uintptr_t) pf->staging, pf->staging_size);
    if (result < 0) {
        os_close(fd);
        return result;
    }
    state->fd = fd;
    return 0;
}

/* A child made past fork() has nobody watch its memory: absent pages would be zeros there. So it gets none, and dies of
 * touching it. Only for the moment of a fork that we know of it is to be had. */
static void hide(struct platform *pf, bool hidden)
{
    struct extent own;
    uintptr_t at = pf->base;
    for (size_t foreign = 0; next_own(pf, &at, &foreign, &own);)
        vm_inherit(own.start, own.length, hidden ? VM_MISSING : VM_COPIED);
}

static int arm(struct platform *pf, enum mode mode)
{
    struct state *state = pf->state;
    state->zeros = os_map(ZEROS_SIZE);
    if (pf->caps.takes)
        pf->staging = os_map(STAGING_SIZE);
    if (!state->zeros || (pf->caps.takes && !pf->staging))
        return -ENOMEM;
    pf->staging_size = pf->staging ? STAGING_SIZE : 0;
    vm_never_merge(pf->base, pf->size);
    if (pf->staging) /* a merged page could not be moved back either */
        vm_never_merge((uintptr_t) pf->staging, pf->staging_size);
    int result = attach(pf, mode);
    if (result < 0)
        return result;
    if (vm_behind_open(&state->behind) < 0)
        state->behind = -1;
    hide(pf, true);
    return 0;
}

static int arm_signal(struct platform *pf, const struct extent *live, size_t n)
{
    (void) live, (void) n;
    return arm(pf, BY_SIGNAL);
}

/* The parts of fork that both backends share. Returns whether the child has to attach again. */
static bool fork_common(struct platform *pf, enum platform_fork phase)
{
    struct state *state = pf->state;
    if (phase == FORK_BEFORE) {
        lock_acquire(&state->protection.lock);
        if (state->fd >= 0)
            hide(pf, false);
        return false;
    }
    if (state->fd >= 0)
        hide(pf, true);
    if (phase == FORK_CHILD) {
        lock_adopt(&state->protection.lock);
        protection_spend(&state->protection, state->protection.edges); /* what a child inherits no longer merges */
    }
    lock_release(&state->protection.lock);
    if (phase == FORK_PARENT || state->fd < 0)
        return false;
    os_close(state->fd); /* it acts on the parent */
    state->fd = -1;
    if (state->behind >= 0)
        os_close(state->behind); /* it is the parent's memory */
    if (vm_behind_open(&state->behind) < 0)
        state->behind = -1;
    return true;
}

/* A child whose memory nobody watches gets none of it: pages that are away would be zeros. */
static int or_nothing(struct platform *pf, int result)
{
    if (result < 0)
        vm_protect(pf->base, pf->size, VM_NONE);
    return result;
}

static int fork_signal(struct platform *pf, enum platform_fork phase)
{
    return fork_common(pf, phase) ? or_nothing(pf, attach(pf, BY_SIGNAL)) : 0;
}

const struct platform_ops platform_uffd_signal = {
    .name = "uffd-signal",
    .probe = probe_signal,
    .reserve = uffd_reserve,
    .release = uffd_release,
    .open = uffd_open,
    .close = uffd_close,
    .arm = arm_signal,
    .populate = uffd_populate,
    .residency = uffd_residency,
    .present_from = uffd_present_from,
    .place = uffd_place,
    .protect = uffd_protect,
    .unprotect = uffd_unprotect,
    .peek = uffd_peek,
    .drop = uffd_drop,
    .zero = uffd_zero,
    .take = uffd_take,
    .staging_clear = uffd_staging_clear,
    .move = uffd_move,
    .swaps = uffd_swaps,
    .decode = uffd_decode,
    .granule = uffd_granule,
    .reclaim = uffd_reclaim,
    .fork = fork_signal,
};

/* ---- uffd-thread: messages instead of signals ---- */

static void wake(const struct state *state, uintptr_t page, size_t length)
{
    struct uffdio_range range = {page, length};
    SYS3(SYS_ioctl, state->fd, UFFDIO_WAKE, &range);
}

/* No content is to be had: whoever touches the page gets SIGBUS, as from a bad disk. */
static void refuse(const struct state *state, uintptr_t page, size_t length)
{
    struct uffdio_poison request = {.range = {page, length}};
    if (SYS3(SYS_ioctl, state->fd, UFFDIO_POISON, &request) < 0)
        SYS3(SYS_madvise, page, length, MADV_HWPOISON); /* privileged; better than a thread that waits for ever */
    wake(state, page, length);
}

static void serve_message(struct platform *pf, const struct uffd_msg *message)
{
    uint64_t flags = message->arg.pagefault.flags;
    struct trap trap = {
        .address = message->arg.pagefault.address,
        .write = flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP),
        .present = flags & UFFD_PAGEFAULT_FLAG_WP,
    };
    uintptr_t page = trap.address & ~(pf->page - 1);
    if (pf->serve(pf->serve_context, &trap))
        wake(pf->state, page, pf->page);
    else
        refuse(pf->state, page, pf->page);
}

static void resolve(void *argument)
{
    struct platform *pf = argument;
    struct state *state = pf->state;
    uint32_t generation = __atomic_load_n(&state->generation, __ATOMIC_SEQ_CST);
    while (generation == __atomic_load_n(&state->generation, __ATOMIC_SEQ_CST)) {
        struct pollfd wait = {.fd = state->fd, .events = POLLIN};
        SYS5(SYS_ppoll, &wait, 1, NULL, NULL, 8);
        struct uffd_msg message;
        if (os_read(state->fd, &message, sizeof message) == (ssize_t) sizeof message &&
            message.event == UFFD_EVENT_PAGEFAULT)
            serve_message(pf, &message);
    }
}

static int start_resolvers(struct platform *pf)
{
    int result = 0;
    for (int i = 0; i < RESOLVERS && result == 0; i++)
        result = os_thread_start(resolve, pf, "vp-fault");
    return result;
}

static int arm_thread(struct platform *pf, const struct extent *live, size_t n)
{
    (void) live, (void) n;
    struct state *state = pf->state;
    int result = arm(pf, BY_THREAD);
    if (result == 0)
        result = start_resolvers(pf);
    if (result < 0 && state->fd >= 0) { /* nobody would answer */
        hide(pf, false);
        close_both(state);
    }
    return result;
}

static int fork_thread(struct platform *pf, enum platform_fork phase)
{
    if (!fork_common(pf, phase))
        return 0;
    int result = attach(pf, BY_THREAD);
    return or_nothing(pf, result < 0 ? result : start_resolvers(pf));
}

const struct platform_ops platform_uffd_thread = {
    .name = "uffd-thread",
    .on_request = true,
    .probe = probe_thread,
    .reserve = uffd_reserve,
    .release = uffd_release,
    .open = uffd_open,
    .close = uffd_close,
    .arm = arm_thread,
    .populate = uffd_populate,
    .residency = uffd_residency,
    .present_from = uffd_present_from,
    .place = uffd_place,
    .protect = uffd_protect,
    .unprotect = uffd_unprotect,
    .peek = uffd_peek,
    .drop = uffd_drop,
    .zero = uffd_zero,
    .take = uffd_take,
    .staging_clear = uffd_staging_clear,
    .move = uffd_move,
    .swaps = uffd_swaps,
    .decode = uffd_decode,
    .granule = uffd_granule,
    .reclaim = uffd_reclaim,
    .fork = fork_thread,
};
