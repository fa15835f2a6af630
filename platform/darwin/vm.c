/*
 * vm.c: virtual memory on Darwin, for its trap backends.
 *
 * Behind its protection the arena is written through a second, read-write view of the same memory, its *alias*:
 * vm_remap() without copying, a chunk at a time. It makes one memory object of the chunk, so that the map's entries
 * merge again after their protections have differed, and fork() copies lazily. A chunk gets its alias before anything
 * in it becomes accessible, once paging is armed; unarmed, nothing is aliased. Children do not inherit aliases: theirs
 * would be a copy apart from their arena.
 *
 * No advice there is sure to leave zeros (MADV_FREE_REUSABLE frees when memory is wanted), so content is wiped through
 * the alias first: what is left then reads as zero, whether it was freed or not. Where there is no alias yet, new
 * memory takes the old one's place; the lock keeps an alias from being made of the old one meanwhile.
 */
#include "vm.h"
#include "../lock.h"
#include "../os.h"
#include "mach.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

#define ALIGNMENT  (UINT64_C(1) << 30)
#define SIZE_FLOOR (UINT64_C(1) << 28)
#define CHUNK      (UINT64_C(1) << 30)

/* What vmmap(1) shows it as. Not one of malloc's tags: those have rules of their own about what can be reused. */
#define MEMORY_TAG VM_MAKE_TAG(VM_MEMORY_APPLICATION_SPECIFIC_1)

/* The kernel has no limit of its own; each entry of a map is about a hundred bytes of kernel memory. */
#define MAPPINGS_MAX (UINT64_C(1) << 20)

static struct {
    struct lock lock;   /* no alias is made, and no memory replaced, while it is held elsewhere */
    uintptr_t base;     /* constant once reserved */
    size_t size;        /* constant once reserved */
    uintptr_t *aliases; /* of each chunk, 0 where there is none; written by the lock's holder, read by any thread */
    bool open;          /* set when paging arms: from then on chunks are aliased */
} arena = {.lock = LOCK_INIT(LOCK_VM)};

/* ---- reserving ---- */

/* Near `wanted`. 0 when refused. */
static uintptr_t map_nothing(uintptr_t wanted, size_t size, int flags)
{
    int saved = errno;
    void *at = mmap((void *) wanted, size, PROT_NONE, flags | MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, MEMORY_TAG, 0);
    errno = saved;
    return at == MAP_FAILED ? 0 : (uintptr_t) at;
}

static void unmap(uintptr_t start, size_t size)
{
    if (size)
        os_unmap((void *) start, size);
}

/* Aligned, of exactly this size, and where it was wished for if the system agrees. 0 when refused. */
static uintptr_t reserve_size(uintptr_t wanted, size_t size)
{
    size_t slack = size < 2 * ALIGNMENT ? 2u << 20 : ALIGNMENT;
    uintptr_t at = wanted ? map_nothing(wanted, size, 0) : 0;
    if (at && at == wanted)
        return at;
    unmap(at, at ? size : 0);
    at = map_nothing(0, size + slack, 0);
    if (!at)
        return 0;
    uintptr_t base = (at + slack - 1) & ~(slack - 1);
    unmap(at, base - at);
    unmap(base + size, at + slack - base);
    return base;
}

int vm_reserve(struct platform *pf)
{
    uintptr_t base = 0;
    size_t size = pf->size;
    while (size >= SIZE_FLOOR && !(base = reserve_size(pf->base, size)))
        size /= 2;
    uintptr_t *aliases = base ? os_map((size / CHUNK + 1) * sizeof *aliases) : NULL;
    if (!aliases) {
        unmap(base, base ? size : 0);
        return -ENOMEM;
    }
    pf->base = arena.base = base;
    pf->size = arena.size = size;
    arena.aliases = aliases;
    return 0;
}

/* ---- aliases ---- */

/* A read-write view of the same memory elsewhere. 0 when refused. */
static uintptr_t alias_new(uintptr_t start, size_t length)
{
    vm_address_t alias = 0;
    vm_prot_t now, most;
    if (vm_remap(mach_task_self(), &alias, length, 0, VM_FLAGS_ANYWHERE | MEMORY_TAG, mach_task_self(), start, false, &now,
                 &most, VM_INHERIT_NONE) != KERN_SUCCESS)
        return 0;
    int saved = errno, result = mprotect((void *) alias, length, PROT_READ | PROT_WRITE);
    errno = saved;
    if (result == 0)
        return alias;
    unmap(alias, length);
    return 0;
}

static bool is_arena(uintptr_t address) { return address - arena.base < arena.size; }

static size_t chunk_of(uintptr_t address) { return (address - arena.base) / CHUNK; }

static uintptr_t chunk_start(uintptr_t address) { return arena.base + chunk_of(address) * CHUNK; }

static size_t chunk_length(uintptr_t address)
{
    size_t left = arena.base + arena.size - chunk_start(address);
    return left < CHUNK ? left : CHUNK;
}

/* How much of the range lies in the chunk of its first byte. */
static size_t within_chunk(uintptr_t address, size_t length)
{
    size_t left = chunk_start(address) + chunk_length(address) - address;
    return length < left ? length : left;
}

static uintptr_t *alias_slot(uintptr_t address) { return &arena.aliases[chunk_of(address)]; }

static void make_alias(uintptr_t address)
{
    lock_acquire(&arena.lock);
    if (!*alias_slot(address))
        __atomic_store_n(alias_slot(address), alias_new(chunk_start(address), chunk_length(address)), __ATOMIC_RELEASE);
    lock_release(&arena.lock);
}

/* Where the byte at `address` is seen, if its chunk has an alias; else 0. */
static uintptr_t alias_of(uintptr_t address)
{
    uintptr_t alias = __atomic_load_n(alias_slot(address), __ATOMIC_ACQUIRE);
    return alias ? alias + (address - chunk_start(address)) : 0;
}

static uintptr_t alias_made(uintptr_t address)
{
    if (!__atomic_load_n(alias_slot(address), __ATOMIC_ACQUIRE))
        make_alias(address);
    return alias_of(address);
}

void vm_release(struct platform *pf)
{
    for (uintptr_t at = arena.base; at < arena.base + arena.size; at += CHUNK)
        unmap(*alias_slot(at), *alias_slot(at) ? chunk_length(at) : 0);
    os_unmap(arena.aliases, (arena.size / CHUNK + 1) * sizeof *arena.aliases);
    unmap(pf->base, pf->size);
    arena.size = 0;
    arena.open = false;
}

/* ---- protection ---- */

static int protect(uintptr_t start, size_t length, int bits)
{
    int saved = errno, result = mprotect((void *) start, length, bits) < 0 ? -errno : 0;
    errno = saved;
    return result;
}

static void advise(uintptr_t start, size_t length, int advice)
{
    int saved = errno;
    madvise((void *) start, length, advice);
    errno = saved;
}

/* What is mapped over part of the arena would keep the alias of what was there. */
int vm_reserve_again(uintptr_t start, size_t length, int protection)
{
    (void) start, (void) length, (void) protection;
    return -ENOTSUP;
}

/* Nothing there is emptied in children. */
int vm_inherit(uintptr_t start, size_t length, enum vm_inheritance inheritance)
{
    static const int how[] = {[VM_COPIED] = VM_INHERIT_COPY, [VM_MISSING] = VM_INHERIT_NONE};
    if (inheritance == VM_ZEROED)
        return -ENOTSUP;
    int saved = errno, result = minherit((void *) start, length, how[inheritance]) < 0 ? -errno : 0;
    errno = saved;
    return result;
}

/* Before a part of the arena can be touched: its chunk has an alias, and the memory counts as ours again. */
static void make_usable(uintptr_t start, size_t length)
{
    for (size_t done = 0, step; done < length; done += step) {
        step = within_chunk(start + done, length - done);
        uintptr_t alias = alias_made(start + done);
        if (alias)
            advise(alias, step, MADV_FREE_REUSE);
    }
}

int vm_protect(uintptr_t start, size_t length, enum vm_protection protection)
{
    static const int bits[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
    if (protection != VM_NONE && is_arena(start) && __atomic_load_n(&arena.open, __ATOMIC_ACQUIRE))
        make_usable(start, length);
    return protect(start, length, bits[protection]);
}

/* ---- discarding ---- */

#define VECTOR 256 /* pages asked about at a time */

/* Zeros where there is content: what was never touched is not touched now. */
static int wipe(uintptr_t start, size_t length)
{
    unsigned char vec[VECTOR];
    size_t page = os_page_size();
    for (size_t at = 0; at < length; at += VECTOR * page) {
        size_t bytes = length - at < VECTOR * page ? length - at : VECTOR * page;
        int result = vm_residency(start + at, bytes, page, vec);
        if (result < 0)
            return result;
        for (size_t i = 0; i < bytes / page; i++)
            if (vec[i])
                memset((void *) (start + at + i * page), 0, page);
    }
    return 0;
}

/* The protection that the range begins with. */
static int protection_of(uintptr_t address)
{
    vm_region_basic_info_data_64_t info;
    mach_msg_type_number_t count = VM_REGION_BASIC_INFO_COUNT_64;
    vm_address_t start = address;
    vm_size_t size;
    mach_port_t object;
    kern_return_t result = vm_region_64(mach_task_self(), &start, &size, VM_REGION_BASIC_INFO_64, (vm_region_info_t) &info,
                                        &count, &object);
    return result == KERN_SUCCESS && start <= address ? info.protection : PROT_NONE;
}

static int replace(uintptr_t start, size_t length)
{
    int bits = protection_of(start);
    if (!map_nothing(start, length, MAP_FIXED))
        return -ENOMEM;
    return bits == PROT_NONE ? 0 : protect(start, length, bits);
}

static int discard_aliased(uintptr_t alias, size_t length)
{
    int result = wipe(alias, length);
    if (result == 0)
        advise(alias, length, MADV_FREE_REUSABLE);
    return result;
}

/* Within one chunk, or outside the arena. */
static int discard_run(uintptr_t start, size_t length)
{
    uintptr_t alias = is_arena(start) ? alias_of(start) : 0;
    if (alias)
        return discard_aliased(alias, length);
    lock_acquire(&arena.lock);
    alias = is_arena(start) ? alias_of(start) : 0;
    int result = alias ? 0 : replace(start, length);
    lock_release(&arena.lock);
    return alias ? discard_aliased(alias, length) : result;
}

int vm_discard(const struct extent *extents, size_t n)
{
    int result = 0;
    for (size_t i = 0; i < n; i++) {
        uintptr_t start = extents[i].start;
        for (size_t done = 0, step; done < extents[i].length; done += step) {
            size_t left = extents[i].length - done;
            step = is_arena(start + done) ? within_chunk(start + done, left) : left;
            int one = discard_run(start + done, step);
            result = result ? result : one;
        }
    }
    return result;
}

bool vm_discard_batches(void) { return false; }

/* ---- pages in general ---- */

uintptr_t vm_present_from(uintptr_t start, size_t length)
{
    (void) length;
    return start;
}

int vm_residency(uintptr_t start, size_t length, size_t unit, unsigned char *vec)
{
    size_t page = os_page_size(), per_unit = unit / page, count = length / page;
    char chunk[VECTOR];
    for (size_t i = 0; i < length / unit; i++)
        vec[i] = 0;
    for (size_t done = 0; done < count;) {
        size_t want = count - done < VECTOR ? count - done : VECTOR;
        int saved = errno, result = mincore((void *) (start + done * page), want * page, chunk) < 0 ? -errno : 0;
        errno = saved;
        if (result < 0)
            return result;
        for (size_t i = 0; i < want; i++, done++)
            if (chunk[i] & (MINCORE_INCORE | MINCORE_PAGED_OUT)) /* a compressed page is paged out, to mincore() */
                vec[done / per_unit] = 1;
    }
    return 0;
}

int vm_populate(uintptr_t start, size_t length)
{
    for (size_t at = 0; at < length; at += os_page_size())
        __atomic_fetch_or((char *) (start + at), 0, __ATOMIC_RELAXED);
    return 0;
}

void vm_never_merge(uintptr_t start, size_t length) { (void) start, (void) length; }

int vm_copy_out(uintptr_t start, void *out, size_t length)
{
    vm_size_t got = 0;
    kern_return_t result = vm_read_overwrite(mach_task_self(), start, length, (vm_address_t) out, &got);
    return result == KERN_SUCCESS && got == length ? 0 : -EFAULT;
}

/* A view that moved would leave its alias behind. */
int vm_move(uintptr_t from, uintptr_t to, size_t length)
{
    (void) from, (void) to, (void) length;
    return -ENOTSUP;
}

int vm_copy_present(uintptr_t from, uintptr_t to, size_t length)
{
    unsigned char vec[VECTOR];
    size_t page = os_page_size();
    for (size_t at = 0; at < length; at += VECTOR * page) {
        size_t bytes = length - at < VECTOR * page ? length - at : VECTOR * page;
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

int vm_behind_open(int *handle)
{
    *handle = 0; /* there is one arena, and nothing to name */
    __atomic_store_n(&arena.open, true, __ATOMIC_RELEASE);
    return 0;
}

void vm_behind_close(int handle)
{
    (void) handle;
    __atomic_store_n(&arena.open, false, __ATOMIC_RELEASE);
}

typedef void copy(uintptr_t view, char *bytes, size_t length);

static void copy_in(uintptr_t view, char *bytes, size_t length) { memcpy((void *) view, bytes, length); }
static void copy_back(uintptr_t view, char *bytes, size_t length) { memcpy(bytes, (const void *) view, length); }

/* Memory that is not the arena's has an alias for the time of the copy. */
static int copy_elsewhere(uintptr_t address, char *bytes, size_t length, copy *move)
{
    size_t page = os_page_size(), before = address % page, all = (before + length + page - 1) & ~(page - 1);
    uintptr_t alias = alias_new(address - before, all);
    if (!alias)
        return -EFAULT;
    move(alias + before, bytes, length);
    unmap(alias, all);
    return 0;
}

static int copy_behind(uintptr_t address, char *bytes, size_t length, copy *move)
{
    if (!is_arena(address))
        return copy_elsewhere(address, bytes, length, move);
    for (size_t done = 0, step; done < length; done += step) {
        uintptr_t alias = alias_made(address + done);
        if (!alias)
            return -ENOMEM;
        step = within_chunk(address + done, length - done);
        move(alias, bytes + done, step);
    }
    return 0;
}

int vm_peek(int handle, uintptr_t address, void *out, size_t length)
{
    (void) handle;
    return copy_behind(address, out, length, copy_back);
}

int vm_poke(int handle, uintptr_t address, const void *content, size_t length)
{
    (void) handle;
    return copy_behind(address, (char *) (uintptr_t) content, length, copy_in);
}

size_t vm_map_limit(void) { return MAPPINGS_MAX; }

void vm_fork(enum platform_fork phase)
{
    if (phase == FORK_BEFORE) {
        lock_acquire(&arena.lock);
        return;
    }
    if (phase == FORK_CHILD) {
        lock_adopt(&arena.lock);
        memset(arena.aliases, 0, (arena.size / CHUNK + 1) * sizeof *arena.aliases); /* they were not inherited */
    }
    lock_release(&arena.lock);
}

/* ---- what a trap was about ---- */

uintptr_t vm_untagged(uint64_t address) { return address & ~(UINT64_C(0xff) << 56); }

#if defined(__x86_64__)
/* The page fault's error code: bit 0 the page was present, bit 1 a write. */
void vm_decode_access(uint32_t error, struct trap *out)
{
    out->present = error & 1;
    out->write = error & 2;
}
#define ACCESS_OF(machine) ((machine)->uc_mcontext->__es.__err)
#else
/* ESR of a data abort: bit 6 a write; fault status 0b0011xx is a permission fault. */
void vm_decode_access(uint32_t syndrome, struct trap *out)
{
    out->write = syndrome & (1 << 6);
    out->present = (syndrome & 0x3c) == 0x0c;
}
#define ACCESS_OF(machine) ((machine)->uc_mcontext->__es.__esr)
#endif

/* si_code says nothing on arm64, and the address may carry a tag in its top byte. */
void vm_decode(const siginfo_t *info, const void *context, struct trap *out)
{
    const ucontext_t *machine = context;
    *out = (struct trap){.address = vm_untagged((uint64_t) info->si_addr)};
    vm_decode_access(ACCESS_OF(machine), out);
}
