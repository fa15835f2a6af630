/*
 * work: one pattern of access to one big block of memory, for a time, and what it achieved as a line of JSON.
 *
 *   work --pattern NAME --data KIND --size SIZE [--threads N] [--seconds S] [--warmup S] [--seed N] [--verify]
 *
 * The block is made by malloc and filled with a kind of data (data.h). Threads then access it, all of them all of it
 * (scan and fill: each its share). Each access is timed on its own, and what it read is verified: a wrong word is
 * reported, and the exit status is 1. --verify looks at every word once more in the end.
 *
 * Writes keep the data as compressible as it was. Every thread has a word of its own in each page to write to, so that
 * what is in it is known without locks: the word's original value plus (gups: exclusive or) a byte that `written`
 * keeps.
 */
#include "data.h"
#include "timing.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define THREADS_MAX  8
#define PAGES_MAX    ((size_t)4 << 20) /* 16 GiB */
#define MIB          ((size_t)1 << 20)
#define CHASE_WORD   1                      /* holds the next page of the chase */
#define OWN_WORD(t)  (64 * (size_t)(t) + 9) /* is the thread's own to write to */
#define BATCH        64                     /* updates that gups has in flight */
#define FAULT_NS     1000                   /* an access that took longer was hardly served by memory */
#define ZIPF         0.99
#define HOT_ACCESSES 90 /* per cent of the accesses go to ... */
#define HOT_PAGES    10 /* ... so many per cent of the pages */

struct thread {
    pthread_t handle;
    int number;
    uint64_t random;
    size_t cursor, first, last; /* a sweep goes from first to last */
    uint64_t accesses, sum;
    struct histogram took; /* ticks */
};

struct pattern {
    const char *name;
    size_t (*choose)(struct thread *);       /* a page */
    void (*access)(struct thread *, size_t); /* does, times and verifies it */
    unsigned pages;                          /* touched by one access; 0: a sweep, whose figure is MiB/s */
};

enum phase { FILLING, WARMING, MEASURING, DONE };

static struct {
    const struct pattern *pattern;
    const struct data *data;
    size_t size, threads, seed;
    double seconds, warmup;
    bool verify;
} options = {.threads = 1, .seconds = 4, .warmup = 1, .seed = 1};

/* What the kernel says at one moment. */
struct moment {
    uint64_t ns, ticks, written, swapped_out;
    struct rusage use;
};

static uint64_t (*block)[DATA_WORDS];
static size_t pages;
static struct thread *threads[THREADS_MAX];
static uint8_t written[THREADS_MAX][PAGES_MAX]; /* see above; untouched, it takes no memory */
static _Atomic enum phase phase;
static pthread_barrier_t filled;
static struct {
    double zeta, zeta2, alpha, eta;
} zipf;

/* ---- content ---- */

static void record(struct thread *t, uint64_t start, uint64_t end)
{
    if (phase != MEASURING)
        return;
    t->accesses++;
    histogram_add(&t->took, start, end);
}

static inline size_t random_below(struct thread *t, size_t limit)
{
    return (size_t)((data_hash(t->random++) >> 32) * limit >> 32); /* limits are far below 2^32 */
}

/* Another page for every page, without a pattern; again and again, it visits all of them. A linear congruential
 * generator (Knuth) of as many bits as it takes, whose weak low bits are mixed with the high ones by a step that is its
 * own inverse. */
static size_t shuffled(size_t page)
{
    const unsigned bits = pages > 4 ? 64 - (unsigned)__builtin_clzll(pages - 1) : 2;
    const size_t mask = ((size_t)1 << bits) - 1;
    const unsigned half = (bits + 1) / 2;
    do {
        page ^= page >> half;
        page = (page * 6364136223846793005u + 1442695040888963407u) & mask;
        page ^= page >> half;
    } while (page >= pages);
    return page;
}

static bool is_chase(void)
{
    return !strcmp(options.pattern->name, "chase");
}

static void fill_page(size_t page, uint64_t *to)
{
    options.data->fill(options.seed, page, to);
    if (is_chase())
        to[CHASE_WORD] = shuffled(page);
}

static uint64_t original(size_t page, size_t word)
{
    if (word == CHASE_WORD && is_chase())
        return shuffled(page);
    return options.data->word(options.seed, page, word);
}

static _Noreturn void wrong(size_t page, size_t word, uint64_t got, uint64_t expected)
{
    fprintf(stderr, "work: WRONG DATA: page %zu of %zu, word %zu: %#llx instead of %#llx\n", page, pages, word,
            (unsigned long long)got, (unsigned long long)expected);
    _exit(1);
}

static inline void check(size_t page, size_t word, uint64_t got, uint64_t expected)
{
    if (__builtin_expect(got != expected, false))
        wrong(page, word, got, expected);
}

static inline uint64_t load(size_t page, size_t word)
{
    return *(volatile uint64_t *)&block[page][word];
}

static inline void store(size_t page, size_t word, uint64_t value)
{
    *(volatile uint64_t *)&block[page][word] = value;
}

/* ---- which page ---- */

static size_t choose_next(struct thread *t)
{
    if (t->cursor == t->last)
        t->cursor = t->first;
    return t->cursor++;
}

static size_t choose_any(struct thread *t)
{
    return random_below(t, pages);
}

/* Gray et al., Quickly Generating Billion-Record Synthetic Databases, 1994; as in YCSB. What is used often is spread
 * over the block. */
static size_t choose_zipf(struct thread *t)
{
    const double u = (double)(data_hash(t->random++) >> 11) * 0x1p-53, uz = u * zipf.zeta;
    if (uz < 1)
        return shuffled(0);
    if (uz < zipf.zeta2)
        return shuffled(1);
    const size_t rank = (size_t)((double)pages * pow(zipf.eta * u - zipf.eta + 1, zipf.alpha));
    return shuffled(rank < pages ? rank : pages - 1);
}

static void zipf_init(void)
{
    for (size_t i = 1; i <= pages; i++)
        zipf.zeta += pow(1 / (double)i, ZIPF);
    zipf.zeta2 = 1 + pow(0.5, ZIPF);
    zipf.alpha = 1 / (1 - ZIPF);
    zipf.eta = (1 - pow(2 / (double)pages, 1 - ZIPF)) / (1 - zipf.zeta2 / zipf.zeta);
}

static size_t choose_hot(struct thread *t)
{
    const size_t hot = pages * HOT_PAGES / 100;
    if (random_below(t, 100) < HOT_ACCESSES)
        return shuffled(random_below(t, hot));
    return shuffled(hot + random_below(t, pages - hot));
}

static size_t choose_linked(struct thread *t)
{
    return t->cursor;
}

/* ---- what is done there ---- */

static void read_word(struct thread *t, size_t page)
{
    const size_t word = random_below(t, DATA_WORDS);
    const uint64_t start = ticks(), value = load(page, word), end = ticks();
    record(t, start, end);
    check(page, word, value, original(page, word));
}

static void update_word(struct thread *t, size_t page)
{
    const size_t word = OWN_WORD(t->number);
    uint8_t *const added = &written[t->number][page];
    const uint64_t base = original(page, word), start = ticks(), value = load(page, word);
    store(page, word, base + (uint8_t)(*added + 1));
    record(t, start, ticks());
    check(page, word, value, base + *added);
    ++*added;
}

static void follow_link(struct thread *t, size_t page)
{
    const uint64_t start = ticks(), next = load(page, CHASE_WORD), end = ticks();
    record(t, start, end);
    check(page, CHASE_WORD, next, shuffled(page));
    t->cursor = next;
}

/* Four words are verified: to verify all would take longer than to read them. */
static void read_page(struct thread *t, size_t page)
{
    const uint64_t start = ticks();
    uint64_t sum = 0;
    for (size_t i = 0; i < DATA_WORDS; i++)
        sum += block[page][i];
    t->sum += sum;
    record(t, start, ticks());
    for (size_t i = 0; i < 4; i++) {
        const size_t word = (page + i * DATA_WORDS / 4) % DATA_WORDS;
        check(page, word, load(page, word), original(page, word));
    }
}

static void write_page(struct thread *t, size_t page)
{
    const uint64_t start = ticks();
    fill_page(page, block[page]);
    record(t, start, ticks());
}

/* One access is a batch, as in HPC Challenge's RandomAccess; its updates do not wait for each other. */
static void update_batch(struct thread *t, size_t page)
{
    const size_t word = OWN_WORD(t->number);
    size_t where[BATCH];
    uint64_t found[BATCH], toggles[BATCH];
    for (size_t i = 0; i < BATCH; i++, page = choose_any(t)) {
        where[i] = page;
        toggles[i] = data_hash(t->random) & 0xff;
    }
    const uint64_t start = ticks();
    for (size_t i = 0; i < BATCH; i++) {
        found[i] = load(where[i], word);
        store(where[i], word, found[i] ^ toggles[i]);
    }
    record(t, start, ticks());
    for (size_t i = 0; i < BATCH; i++) {
        check(where[i], word, found[i], original(where[i], word) ^ written[t->number][where[i]]);
        written[t->number][where[i]] ^= (uint8_t)toggles[i];
    }
}

static const struct pattern patterns[] = {
    {"scan", choose_next, read_page, 0},
    {"fill", choose_next, write_page, 0},
    {"random-read", choose_any, read_word, 1},
    {"random-update", choose_any, update_word, 1},
    {"zipf", choose_zipf, read_word, 1},
    {"hot", choose_hot, read_word, 1},
    {"chase", choose_linked, follow_link, 1},
    {"gups", choose_any, update_batch, BATCH},
    {0},
};

/* ---- the run ---- */

static void *run(void *argument)
{
    struct thread *const t = argument;
    const struct pattern *const pattern = options.pattern;
    for (size_t page = t->first; page < t->last; page++)
        fill_page(page, block[page]);
    pthread_barrier_wait(&filled);
    while (phase != DONE)
        pattern->access(t, pattern->choose(t));
    return NULL;
}

/* The number after KEY in FILE, times UNIT; 0 where there is none. */
static uint64_t kernel_figure(const char *file, const char *key, uint64_t unit)
{
    char text[16384];
    FILE *const f = fopen(file, "r");
    if (!f)
        return 0;
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    const char *const found = strstr(text, key);
    return found ? strtoull(found + strlen(key), NULL, 10) * unit : 0;
}

static struct moment now(void)
{
    struct moment m = {
        .written = kernel_figure("/proc/self/io", "\nwrite_bytes: ", 1),
        .swapped_out = kernel_figure("/proc/vmstat", "\npswpout ", (uint64_t)sysconf(_SC_PAGESIZE)),
    };
    getrusage(RUSAGE_SELF, &m.use);
    m.ns = nanoseconds();
    m.ticks = ticks();
    return m;
}

static void wait_for(double seconds)
{
    struct timespec left = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

static void start_threads(void)
{
    pthread_barrier_init(&filled, NULL, (unsigned)options.threads + 1);
    for (size_t i = 0; i < options.threads; i++) {
        struct thread *const t = calloc(1, sizeof *t);
        if (!t)
            exit((perror("work"), 2));
        t->number = (int)i;
        t->random = data_hash(options.seed * THREADS_MAX + i);
        t->first = pages * i / options.threads;
        t->last = pages * (i + 1) / options.threads;
        t->cursor = t->first;
        threads[i] = t;
        if (pthread_create(&t->handle, NULL, run, t))
            exit((fprintf(stderr, "work: no thread\n"), 2));
    }
}

static void verify_all(void)
{
    const bool toggled = options.pattern->access == update_batch;
    for (size_t page = 0; page < pages; page++) {
        uint64_t expected[DATA_WORDS];
        fill_page(page, expected);
        for (size_t i = 0; i < options.threads; i++) {
            const size_t word = OWN_WORD(i);
            expected[word] = toggled ? expected[word] ^ written[i][page] : expected[word] + written[i][page];
        }
        if (memcmp(block[page], expected, DATA_PAGE) == 0)
            continue;
        for (size_t word = 0; word < DATA_WORDS; word++)
            check(page, word, load(page, word), expected[word]);
    }
}

/* ---- the report ---- */

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void print_latency(double ns_per_tick)
{
    static struct histogram all;
    for (size_t i = 0; i < options.threads; i++)
        histogram_merge(&all, &threads[i]->took);
    fputs(", ", stdout);
    histogram_print("access_ns", &all, 0, ns_per_tick);
    fputs(", ", stdout);
    histogram_print("fault_ns", &all, FAULT_NS, ns_per_tick);
}

static void report(double fill_seconds, const struct moment *start, const struct moment *end)
{
    const double seconds = (double)(end->ns - start->ns) / 1e9;
    const unsigned unit = options.pattern->pages ? options.pattern->pages : 1;
    uint64_t accesses = 0;
    for (size_t i = 0; i < options.threads; i++)
        accesses += threads[i]->accesses * unit;
    printf("{\"pattern\": \"%s\", \"data\": \"%s\", \"size\": %zu, \"threads\": %zu, \"seconds\": %.3f",
           options.pattern->name, options.data->name, options.size, options.threads, seconds);
    printf(", \"fill_mib_s\": %.1f, \"accesses\": %llu, \"per_second\": %.1f, \"mib_s\": %.1f",
           (double)options.size / MIB / fill_seconds, (unsigned long long)accesses, (double)accesses / seconds,
           options.pattern->pages ? 0 : (double)accesses * DATA_PAGE / MIB / seconds);
    print_latency((double)(end->ns - start->ns) / (double)(end->ticks - start->ticks));
    printf(", \"user_seconds\": %.3f, \"system_seconds\": %.3f",
           seconds_of(end->use.ru_utime) - seconds_of(start->use.ru_utime),
           seconds_of(end->use.ru_stime) - seconds_of(start->use.ru_stime));
    printf(", \"peak_rss_bytes\": %llu, \"written_bytes\": %llu, \"swapped_out_bytes\": %llu}\n",
           (unsigned long long)end->use.ru_maxrss * 1024, (unsigned long long)(end->written - start->written),
           (unsigned long long)(end->swapped_out - start->swapped_out));
}

/* ---- options ---- */

static _Noreturn void refuse(const char *option, const char *value, const char *allowed)
{
    fprintf(stderr, "work: --%s %s: allowed is %s\n", option, value, allowed);
    exit(2);
}

static size_t parse_size(const char *option, const char *value)
{
    char *end;
    const char *units = "KMGT", *unit;
    errno = 0;
    unsigned long long size = strtoull(value, &end, 10);
    if (*end && (unit = strchr(units, *end))) {
        size <<= 10 * (unit - units + 1);
        end++;
    }
    if (errno || end == value || *end || size < MIB || size / DATA_PAGE > PAGES_MAX)
        refuse(option, value, "a size from 1M to 16G, such as 768M");
    return (size_t)size;
}

static size_t parse_count(const char *option, const char *value, size_t max)
{
    char *end, allowed[64];
    errno = 0;
    const unsigned long long count = strtoull(value, &end, 10);
    snprintf(allowed, sizeof allowed, "a number from 1 to %zu", max);
    if (errno || end == value || *end || !count || count > max)
        refuse(option, value, allowed);
    return (size_t)count;
}

static double parse_seconds(const char *option, const char *value)
{
    char *end;
    const double seconds = strtod(value, &end);
    if (end == value || *end || !(seconds > 0 && seconds <= 86400))
        refuse(option, value, "a number of seconds greater than 0");
    return seconds;
}

static const struct pattern *find_pattern(const char *name)
{
    for (const struct pattern *p = patterns; p->name; p++)
        if (!strcmp(p->name, name))
            return p;
    refuse("pattern", name, "scan, fill, random-read, random-update, zipf, hot, chase, gups");
}

static const struct data *find_data(const char *name)
{
    for (const struct data *d = data_kinds; d->name; d++)
        if (!strcmp(d->name, name))
            return d;
    refuse("data", name, "text, float, heap, zero, random");
}

static void parse(int argc, char **argv)
{
    enum { PATTERN, DATA, SIZE, THREADS, SECONDS, WARMUP, SEED, VERIFY };
    static const struct option known[] = {
        {"pattern", 1, 0, PATTERN}, {"data", 1, 0, DATA},       {"size", 1, 0, SIZE},
        {"threads", 1, 0, THREADS}, {"seconds", 1, 0, SECONDS}, {"warmup", 1, 0, WARMUP},
        {"seed", 1, 0, SEED},       {"verify", 0, 0, VERIFY},   {0},
    };
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;)
        switch (option) {
        case PATTERN:
            options.pattern = find_pattern(optarg);
            break;
        case DATA:
            options.data = find_data(optarg);
            break;
        case SIZE:
            options.size = parse_size("size", optarg);
            break;
        case THREADS:
            options.threads = parse_count("threads", optarg, THREADS_MAX);
            break;
        case SECONDS:
            options.seconds = parse_seconds("seconds", optarg);
            break;
        case WARMUP:
            options.warmup = parse_seconds("warmup", optarg);
            break;
        case SEED:
            options.seed = parse_count("seed", optarg, UINT32_MAX);
            break;
        case VERIFY:
            options.verify = true;
            break;
        default:
            exit(2);
        }
    if (optind != argc || !options.pattern || !options.data || !options.size)
        exit((fputs("work: needs --pattern, --data and --size, and no other arguments\n", stderr), 2));
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    data_init();
    pages = options.size / DATA_PAGE;
    block = malloc(options.size);
    if (!block)
        return perror("work"), 2;
    if (options.pattern->choose == choose_zipf)
        zipf_init();
    const uint64_t begun = nanoseconds();
    start_threads();
    pthread_barrier_wait(&filled);
    const double fill_seconds = (double)(nanoseconds() - begun) / 1e9;
    phase = WARMING;
    wait_for(options.warmup);
    const struct moment start = now();
    phase = MEASURING;
    wait_for(options.seconds);
    phase = DONE;
    const struct moment end = now();
    for (size_t i = 0; i < options.threads; i++)
        pthread_join(threads[i]->handle, NULL);
    if (options.verify)
        verify_all();
    report(fill_seconds, &start, &end);
    return 0;
}
