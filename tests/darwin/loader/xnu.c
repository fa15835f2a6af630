/* xnu.c: see xnu.h. Layouts are written down here once more, from XNU's sources and not from the shim's. */
#include "xnu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    dprintf(2, "xnu: ");
    vdprintf(2, format, arguments);
    dprintf(2, "\n");
    _exit(99);
}

static struct xnu_counts counts;

struct xnu_counts xnu_counts(void) { return counts; }

static void count(unsigned *counter) { __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST); }

/* ---- threads ---- */

#define THREADS_MAX 64

struct thread {
    struct { /* struct _opaque_pthread_t: what macros of <pthread.h> reach into */
        long signature;
        void *cleanup;
        char rest[64];
    } opaque;
    bool live, receives;
    uint32_t name, port, behaviour, flavor, mask;
    uint64_t fault_address;
    uint32_t fault_error;
};

static struct thread threads[THREADS_MAX];
static __thread struct thread *self;
static void (*introspection)(unsigned, void *, void *, size_t);

static struct thread *thread_new(void)
{
    static uint32_t names = 0x1003;
    for (size_t i = 0; i < THREADS_MAX; i++) {
        bool dead = false;
        if (__atomic_compare_exchange_n(&threads[i].live, &dead, true, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            threads[i] = (struct thread){.live = true, .name = __atomic_fetch_add(&names, 4, __ATOMIC_SEQ_CST)};
            return &threads[i];
        }
    }
    die("too many threads");
}

static struct thread *thread_named(uint32_t name)
{
    for (size_t i = 0; i < THREADS_MAX; i++)
        if (threads[i].live && threads[i].name == name)
            return &threads[i];
    return NULL;
}

static bool lists_late, starts_late;

void xnu_list_late(void) { lists_late = true; }

void xnu_start_late(void) { starts_late = true; }

struct start {
    void *(*run)(void *);
    void *argument;
    struct thread *thread;
};

static void tell(unsigned event)
{
    if (introspection)
        introspection(event, self, NULL, 0);
}

static void *run_thread(void *given)
{
    struct start start = *(struct start *) given;
    free(given);
    self = start.thread;
    tell(2);
    if (starts_late)
        usleep(50000);
    void *result = start.run(start.argument);
    tell(3);
    self->live = false;
    return result;
}

static int x_pthread_create(pthread_t *thread, const void *attributes, void *(*run)(void *), void *argument)
{
    (void) attributes;
    struct start *start = malloc(sizeof *start);
    *start = (struct start){run, argument, thread_new()};
    return pthread_create(thread, NULL, run_thread, start);
}

static void *x_pthread_self(void) { return self; }
static uint32_t x_pthread_mach_thread_np(struct thread *thread) { return thread->name; }
static int x_zero(void) { return 0; }

static void *x_pthread_introspection_hook_install(void *hook)
{
    void *before = (void *) introspection;
    introspection = (void (*)(unsigned, void *, void *, size_t)) hook;
    return before;
}

static int x_task_threads(uint32_t task, uint32_t **list, uint32_t *n)
{
    (void) task;
    if (lists_late)
        usleep(50000);
    *list = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *n = 0;
    for (size_t i = 0; i < THREADS_MAX; i++)
        if (threads[i].live)
            (*list)[(*n)++] = threads[i].name;
    return 0;
}

/* ---- ports and messages ---- */

#define PORTS_MAX   64
#define PORT_FIRST  0x2003u
#define PENDING_MAX 32
#define REPLY_FIRST 0x9003u

enum { KERN_SUCCESS = 0, KERN_INVALID_ADDRESS = 1, KERN_PROTECTION_FAILURE = 2, KERN_INVALID_ARGUMENT = 4, KERN_FAILURE = 5 };
enum { SEND = 1, RECEIVE = 2, PORT_DIED = 0x10004009, INVALID_DEST = 0x10000003 };

struct head {
    uint32_t bits, size, remote, local, voucher;
    int32_t id;
};

struct __attribute__((packed)) descriptor {
    uint32_t name, pad;
    uint16_t pad2;
    uint8_t disposition, type;
};

struct __attribute__((packed)) exception {
    struct head head;
    uint32_t descriptors;
    struct descriptor thread, task;
    uint64_t ndr;
    uint32_t kind, code_count;
    uint64_t code[2];
};

struct __attribute__((packed)) answer {
    struct head head;
    uint64_t ndr;
    int32_t result;
};

_Static_assert(sizeof(struct exception) == 84 && sizeof(struct answer) == 36, "as MIG packs them");

/* A fault that waits for an answer. Its place is its reply port. */
struct pending {
    enum { FREE, QUEUED, TAKEN, DONE } state;
    uint32_t port;
    struct exception message;
    int result;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool ports[PORTS_MAX];
static struct pending pending[PENDING_MAX];

static bool alive(uint32_t port) { return port >= PORT_FIRST && port < PORT_FIRST + PORTS_MAX && ports[port - PORT_FIRST]; }

static int x_mach_port_allocate(uint32_t task, uint32_t right, uint32_t *out)
{
    (void) task, (void) right;
    pthread_mutex_lock(&mutex);
    uint32_t i = 0;
    while (i < PORTS_MAX && ports[i])
        i++;
    ports[i] = true;
    pthread_mutex_unlock(&mutex);
    *out = PORT_FIRST + i;
    return KERN_SUCCESS;
}

/* The receive right goes: who waits there is told, who has sent goes on without an answer. */
static int x_mach_port_mod_refs(uint32_t task, uint32_t port, uint32_t right, int delta)
{
    (void) task;
    if (right != 1 || delta != -1 || !alive(port))
        return KERN_INVALID_ARGUMENT;
    pthread_mutex_lock(&mutex);
    ports[port - PORT_FIRST] = false;
    for (size_t i = 0; i < PENDING_MAX; i++)
        if (pending[i].state == QUEUED && pending[i].port == port) {
            pending[i].state = DONE;
            pending[i].result = KERN_FAILURE;
        }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return KERN_SUCCESS;
}

static struct pending *pending_of(uint32_t reply)
{
    return reply >= REPLY_FIRST && reply < REPLY_FIRST + PENDING_MAX ? &pending[reply - REPLY_FIRST] : NULL;
}

static int send_message(const struct head *head, uint32_t size)
{
    const struct answer *answer = (const void *) head;
    const struct exception *exception = (const void *) head;
    struct pending *waiting = pending_of(head->id == 2505 ? head->remote : head->local);
    if (!waiting || waiting->state != TAKEN)
        die("a message about no fault: id %d", head->id);
    if (head->id == 2505 && size == sizeof *answer && (head->bits & 0x1f) == 18) {
        waiting->state = DONE;
        waiting->result = answer->result;
    } else if (head->id == 2405 && size == sizeof *exception && alive(head->remote) && head->bits == 0x80001213u) {
        waiting->state = QUEUED;
        waiting->port = head->remote;
    } else {
        die("a message that XNU would refuse: id %d, size %u, bits %#x", head->id, size, head->bits);
    }
    return KERN_SUCCESS;
}

static struct pending *queued_at(uint32_t port)
{
    for (size_t i = 0; i < PENDING_MAX; i++)
        if (pending[i].state == QUEUED && pending[i].port == port)
            return &pending[i];
    return NULL;
}

static int receive_message(struct head *head, uint32_t size, uint32_t port)
{
    struct pending *next = NULL;
    self->receives = true;
    while (alive(port) && !(next = queued_at(port)))
        pthread_cond_wait(&changed, &mutex);
    if (!next)
        return PORT_DIED;
    if (size < sizeof next->message + 8)
        die("no room for a message and its trailer");
    next->state = TAKEN;
    next->message.head.local = port;
    memcpy(head, &next->message, sizeof next->message);
    return KERN_SUCCESS;
}

static int x_mach_msg(void *head, int option, uint32_t send_size, uint32_t receive_size, uint32_t port)
{
    pthread_mutex_lock(&mutex);
    int result = option == SEND      ? send_message(head, send_size)
                 : option == RECEIVE ? receive_message(head, receive_size, port)
                                     : INVALID_DEST;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return result;
}

static int x_thread_set_exception_ports(uint32_t name, uint32_t mask, uint32_t port, uint32_t behaviour, uint32_t flavor)
{
    struct thread *thread = thread_named(name);
    if (!thread || mask != 2)
        return KERN_INVALID_ARGUMENT;
    thread->behaviour = behaviour;
    thread->flavor = flavor;
    __atomic_store_n(&thread->port, port, __ATOMIC_SEQ_CST);
    return KERN_SUCCESS;
}

static int x_thread_swap_exception_ports(uint32_t name, uint32_t mask, uint32_t port, uint32_t behaviour, uint32_t flavor,
                                         uint32_t *masks, uint32_t *n, uint32_t *old, uint32_t *behaviours, uint32_t *flavors)
{
    struct thread *thread = thread_named(name);
    if (!thread || *n < 1)
        return KERN_INVALID_ARGUMENT;
    masks[0] = 2;
    old[0] = thread->port;
    behaviours[0] = thread->behaviour;
    flavors[0] = thread->flavor;
    *n = 1;
    return x_thread_set_exception_ports(name, mask, port, behaviour, flavor);
}

struct exception_state {
    uint16_t trap, cpu;
    uint32_t error;
    uint64_t address;
};

static int x_thread_get_state(uint32_t name, int flavor, struct exception_state *out, uint32_t *n)
{
    const struct thread *thread = thread_named(name);
    if (!thread || flavor != 6 || *n < sizeof *out / 4)
        return KERN_INVALID_ARGUMENT;
    *out = (struct exception_state){.trap = 14, .error = thread->fault_error, .address = thread->fault_address};
    return KERN_SUCCESS;
}

/* ---- faults: a message, then a signal ---- */

struct darwin_info {
    int number, error, code, pid;
    uint32_t uid;
    int status;
    uint64_t address, value, band, pad[7];
};

struct darwin_machine {
    struct exception_state exception;
    uint64_t registers[21]; /* rax rbx rcx rdx rdi rsi rbp rsp ... */
};

struct darwin_context {
    int on_stack;
    uint32_t mask;
    uint64_t stack[3];
    void *link;
    uint64_t size;
    struct darwin_machine *machine;
};

struct darwin_action {
    void (*handler)(int, struct darwin_info *, void *);
    uint32_t mask;
    int flags;
};
enum { ACTION_NODEFER = 0x10, ACTION_SIGINFO = 0x40 };

static struct darwin_action actions[32];
static uint8_t tag;

void xnu_tag_next(uint8_t next) { tag = next; }

static bool ask(uint32_t port, uint64_t address, int code)
{
    pthread_mutex_lock(&mutex);
    size_t i = 0;
    while (i < PENDING_MAX && pending[i].state != FREE)
        i++;
    if (i == PENDING_MAX)
        die("too many faults at once");
    pending[i] = (struct pending){
        .state = QUEUED,
        .port = port,
        .message = {.head = {0x80000000u | 18, sizeof(struct exception), REPLY_FIRST + (uint32_t) i, port, 0, 2405},
                    .descriptors = 2,
                    .thread = {.name = self->name, .disposition = 17},
                    .task = {.name = 0x103, .disposition = 17},
                    .kind = 1,
                    .code_count = 2,
                    .code = {(uint64_t) code, address}}};
    count(&counts.messages);
    pthread_cond_broadcast(&changed);
    while (pending[i].state != DONE)
        pthread_cond_wait(&changed, &mutex);
    pending[i].state = FREE;
    bool served = pending[i].result == KERN_SUCCESS;
    pthread_mutex_unlock(&mutex);
    if (!served)
        count(&counts.passed_on);
    return served;
}

static void deliver(int number, uint64_t address, uint64_t sp)
{
    struct darwin_action action = actions[number];
    uint32_t bit = 1u << (number - 1), before = self->mask;
    if (self->mask & bit || (uintptr_t) action.handler == 1)
        die("signal %d blocked or ignored: XNU would raise it for ever", number);
    if (!action.handler)
        _exit(128 + number);
    count(&counts.signals);
    struct darwin_info info = {.number = number, .address = address};
    struct darwin_machine machine = {.exception = {14, 0, self->fault_error, address}, .registers[7] = sp};
    struct darwin_context context = {.mask = before, .machine = &machine};
    self->mask |= action.mask | (action.flags & ACTION_NODEFER ? 0 : bit);
    action.handler(number, &info, &context);
    self->mask = context.mask;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    const greg_t *registers = ((ucontext_t *) context)->uc_mcontext.gregs;
    int code = number == SIGSEGV && info->si_code == SEGV_MAPERR ? KERN_INVALID_ADDRESS : KERN_PROTECTION_FAILURE;
    uint64_t address = (uint64_t) info->si_addr | (uint64_t) tag << 56;
    int saved = errno;
    tag = 0;
    if (self->receives)
        die("a receiver of exceptions faults at %p: nobody could answer", info->si_addr);
    self->fault_address = address;
    self->fault_error = (uint32_t) registers[REG_ERR];
    uint32_t port = __atomic_load_n(&self->port, __ATOMIC_SEQ_CST);
    if (!(alive(port) && ask(port, address, code)))
        deliver(code == KERN_PROTECTION_FAILURE ? XNU_SIGBUS : XNU_SIGSEGV, address, (uint64_t) registers[REG_RSP]);
    errno = saved;
}

static int x_sigaction(int number, const struct darwin_action *action, struct darwin_action *old)
{
    if (old)
        *old = actions[number];
    if (action)
        actions[number] = *action;
    return 0;
}

static int x_pthread_sigmask(int how, const uint32_t *set, uint32_t *old)
{
    uint32_t now = self->mask;
    if (set)
        self->mask = how == 1 ? now | *set : how == 2 ? now & ~*set : *set;
    if (old)
        *old = now;
    return 0;
}

static int x_pthread_kill(void *thread, int number)
{
    (void) thread;
    if (!actions[number].handler)
        _exit(128 + number);
    die("signal %d sent", number);
}

/* ---- memory ---- */

/* What can be mapped twice is a file whose offsets are addresses: memory that was reserved, or is mapped a second
 * time. */
#define ALIASES_MAX 256
#define EVERYWHERE  (INT64_C(1) << 47)

static int memory = -1;
static struct alias {
    uintptr_t at, source;
    size_t size;
} aliases[ALIASES_MAX];

static struct alias *alias_at(uintptr_t at)
{
    for (size_t i = 0; i < ALIASES_MAX; i++)
        if (aliases[i].size && at - aliases[i].at < aliases[i].size)
            return &aliases[i];
    return NULL;
}

static void punch(uintptr_t start, size_t size)
{
    if (fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t) start, (off_t) size) != 0)
        die("memory cannot be freed: %s", strerror(errno));
}

static void *map_memory(uintptr_t at, size_t size, int protection, uintptr_t source)
{
    int flags = MAP_SHARED | MAP_NORESERVE | (at ? MAP_FIXED : 0);
    return mmap((void *) at, size, protection, flags, memory, (off_t) source);
}

enum { X_SHARED = 1, X_FIXED = 0x10, X_ANON = 0x1000 };

static void *x_mmap(void *at, size_t size, int protection, int flags, int fd, int64_t offset)
{
    (void) fd, (void) offset;
    int sharing = flags & X_SHARED ? MAP_SHARED : MAP_PRIVATE;
    if (!(flags & X_ANON))
        die("a file is mapped");
    if (!(flags & X_FIXED)) {
        at = mmap(at, size, protection, sharing | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED || protection != PROT_NONE)
            return at;
    } else if (protection != PROT_NONE) {
        return mmap(at, size, protection, sharing | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
    punch((uintptr_t) at, size);
    return map_memory((uintptr_t) at, size, protection, (uintptr_t) at);
}

static int x_munmap(void *at, size_t size)
{
    struct alias *alias = alias_at((uintptr_t) at);
    if (alias)
        alias->size = 0;
    return munmap(at, size);
}

/* The protection at an address, and whether it is of the file, by /proc. */
static int protection_at(uintptr_t address, bool *ours)
{
    char line[256], bits[5], name[128];
    unsigned long start, end;
    int protection = -1;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        name[0] = 0;
        if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %127s", &start, &end, bits, name) >= 3 && address >= start && address < end) {
            protection = (bits[0] == 'r' ? 1 : 0) | (bits[1] == 'w' ? 2 : 0);
            *ours = strstr(name, "memfd:xnu");
        }
    }
    if (maps)
        fclose(maps);
    return protection;
}

/* Memory of its own becomes memory of the file, with what is in it. */
static void adopt(uintptr_t start, size_t size)
{
    bool ours = false;
    int protection = protection_at(start, &ours);
    if (ours)
        return;
    char *content = malloc(size);
    mprotect((void *) start, size, PROT_READ);
    memcpy(content, (void *) start, size);
    map_memory(start, size, PROT_READ | PROT_WRITE, start);
    memcpy((void *) start, content, size);
    mprotect((void *) start, size, protection);
    free(content);
}

static int x_vm_remap(uint32_t task, uintptr_t *out, size_t size, uintptr_t mask, int flags, uint32_t from, uintptr_t source,
                      int copies, int *now, int *most, uint32_t inheritance)
{
    (void) task, (void) mask, (void) from;
    if (copies || inheritance != 2 || !(flags & 1))
        die("vm_remap: copying %d, inheritance %u, flags %#x", copies, inheritance, flags);
    adopt(source, size);
    bool ours;
    *now = protection_at(source, &ours);
    *most = 7;
    void *at = map_memory(0, size, *now, source); /* as protected as what it shows */
    if (at == MAP_FAILED)
        return KERN_FAILURE;
    madvise(at, size, MADV_DONTFORK);
    size_t i = 0;
    while (i < ALIASES_MAX && aliases[i].size)
        i++;
    if (i == ALIASES_MAX)
        die("too many aliases");
    aliases[i] = (struct alias){(uintptr_t) at, source, size};
    *out = (uintptr_t) at;
    return KERN_SUCCESS;
}

/* Of reusable pages every other one goes, now this one, now that: what is in them must not matter. */
static int x_madvise(void *at, size_t size, int advice)
{
    const struct alias *alias = alias_at((uintptr_t) at);
    if (advice == 8)
        count(&counts.reuse);
    if (advice != 7)
        return 0;
    count(&counts.reusable);
    for (size_t done = counts.reusable % 2 * 4096; alias && done < size; done += 2 * 4096)
        punch(alias->source + ((uintptr_t) at - alias->at) + done, 4096);
    return 0;
}

static int x_mincore(void *at, size_t size, unsigned char *vec)
{
    int result = mincore(at, size, vec);
    for (size_t i = 0; i < size / 4096; i++)
        vec[i] &= 1;
    return result;
}

static int x_vm_region_64(uint32_t task, uintptr_t *start, size_t *size, int flavor, int *info)
{
    bool ours;
    (void) task, (void) size, (void) flavor;
    info[0] = protection_at(*start, &ours);
    return info[0] < 0 ? KERN_INVALID_ADDRESS : KERN_SUCCESS;
}

static int x_vm_read_overwrite(uint32_t task, uintptr_t start, size_t size, uintptr_t to, size_t *got)
{
    struct iovec local = {(void *) to, size}, remote = {(void *) start, size};
    (void) task;
    ssize_t copied = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    *got = copied > 0 ? (size_t) copied : 0;
    return copied < 0 ? KERN_INVALID_ADDRESS : KERN_SUCCESS;
}

/* ---- the life of the machine ---- */

static void after_fork_child(void)
{
    pthread_mutex_init(&mutex, NULL);
    pthread_cond_init(&changed, NULL);
    memset(ports, 0, sizeof ports);
    memset(pending, 0, sizeof pending);
    memset(aliases, 0, sizeof aliases);
    memset(&counts, 0, sizeof counts);
    for (size_t i = 0; i < THREADS_MAX; i++)
        threads[i].live = &threads[i] == self;
    self->port = 0;
}

void xnu_boot(void)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER};
    action.sa_sigaction = on_fault;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    memory = memfd_create("xnu", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, EVERYWHERE) != 0)
        die("no memory: %s", strerror(errno));
    self = thread_new();
    pthread_atfork(NULL, NULL, after_fork_child); /* the first: the image's handlers find the child as it is */
}

void xnu_thread(pthread_t *thread, void *(*run)(void *), void *argument) { x_pthread_create(thread, NULL, run, argument); }

uint32_t xnu_thread_port(void) { return self->port; }

/* What is in memory, once: an alias is no second memory. */
uint64_t xnu_footprint(void)
{
    struct stat status;
    char line[256];
    unsigned long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "RssAnon: %lu", &kilobytes);
    if (file)
        fclose(file);
    return kilobytes * 1024 + (fstat(memory, &status) == 0 ? (uint64_t) status.st_blocks * 512 : 0);
}

bool xnu_receiver_has_port(void)
{
    for (size_t i = 0; i < THREADS_MAX; i++)
        if (threads[i].live && threads[i].receives && threads[i].port)
            return true;
    return false;
}

void xnu_mask(uint32_t mask) { self->mask = mask; }

static void (*handlers[32])(int, void *, void *);

static void call_plainly(int number, struct darwin_info *info, void *context) { handlers[number](number, info, context); }

void xnu_handle(int number, void (*handler)(int, void *, void *))
{
    handlers[number] = handler;
    actions[number] = (struct darwin_action){.flags = ACTION_SIGINFO | ACTION_NODEFER};
    actions[number].handler = (uintptr_t) handler > 1 ? call_plainly
                                                       : (void (*)(int, struct darwin_info *, void *)) (uintptr_t) handler;
}

struct foreign {
    uint32_t port;
    void (*mend)(uintptr_t);
};

static void *answer_foreign(void *given)
{
    struct foreign foreign = *(struct foreign *) given;
    struct __attribute__((packed)) {
        struct exception message;
        char trailer[64];
    } buffer;
    struct exception *message = &buffer.message;
    while (x_mach_msg(message, RECEIVE, 0, sizeof buffer, foreign.port) == KERN_SUCCESS) {
        count(&counts.foreign);
        foreign.mend(message->code[1]);
        struct answer answer = {.head = {18, sizeof answer, message->head.remote, 0, 0, 2505}, .result = KERN_SUCCESS};
        x_mach_msg(&answer, SEND, sizeof answer, 0, 0);
    }
    return NULL;
}

void xnu_foreign_port(uint32_t behaviour, void (*mend)(uintptr_t))
{
    static struct foreign foreign;
    pthread_t thread;
    foreign.mend = mend;
    x_mach_port_allocate(0, 1, &foreign.port);
    x_pthread_create(&thread, NULL, answer_foreign, &foreign);
    self->behaviour = behaviour;
    self->port = foreign.port;
}

/* ---- imports ---- */

static uint32_t task_self = 0x103;

void *xnu_import(const char *symbol)
{
#define X(name) {"_" #name, (void *) x_##name}
    static const struct {
        const char *symbol;
        void *address;
    } table[] = {
        X(mach_msg), X(mach_port_allocate), X(mach_port_mod_refs), X(madvise), X(mincore), X(mmap), X(munmap),
        X(pthread_create), X(pthread_introspection_hook_install), X(pthread_kill), X(pthread_mach_thread_np),
        X(pthread_self), X(pthread_sigmask), X(sigaction), X(task_threads), X(thread_get_state),
        X(thread_set_exception_ports), X(thread_swap_exception_ports), X(vm_read_overwrite), X(vm_region_64), X(vm_remap),
        {"_mach_task_self_", &task_self},
        {"_mach_port_insert_right", (void *) x_zero},
        {"_mach_port_deallocate", (void *) x_zero},
        {"_pthread_attr_init", (void *) x_zero},
        {"_pthread_attr_destroy", (void *) x_zero},
        {"_pthread_attr_setdetachstate", (void *) x_zero},
        {"_pthread_attr_setstacksize", (void *) x_zero},
        {"_pthread_setname_np", (void *) x_zero},
        {"_sigprocmask", (void *) x_pthread_sigmask},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].symbol, symbol) == 0)
            return table[i].address;
    return NULL;
}
