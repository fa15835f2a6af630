#include "lease.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "../../../platform/linux/syscall.h"
#include "../../../platform/os.h"
#include "../../arena/mapping.h"
#include "../pin.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

/* A vector has at most this many parts (IOV_MAX), messages more: those beyond it are not held. */
#define MANY_PIECES 1024u

/* Parts of a vector that are looked at together: this may run on a stack of the program's. */
#define CHUNK 16u

static bool has_room(struct lease *lease)
{
    if (lease->count < lease->capacity)
        return true;
    if (lease->capacity == MANY_PIECES)
        return false;
    struct lease_piece *many = os_map(MANY_PIECES * sizeof *many);
    if (!many)
        return false;
    memcpy(many, lease->few, sizeof lease->few);
    lease->pieces = many;
    lease->capacity = MANY_PIECES;
    return true;
}

static void take(struct lease *lease, uint64_t address, uint64_t size, bool write)
{
    const void *buffer = (const void *) (uintptr_t) address;
    if (!guard_ours(buffer) || size == 0 || !has_room(lease))
        return;
    size_t pinned = guard_pin(buffer, size < lease->room ? size : lease->room, write);
    if (!pinned)
        return;
    lease->pieces[lease->count++] = (struct lease_piece){buffer, pinned};
    lease->room -= pinned;
    lease->bytes += pinned;
}

/* Reads what an argument points to, wherever that is, even nowhere. By the id of this thread: the main one, whose id is the
 * process's, may have ended. Returns whether all of it could be read. */
static bool fetch(struct lease *lease, uint64_t address, void *out, size_t size)
{
    take(lease, address, size, false);
    struct iovec here = {out, size}, there = {(void *) (uintptr_t) address, size};
    return address && SYS6(SYS_process_vm_readv, os_thread_id(), &here, 1, &there, 1, 0) == (long) size;
}

static void take_vector(struct lease *lease, uint64_t address, uint64_t count, bool write)
{
    struct iovec chunk[CHUNK];
    if (count > MANY_PIECES)
        return; /* the kernel refuses it */
    take(lease, address, count * sizeof *chunk, false);
    for (uint64_t done = 0, n; done < count; done += n) {
        n = count - done < CHUNK ? count - done : CHUNK;
        if (!fetch(lease, address + done * sizeof *chunk, chunk, n * sizeof *chunk))
            return;
        for (uint64_t i = 0; i < n; i++)
            take(lease, (uintptr_t) chunk[i].iov_base, chunk[i].iov_len, write);
    }
}

static void take_message(struct lease *lease, uint64_t address, bool write)
{
    struct msghdr header;
    take(lease, address, sizeof header, write);
    if (!fetch(lease, address, &header, sizeof header))
        return;
    take(lease, (uintptr_t) header.msg_name, header.msg_namelen, write);
    take(lease, (uintptr_t) header.msg_control, header.msg_controllen, write);
    take_vector(lease, (uintptr_t) header.msg_iov, header.msg_iovlen, write);
}

static void take_messages(struct lease *lease, uint64_t address, uint64_t count, bool write)
{
    const size_t size = sizeof(struct mmsghdr);
    count = count < MANY_PIECES ? count : MANY_PIECES;
    take(lease, address, count * size, true); /* their lengths are written in any case */
    for (uint64_t i = 0; i < count && lease->room > 0; i++)
        take_message(lease, address + i * size, write);
}

static void take_length(struct lease *lease, uint64_t address, uint64_t length_address)
{
    unsigned length;
    take(lease, length_address, sizeof length, true);
    if (fetch(lease, length_address, &length, sizeof length))
        take(lease, address, length, true);
}

/* A structure that only the device knows: the words that it begins with may be pointers. */
#define OPAQUE_WORDS  7 /* with the structure itself they fit into a lease's few pieces */
#define OPAQUE_TARGET ((uint64_t) 64 << 10)

static void take_opaque(struct lease *lease, const struct rule *rule, uint64_t address)
{
    uint64_t words[OPAQUE_WORDS];
    size_t bytes = rule->unit < sizeof words ? rule->unit : sizeof words;
    take(lease, address, rule->unit, rule->write);
    if (!fetch(lease, address, words, bytes))
        return;
    for (size_t i = 0; i < bytes / sizeof *words; i++)
        take(lease, words[i], OPAQUE_TARGET, rule->write);
}

/* The kernel gives up what is in memory, of which it knows; what is stored must not come back. Pages that lie only partly in
 * the range stay, where they are larger than the kernel's. */
static void discard(uint64_t start, uint64_t size)
{
    uint64_t mask = vp.platform.page - 1, arena_end = vp.platform.base + vp.platform.size;
    uint64_t end = size < arena_end - start ? start + size : arena_end;
    while (start < end && guard_ours((const void *) (uintptr_t) start)) {
        struct piece piece = mapping_piece(&vp.arena, start, end);
        uint64_t first = (start + mask) & ~mask, last = (start + piece.extent.length) & ~mask;
        if ((piece.kind == RANGE_LIVE || piece.kind == RANGE_MAPPED) && first < last)
            engine_discard(&vp.engine, &(struct extent){first, last - first}, false);
        start += piece.extent.length;
    }
}

/* The kernel takes counts as 32 bits where the program's registers may hold more. */
static uint64_t bits_to_bytes(uint64_t bits) { return ((uint32_t) bits + 63u) / 64u * 8u; }

static void follow(struct lease *lease, const struct rule *rule, const uint64_t *arguments)
{
    uint64_t address = arguments[rule->argument], count = arguments[rule->count], bytes;
    switch ((enum rule_kind) rule->kind) {
    case RULE_NONE:
        return;
    case RULE_FIXED:
        take(lease, address, rule->unit, rule->write);
        return;
    case RULE_COUNTED:
        if (__builtin_mul_overflow(count, rule->unit, &bytes))
            bytes = (uint64_t) (uint32_t) count * rule->unit; /* the kernel takes 32 bits of it */
        take(lease, address, bytes, rule->write);
        return;
    case RULE_TAGGED:
        if (!__builtin_add_overflow(count, sizeof(long), &bytes))
            take(lease, address, bytes, rule->write);
        return;
    case RULE_BITS:
        take(lease, address, bits_to_bytes(count), rule->write);
        return;
    case RULE_DISCARD:
        if (arguments[2] == MADV_DONTNEED || arguments[2] == MADV_DONTNEED_LOCKED || arguments[2] == MADV_FREE)
            discard(address, (count + 4095) & ~UINT64_C(4095));
        return;
    case RULE_OPAQUE:
        take_opaque(lease, rule, address);
        return;
    case RULE_LENGTH:
        take_length(lease, address, count);
        return;
    case RULE_VECTOR:
        take_vector(lease, address, count, rule->write);
        return;
    case RULE_MESSAGE:
        take_message(lease, address, rule->write);
        return;
    case RULE_MESSAGES:
        take_messages(lease, address, (uint32_t) count, rule->write);
        return;
    }
}

void lease_take(struct lease *lease, const struct call *call, const uint64_t arguments[CALL_ARGUMENTS])
{
    lease->room = guard_window();
    lease->bytes = 0;
    lease->count = 0;
    lease->capacity = LEASE_PIECES;
    lease->pieces = lease->few;
    for (size_t i = 0; i < CALL_RULES; i++)
        follow(lease, &call->rules[i], arguments);
}

void lease_end(struct lease *lease)
{
    while (lease->count > 0) {
        const struct lease_piece *piece = &lease->pieces[--lease->count];
        guard_unpin(piece->buffer, piece->size);
    }
    if (lease->pieces != lease->few)
        os_unmap(lease->pieces, MANY_PIECES * sizeof *lease->pieces);
    lease->pieces = lease->few;
    lease->capacity = LEASE_PIECES;
}
