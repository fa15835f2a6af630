/*
 * mappings.c: mmap() and its family.
 *
 * Large private anonymous mappings come from the arena; on arena addresses every call of the family does what the
 * kernel's would. Protections are the kernel's own all the time (platform.h: caps.mappings): pages that the program has
 * made inaccessible trap to the program. What it maps at a fixed address of the arena and is not private anonymous memory
 * is left to the kernel there (FOREIGN), and is not paged.
 *
 * One change at a time: the lock stands for the kernel's own. Other threads may use neighbouring pages meanwhile, also of
 * the same range, so the books never say for a moment that those are not there.
 *
 * Calls made by libc itself, or by the instruction, do not come here: the kernel gives them no arena addresses.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>

#include "../../platform/linux/syscall.h"
#include "../../platform/os.h"
#include "../../platform/vm.h"
#include "../arena/mapping.h"
#include "../guard/linux/devices.h"
#include "../guard/pin.h"
#include "../guard/resident.h"
#include "hooks.h"
#include "mappings.h"
#include "parts.h"
#include "through.h"

#define CALLER __builtin_return_address(0)

#define PAGE_SIZE  UINT64_C(4096)
#define HUGE_PAGE  (UINT64_C(2) << 20)
#define ACCESS     (PROT_READ | PROT_WRITE | PROT_EXEC)
#define AT_ADDRESS (MAP_FIXED | MAP_FIXED_NOREPLACE)

/* What is special about these is not the arena's to give. */
#define SPECIAL (AT_ADDRESS | MAP_HUGETLB | MAP_GROWSDOWN | MAP_STACK | MAP_LOCKED | MAP_32BIT)

/* Who names a lower address wants just that: pointers of 32 bits. Others take what they get. */
#define LOW_ADDRESSES (UINT64_C(4) << 30)

/* As high as pointers of 32 bits that are scaled or based (Java's) never lead: what is asked for here can matter to others. */
#define HIGH_ADDRESSES (UINT64_C(1) << 40)

static uint64_t pages(size_t size) { return (size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1); }

static bool is_odd(uintptr_t address) { return address % PAGE_SIZE; }

static bool serves(void) { return arena_is_here(&vp.arena) && vp.platform.caps.mappings; }

static bool in_arena(uintptr_t start, uint64_t size)
{
    uintptr_t base = vp.platform.base;
    return serves() && start >= base && start - base < vp.platform.size && size <= vp.platform.size - (start - base);
}

static bool touches_arena(uintptr_t start, uint64_t size)
{
    uintptr_t base = vp.platform.base;
    return serves() && start < base + vp.platform.size && start + size > base;
}

/* The thread that arms has the lock, and may allocate meanwhile. */
static bool enter(void)
{
    bool mine = lock_held_by_me(&vp.mappings);
    if (!mine)
        lock_acquire(&vp.mappings);
    return !mine;
}

static void leave(bool entered)
{
    if (entered)
        lock_release(&vp.mappings);
}

/* ---- pieces ---- */

typedef int step(const struct piece *piece, void *context);

/* Does `act` to what there is of [start, start + size), until one answers other than 0. */
static int each_piece(uintptr_t start, uint64_t size, step *act, void *context)
{
    int result = 0;
    for (uintptr_t at = start; at < start + size && result == 0;) {
        struct piece piece = mapping_piece(&vp.arena, at, start + size);
        result = act(&piece, context);
        at += piece.extent.length;
    }
    return result;
}

static bool is_free(enum range_kind kind) { return kind == RANGE_FREE || kind == RANGE_KEPT; }

/* A block of malloc's is not the program's to map over. */
static int refuse_blocks(const struct piece *piece, void *unused)
{
    (void) unused;
    return piece->kind == RANGE_LIVE || piece->kind == RANGE_BUSY ? -EINVAL : 0;
}

static int refuse_all_but_free(const struct piece *piece, void *unused)
{
    (void) unused;
    return is_free(piece->kind) ? 0 : -EEXIST;
}

static bool become(const struct extent *extent, enum range_kind kind, int protection)
{
    return mapping_become(&vp.arena, extent, kind, protection);
}

static int protect(const struct extent *extent, int protection)
{
    return (int) SYS3(SYS_mprotect, extent->start, extent->length, protection & ACCESS);
}

/* What the program has done to a place and an unmap would end, but making it inaccessible and empty does not: advice about
 * forks, protection keys. From then on memory that goes is mapped anew. */
static bool leaves_marks;

static int map_anew(const struct extent *extent, int protection)
{
    return vp.platform.ops->reclaim(&vp.platform, extent->start, extent->length, protection);
}

/* The content goes, in memory and in the tiers. */
static void empty(const struct extent *extent)
{
    if (lifecycle_armed())
        engine_discard(&vp.engine, extent, false);
    else
        vm_discard(extent, 1);
    resident_renew(extent->start, extent->start + extent->length);
}

/* ---- unmapping ---- */

static int unmap_piece(const struct piece *piece, void *unused)
{
    (void) unused;
    const struct extent *extent = &piece->extent;
    switch (piece->kind) {
    case RANGE_MAPPED:
        if (!become(extent, RANGE_BUSY, 0))
            return -ENOMEM;
        resident_forget(extent);
        engine_forget(&vp.engine, extent);
        if (!leaves_marks || map_anew(extent, PROT_NONE) < 0) {
            protect(extent, PROT_NONE); /* where that fails, it is an open place: give() closes or opens it */
            vm_discard(extent, 1);
        }
        return become(extent, RANGE_FREE, 0) ? 0 : -ENOMEM;
    case RANGE_FOREIGN: {
        int result = map_anew(extent, PROT_NONE);
        return result < 0 ? result : become(extent, RANGE_FREE, 0) ? 0 : -ENOMEM;
    }
    case RANGE_RESERVED:
        return become(extent, RANGE_FREE, 0) ? 0 : -ENOMEM;
    default:
        return 0;
    }
}

static int unmap(uintptr_t start, uint64_t size)
{
    int result = each_piece(start, size, refuse_blocks, NULL);
    return result < 0 ? result : each_piece(start, size, unmap_piece, NULL);
}

/* ---- new mappings ---- */

/*
 * A hint is honoured in the arena, where it is free, but most that name one are content with another place, and are paged
 * for it. Who is not gives the place back as it is: from then on hints are the kernel's to honour. Guarded by the lock but
 * for looking.
 */
static struct {
    struct extent offered; /* the last reservation that is not where it was asked for */
    bool insisted;
} hints;

static void note_offer(const struct extent *extent, uintptr_t hint, int protection)
{
    bool elsewhere = hint >= HIGH_ADDRESSES && extent->start && extent->start != hint && protection == PROT_NONE;
    hints.offered = elsewhere ? *extent : (struct extent){0};
}

static void note_refusal(uintptr_t start, uint64_t size)
{
    if (start == hints.offered.start && size == hints.offered.length &&
        mapping_piece(&vp.arena, start, start + size).kind == RANGE_RESERVED)
        __atomic_store_n(&hints.insisted, true, __ATOMIC_RELAXED);
}

static bool is_insisted_on(uintptr_t hint, uint64_t size)
{
    return __atomic_load_n(&hints.insisted, __ATOMIC_RELAXED) && hint >= HIGH_ADDRESSES && !in_arena(hint, size);
}

static bool wanted(uintptr_t hint, uint64_t size, int protection, int flags, const void *caller)
{
    if (!serves() || hooks_in_libc(caller) || size < vp.options.threshold || size > vp.platform.size)
        return false;
    if ((flags & MAP_TYPE) != MAP_PRIVATE || !(flags & MAP_ANONYMOUS) || flags & SPECIAL)
        return false;
    if (protection & ~(PROT_READ | PROT_WRITE) || is_insisted_on(hint, size))
        return false;
    if (protection == PROT_NONE) /* a reservation: one of them must not take what all the others need */
        return size <= vp.platform.size / 4;
    return hint == 0 || hint >= LOW_ADDRESSES;
}

/* Makes an empty RESERVED piece what mmap() was asked for. */
static int give(const struct extent *extent, int protection)
{
    if (protection == PROT_NONE)
        return protect(extent, PROT_NONE);
    if (!become(extent, RANGE_MAPPED, protection))
        return -ENOMEM;
    int result = protect(extent, protection);
    if (result < 0)
        become(extent, RANGE_RESERVED, 0);
    return result;
}

/* Returns the address, or 0: the kernel may do better. */
static uintptr_t map_anywhere(uintptr_t hint, uint64_t size, int protection)
{
    struct extent extent = {.length = size};
    bool entered = enter();
    extent.start = mapping_new(&vp.arena, size, size % HUGE_PAGE ? PAGE_SIZE : HUGE_PAGE, is_odd(hint) ? 0 : hint);
    if (extent.start && give(&extent, protection) < 0) {
        become(&extent, RANGE_FREE, 0);
        extent.start = 0;
    }
    note_offer(&extent, hint, protection);
    leave(entered);
    return extent.start;
}

/* *refused: nothing could back the memory, the kernel is not to be asked. Else MAP_FAILED leaves errno alone. */
static void *map_new(void *hint, uint64_t size, int protection, int flags, bool *refused)
{
    int saved = errno;
    *refused = protection && !(flags & MAP_NORESERVE) && !lifecycle_can_back(size);
    if (*refused) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    uintptr_t start = map_anywhere((uintptr_t) hint, size, protection);
    if (!start)
        return MAP_FAILED;
    if (protection)
        lifecycle_note_growth(); /* before memory is there that does not fit */
    if (flags & MAP_POPULATE && !lifecycle_armed())
        vm_populate(start, size);
    errno = saved;
    return (void *) start;
}

/* ---- mappings at an address of the arena ---- */

struct target {
    enum range_kind kind;
    int protection; /* in the books */
    int access;     /* what the kernel is told */
};

/* Whatever the program has there becomes an empty piece of the new mapping, without a moment in which it is neither. */
static int replace_piece(const struct piece *piece, void *context)
{
    const struct target *target = context;
    bool anew = piece->kind == RANGE_FOREIGN;
    int result = 0;
    if (piece->kind == RANGE_MAPPED) {
        empty(&piece->extent);
        anew = leaves_marks;
    }
    if (anew && !become(&piece->extent, RANGE_BUSY, 0)) /* faults wait until it is watched */
        return -ENOMEM;
    if (anew)
        result = map_anew(&piece->extent, target->access);
    return become(&piece->extent, target->kind, target->protection) ? result : -ENOMEM;
}

/* Private anonymous memory of that kind at an address of the arena, which the hardware lets the program use as `access`
 * says. */
static int map_private_as(uintptr_t start, uint64_t size, struct target target)
{
    int result = each_piece(start, size, replace_piece, &target);
    return result < 0 ? result : protect(&(struct extent){start, size}, target.access);
}

static int map_private_at(uintptr_t start, uint64_t size, int protection)
{
    return map_private_as(start, size, (struct target){protection ? RANGE_MAPPED : RANGE_RESERVED, protection, protection});
}

/* What is there is about to be the kernel's. Faults in it wait. */
static int cede_piece(const struct piece *piece, void *unused)
{
    (void) unused;
    const struct extent *extent = &piece->extent;
    if (piece->kind == RANGE_FOREIGN)
        return 0;
    if (!become(extent, RANGE_BUSY, 0))
        return -ENOMEM;
    if (piece->kind == RANGE_MAPPED) {
        resident_forget(extent);
        engine_forget(&vp.engine, extent);
    }
    return 0;
}

static int settle_foreign(const struct piece *piece, void *unused)
{
    (void) unused;
    return piece->kind == RANGE_FOREIGN || become(&piece->extent, RANGE_FOREIGN, 0) ? 0 : -ENOMEM;
}

/* What was ceded, or is foreign, is the arena's again, empty. */
static int reclaim_piece(const struct piece *piece, void *unused)
{
    (void) unused;
    if (piece->kind != RANGE_FOREIGN && piece->kind != RANGE_BUSY)
        return 0;
    int result = map_anew(&piece->extent, PROT_NONE);
    return result < 0 ? result : become(&piece->extent, RANGE_FREE, 0) ? 0 : -ENOMEM;
}

/* Puts the mapping at `from`, which is the kernel's, where the program wants it. On failure it stays where it is. */
static int put_foreign(uintptr_t from, uintptr_t start, uint64_t size)
{
    int result = mapping_room(&vp.arena) ? each_piece(start, size, cede_piece, NULL) : -ENOMEM;
    if (result == 0) {
        long at = SYS5(SYS_mremap, from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, start);
        result = at == (long) start ? 0 : (int) at;
    }
    if (result == 0)
        result = each_piece(start, size, settle_foreign, NULL);
    else
        each_piece(start, size, reclaim_piece, NULL);
    return result;
}

struct request {
    int protection, flags, fd;
    off64_t offset;
};

/* Made elsewhere first: what the kernel refuses must not have cost what was there. */
static int map_foreign_at(uintptr_t start, uint64_t size, const struct request *request)
{
    long from = SYS6(SYS_mmap, 0, size, request->protection, request->flags & ~AT_ADDRESS, request->fd, request->offset);
    if (from < 0 && from > -4096)
        return (int) from;
    int result = put_foreign((uintptr_t) from, start, size);
    if (result < 0)
        SYS2(SYS_munmap, from, size);
    return result;
}

static bool is_ordinary(const struct request *request)
{
    const int special = MAP_HUGETLB | MAP_GROWSDOWN | MAP_LOCKED;
    return (request->flags & MAP_TYPE) == MAP_PRIVATE && request->flags & MAP_ANONYMOUS && !(request->flags & special) &&
           !(request->protection & ~ACCESS);
}

static int map_at(uintptr_t start, uint64_t size, const struct request *request)
{
    if (is_odd(start) || size == 0)
        return -EINVAL;
    if (!in_arena(start, size))
        return -ENOMEM; /* across the arena's end: nothing that a program could know of */
    bool entered = enter();
    arena_let_go_of_kept(&vp.arena);
    int result = each_piece(start, size, refuse_blocks, NULL);
    if (result == 0 && request->flags & MAP_FIXED_NOREPLACE)
        result = each_piece(start, size, refuse_all_but_free, NULL);
    if (result == 0)
        result = is_ordinary(request) ? map_private_at(start, size, request->protection)
                                      : map_foreign_at(start, size, request);
    leave(entered);
    return result;
}

static void *map(void *address, size_t length, const struct request *request, const void *caller)
{
    uint64_t size = pages(length);
    uintptr_t start = (uintptr_t) address;
    if (!(request->flags & MAP_ANONYMOUS))
        devices_note_mapping(request->fd);
    if (request->flags & AT_ADDRESS && touches_arena(start, size)) {
        int result = map_at(start, size, request);
        if (result == 0 && request->protection)
            lifecycle_note_growth();
        return result == 0 ? address : (void *) answered(result);
    }
    if (size >= length && wanted(start, size, request->protection, request->flags, caller)) {
        bool refused;
        void *mapped = map_new(address, size, request->protection, request->flags, &refused);
        if (mapped != MAP_FAILED || refused)
            return mapped;
    }
    return originals()->mmap64(address, length, request->protection, request->flags, request->fd, request->offset);
}

VP_EXPORT void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    return map(address, length, &(struct request){protection, flags, fd, offset}, CALLER);
}

VP_EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
    return map(address, length, &(struct request){protection, flags, fd, offset}, CALLER);
}

VP_EXPORT int munmap(void *address, size_t length)
{
    uintptr_t start = (uintptr_t) address;
    uint64_t size = pages(length);
    if (!touches_arena(start, size))
        return originals()->munmap(address, length);
    if (is_odd(start) || length == 0 || !in_arena(start, size))
        return (int) answered(-EINVAL);
    bool entered = enter();
    note_refusal(start, size);
    int result = unmap(start, size);
    leave(entered);
    lifecycle_note_growth(); /* for who found the lock taken */
    return (int) answered(result);
}

/* ---- protections ---- */

struct protection_change {
    int protection;
    int key; /* -1: none */
};

static int protect_piece(const struct piece *piece, void *context)
{
    const struct protection_change *change = context;
    const struct extent *extent = &piece->extent;
    if (is_free(piece->kind) || piece->kind == RANGE_BUSY)
        return -ENOMEM;
    if (piece->kind == RANGE_LIVE)
        arena_stop_keeping(&vp.arena); /* a block that is handed out again must be open */
    leaves_marks |= change->key >= 0;
    bool was_reserved = piece->kind == RANGE_RESERVED, opens = was_reserved && change->protection & ACCESS;
    if (opens && !become(extent, RANGE_MAPPED, change->protection & ACCESS)) /* the first touch may be another thread's */
        return -ENOMEM;
    int result = (int) (change->key < 0 ? SYS3(SYS_mprotect, extent->start, extent->length, change->protection)
                                        : SYS4(SYS_pkey_mprotect, extent->start, extent->length, change->protection,
                                               change->key));
    if (opens && result < 0)
        become(extent, RANGE_RESERVED, 0);
    int wiped = piece->protection & MAPPING_WIPED;
    if (result == 0 && piece->kind == RANGE_MAPPED && !become(extent, RANGE_MAPPED, (change->protection & ACCESS) | wiped))
        result = -ENOMEM;
    return result;
}

static int change_protection(void *address, size_t length, struct protection_change change)
{
    uint64_t size = pages(length);
    if (is_odd((uintptr_t) address))
        return -EINVAL;
    if (size == 0)
        return length ? -ENOMEM : 0;
    if (!in_arena((uintptr_t) address, size))
        return -ENOMEM;
    bool entered = enter();
    int result = each_piece((uintptr_t) address, size, protect_piece, &change);
    leave(entered);
    if (result == 0 && change.protection & ACCESS)
        lifecycle_note_growth();
    return result;
}

VP_EXPORT int mprotect(void *address, size_t length, int protection)
{
    if (!touches_arena((uintptr_t) address, pages(length)))
        return originals()->mprotect(address, length, protection);
    return (int) answered(change_protection(address, length, (struct protection_change){protection, -1}));
}

VP_EXPORT int pkey_mprotect(void *address, size_t length, int protection, int key)
{
    if (!touches_arena((uintptr_t) address, pages(length)))
        return originals()->pkey_mprotect(address, length, protection, key);
    return (int) answered(change_protection(address, length, (struct protection_change){protection, key}));
}

/* ---- mremap ---- */

/* The place in the arena for what moves (`wanted_at` 0: anywhere): empty, RESERVED in the books so that nobody's faults
 * fill it, open for the kernel. */
static int make_place(uintptr_t wanted_at, uint64_t size, uintptr_t *place)
{
    const struct target hidden = {RANGE_RESERVED, PROT_NONE, PROT_READ | PROT_WRITE};
    *place = wanted_at ? wanted_at : mapping_new(&vp.arena, size, PAGE_SIZE, 0);
    int result = !*place ? -ENOMEM : wanted_at ? each_piece(wanted_at, size, refuse_blocks, NULL) : 0;
    if (result == 0)
        result = map_private_as(*place, size, hidden);
    if (result < 0 && *place && !wanted_at)
        become(&(struct extent){*place, size}, RANGE_FREE, 0);
    return result;
}

/* The kind of a mapping with that protection that has, or may have, content. */
static int settle(const struct extent *extent, enum range_kind kind, int protection)
{
    if (!become(extent, kind, kind == RANGE_MAPPED ? protection : 0))
        return -ENOMEM;
    return protect(extent, protection);
}

/* Moves [from, from + length), one piece, to `to`, where there are `size` bytes. Pages move between memory that is
 * readable and writable only, and that nobody's faults reach. */
static int move_to(const struct piece *from, uint64_t size, uintptr_t to, bool keep)
{
    const int open = PROT_READ | PROT_WRITE;
    const struct extent *extent = &from->extent;
    if (!become(extent, RANGE_BUSY, 0))
        return -ENOMEM;
    int result = protect(extent, open);
    if (result == 0) {
        resident_forget(extent);
        engine_move(&vp.engine, extent, to);
        result = settle(&(struct extent){to, size}, from->kind, from->protection);
    }
    if (keep && result == 0)
        empty(extent); /* pages that could only be copied are there still */
    if (!become(extent, from->kind, from->protection))
        return -ENOMEM;
    if (keep || result < 0)
        protect(extent, from->protection);
    return keep || result < 0 ? result : unmap(extent->start, extent->length);
}

/* To an address that is not the arena's, on ordinary memory. */
static int move_out(const struct piece *from, uint64_t size, uintptr_t to, bool keep)
{
    const struct extent *extent = &from->extent;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    long at = SYS6(SYS_mmap, to, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at != (long) to)
        return (int) at;
    int result = from->protection & PROT_READ ? 0 : protect(extent, from->protection | PROT_READ);
    for (uint64_t done = 0, held; done < extent->length && result == 0; done += held) {
        char *source = (char *) extent->start + done;
        held = extent->length - done < PAGE_SIZE ? extent->length - done : PAGE_SIZE;
        size_t pinned = guard_pin(source, held, false); /* arming waits for the lock: a mark, or present */
        if (lifecycle_armed() && pinned < held)
            result = -EFAULT;
        else
            memcpy((char *) to + done, source, held);
        guard_unpin(source, pinned);
    }
    SYS3(SYS_mprotect, to, size, from->protection & ACCESS);
    if (from->protection & MAPPING_WIPED)
        SYS3(SYS_madvise, to, size, MADV_WIPEONFORK);
    if (result < 0 || !keep)
        return result < 0 ? result : unmap(extent->start, extent->length);
    empty(extent);
    return protect(extent, from->protection);
}

struct move {
    uintptr_t from, to;
    uint64_t old_size, new_size;
    int flags;
};

static int move_mapping(const struct piece *piece, const struct move *move, uintptr_t *result_at)
{
    bool keep = move->flags & MREMAP_DONTUNMAP;
    bool fixed = move->flags & MREMAP_FIXED;
    *result_at = move->to;
    if (fixed && !touches_arena(move->to, move->new_size))
        return move_out(piece, move->new_size, move->to, keep);
    if (fixed && !in_arena(move->to, move->new_size))
        return -ENOMEM;
    int result = make_place(fixed ? move->to : 0, move->new_size, result_at);
    return result < 0 ? result : move_to(piece, move->new_size, *result_at, keep);
}

/* The place in the arena for what the kernel moves there. */
static int make_room(const struct move *move)
{
    if (!in_arena(move->to, move->new_size))
        return -ENOMEM;
    int result = mapping_room(&vp.arena) ? each_piece(move->to, move->new_size, refuse_blocks, NULL) : -ENOMEM;
    return result < 0 ? result : each_piece(move->to, move->new_size, cede_piece, NULL);
}

/* Lengthens the piece where it is. */
static bool grow_in_place(const struct piece *piece, uint64_t more)
{
    uintptr_t end = piece->extent.start + piece->extent.length;
    if (!in_arena(end, more))
        return false;
    struct piece next = mapping_piece(&vp.arena, end, end + more);
    struct extent extent = {end, more};
    if (next.kind != RANGE_FREE || next.extent.length < more || !become(&extent, RANGE_RESERVED, 0))
        return false;
    bool given = give(&extent, piece->protection) == 0;
    if (!given)
        become(&extent, RANGE_FREE, 0);
    return given;
}

/* What is free after it, up to where it would grow to, becomes a hole that it can grow into. Returns its size. */
static uint64_t make_hole(const struct move *move)
{
    struct extent after = {move->from + move->old_size, move->new_size - move->old_size};
    if (!after.length || !in_arena(after.start, after.length))
        return 0;
    struct piece next = mapping_piece(&vp.arena, after.start, after.start + after.length);
    if (next.kind != RANGE_FREE || next.extent.length < after.length || !mapping_room(&vp.arena) ||
        !become(&after, RANGE_BUSY, 0))
        return 0;
    SYS2(SYS_munmap, after.start, after.length);
    return after.length;
}

/* What of the program's is foreign in the arena moves as the kernel moves it; where it was, the arena is again. */
static int move_foreign(const struct move *move, uintptr_t *result_at)
{
    bool into = move->flags & MREMAP_FIXED && touches_arena(move->to, move->new_size);
    int result = into ? make_room(move) : 0;
    if (result < 0)
        return result;
    uint64_t hole = move->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) ? 0 : make_hole(move);
    long at = SYS5(SYS_mremap, move->from, move->old_size, move->new_size, move->flags, move->to);
    bool failed = at < 0 && at > -4096;
    if (failed && into)
        each_piece(move->to, move->new_size, reclaim_piece, NULL);
    if (failed && hole)
        each_piece(move->from + move->old_size, hole, reclaim_piece, NULL);
    if (failed)
        return (int) at;
    *result_at = (uintptr_t) at;
    if (into)
        each_piece(move->to, move->new_size, settle_foreign, NULL);
    if (*result_at == move->from)
        return hole ? each_piece(move->from + move->old_size, hole, settle_foreign, NULL) : 0;
    return move->flags & MREMAP_DONTUNMAP ? 0 : each_piece(move->from, move->old_size + hole, reclaim_piece, NULL);
}

static int remap(struct move *move, uintptr_t *result_at)
{
    struct piece piece = mapping_piece(&vp.arena, move->from, move->from + move->old_size);
    bool elsewhere = move->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
    *result_at = move->from;
    if (is_free(piece.kind))
        return -EFAULT;
    if (piece.kind == RANGE_LIVE || piece.kind == RANGE_BUSY)
        return -EINVAL;
    if (move->new_size < move->old_size) { /* cut first: what moves has the new size */
        int result = unmap(move->from + move->new_size, move->old_size - move->new_size);
        move->old_size = move->new_size;
        if (result < 0)
            return result;
        piece = mapping_piece(&vp.arena, move->from, move->from + move->old_size);
    }
    if (!elsewhere && move->new_size == move->old_size)
        return 0;
    if (piece.extent.length < move->old_size)
        return -EFAULT;
    if (piece.kind == RANGE_FOREIGN)
        return move_foreign(move, result_at);
    if (!elsewhere && grow_in_place(&piece, move->new_size - move->old_size))
        return 0;
    if (!(move->flags & MREMAP_MAYMOVE))
        return -ENOMEM;
    return move_mapping(&piece, move, result_at);
}

static bool overlaps(const struct move *move)
{
    return move->to < move->from + move->old_size && move->from < move->to + move->new_size;
}

/* What the kernel refuses at once. */
static bool is_nonsense(const struct move *move)
{
    const int known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    return move->flags & ~known || is_odd(move->from) || move->new_size == 0 || move->old_size == 0 ||
           (move->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) && !(move->flags & MREMAP_MAYMOVE)) ||
           (move->flags & MREMAP_DONTUNMAP && move->old_size != move->new_size) ||
           (move->flags & MREMAP_FIXED && (is_odd(move->to) || overlaps(move)));
}

/* Ordinary memory comes to an address of the arena. */
static void *remap_into(void *old, size_t old_length, const struct move *move)
{
    int flags = MREMAP_MAYMOVE | (move->flags & MREMAP_DONTUNMAP);
    if (!in_arena(move->to, move->new_size) || is_odd(move->to))
        return (void *) answered(-EINVAL);
    bool entered = enter();
    arena_let_go_of_kept(&vp.arena);
    long result = each_piece(move->to, move->new_size, refuse_blocks, NULL);
    if (result == 0) { /* to the size that it will have */
        long from = SYS4(SYS_mremap, old, old_length, move->new_size, flags);
        result = from < 0 && from > -4096 ? from : put_foreign((uintptr_t) from, move->to, move->new_size);
    }
    leave(entered);
    return result < 0 ? (void *) answered(result) : (void *) move->to;
}

static void *remap_ours(struct move *move)
{
    uintptr_t at = 0;
    if (is_nonsense(move))
        return (void *) answered(-EINVAL);
    if (!in_arena(move->from, move->old_size))
        return (void *) answered(-EFAULT);
    bool entered = enter();
    arena_let_go_of_kept(&vp.arena);
    int result = remap(move, &at);
    leave(entered);
    if (result < 0)
        return (void *) answered(result);
    lifecycle_note_growth();
    return (void *) at;
}

void *mappings_remap(void *old, size_t old_size, size_t new_size, int flags, void *to)
{
    struct move move = {(uintptr_t) old, flags & MREMAP_FIXED ? (uintptr_t) to : 0, pages(old_size), pages(new_size), flags};
    if (touches_arena(move.from, move.old_size ? move.old_size : 1))
        return remap_ours(&move);
    if (flags & MREMAP_FIXED && touches_arena(move.to, move.new_size))
        return remap_into(old, old_size, &move);
    return originals()->mremap(old, old_size, new_size, flags, to);
}

VP_EXPORT void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    void *to = va_arg(more, void *);
    va_end(more);
    return mappings_remap(old, old_size, new_size, flags, to);
}

/* ---- what forked children find empty ---- */

struct wish {
    bool wipe, hole;
};

static int wipe_piece(const struct piece *piece, void *context)
{
    struct wish *wish = context;
    int advice = wish->wipe ? MADV_WIPEONFORK : MADV_KEEPONFORK;
    bool before = piece->protection & MAPPING_WIPED;
    switch (piece->kind) {
    case RANGE_MAPPED:
    case RANGE_RESERVED: /* there may come to be something in it */
        if (before == wish->wipe)
            return 0;
        return become(&piece->extent, RANGE_MAPPED, piece->protection ^ MAPPING_WIPED) ? 0 : -ENOMEM;
    case RANGE_FOREIGN:
        return (int) SYS3(SYS_madvise, piece->extent.start, piece->extent.length, advice);
    case RANGE_LIVE:
        return wish->wipe ? -EINVAL : 0;
    default:
        wish->hole = true;
        return 0;
    }
}

int mappings_wipe_on_fork(uintptr_t start, uint64_t size, bool wipe)
{
    struct wish wish = {.wipe = wipe};
    bool entered = enter();
    int result = each_piece(start, size, wipe_piece, &wish);
    leave(entered);
    return (int) answered(result == 0 && wish.hole ? -ENOMEM : result);
}

void mappings_note_marks(void) { leaves_marks = true; }

/* ---- what asks whether something is mapped ---- */

bool mappings_have_hole(const void *start, size_t length)
{
    uint64_t size = pages(length);
    return in_arena((uintptr_t) start, size) && !mapping_is_whole(&vp.arena, (uintptr_t) start, size);
}

VP_EXPORT int mincore(void *start, size_t length, unsigned char *vector)
{
    if (mappings_have_hole(start, length))
        return (int) answered(is_odd((uintptr_t) start) ? -EINVAL : -ENOMEM);
    return ALWAYS_HELD(originals()->mincore(start, length, vector), OUT(vector, length / PAGE_SIZE + 1));
}

VP_EXPORT int msync(void *address, size_t length, int flags)
{
    int result = originals()->msync(address, length, flags);
    return result == 0 && mappings_have_hole(address, length) ? (int) answered(-ENOMEM) : result;
}

/* ---- syscall() ---- */

bool mappings_syscall(long number, const uint64_t a[6], long *result)
{
    void *address = (void *) (uintptr_t) a[0];
    switch (number) {
    case SYS_mmap:
        *result = (long) map(address, a[1], &(struct request){(int) a[2], (int) a[3], (int) a[4], (off64_t) a[5]}, NULL);
        return true;
    case SYS_munmap:
        *result = munmap(address, a[1]);
        return true;
    case SYS_mprotect:
        *result = mprotect(address, a[1], (int) a[2]);
        return true;
    case SYS_pkey_mprotect:
        *result = pkey_mprotect(address, a[1], (int) a[2], (int) a[3]);
        return true;
    case SYS_mremap:
        *result = (long) mappings_remap(address, a[1], a[2], (int) a[3], (void *) (uintptr_t) a[4]);
        return true;
    case SYS_madvise:
        *result = madvise(address, a[1], (int) a[2]);
        return true;
    case SYS_prctl:
        if ((int) a[0] == PR_SET_MEMORY_MERGE)
            *result = prctl(PR_SET_MEMORY_MERGE, a[1], a[2], a[3], a[4]);
        return (int) a[0] == PR_SET_MEMORY_MERGE;
    case SYS_msync:
        *result = msync(address, a[1], (int) a[2]);
        return true;
    default:
        return false;
    }
}
