#include "memory.h"

#include "../../platform/os.h"
#include "../base/text.h"
#include "memory_root.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

/* All but memory_resident() and memory_page_tables() stay out of the fault path. A thread of the program's with a stack of 16 KiB may be asking,
 * though: a few of these are alive at once, and must fit. */
#pragma GCC diagnostic ignored "-Wframe-larger-than="
#define NAME_SIZE  1024
#define LINES_SIZE 2048

#define UNLIMITED UINT64_MAX

/* Version 1 says "unlimited" with the largest page counter, which depends on the page size: anything from here on. */
#define ABSURD (1ull << 62)

/* ---- lines and fields of kernel text files ---- */

struct lines {
    int fd;
    size_t at, end;
    char buffer[LINES_SIZE];
};

static bool lines_open(struct lines *lines, const char *root, const char *path)
{
    char name[NAME_SIZE];
    struct text text = text_in(name, sizeof name);
    text_addf(&text, "%s%s", root, path);
    lines->fd = os_open(name, O_RDONLY, 0);
    lines->at = lines->end = 0;
    return lines->fd >= 0;
}

/* Moves what is left to the front and reads more. Returns false at the end of the file. */
static bool lines_fill(struct lines *lines)
{
    lines->end -= lines->at;
    memmove(lines->buffer, lines->buffer + lines->at, lines->end);
    lines->at = 0;
    ssize_t n = os_read(lines->fd, lines->buffer + lines->end, sizeof lines->buffer - 1 - lines->end);
    if (n <= 0)
        return false;
    lines->end += (size_t)n;
    return true;
}

/* The next line without its newline, or NULL, and then the file is closed. A line that is too long comes in pieces. */
static char *lines_next(struct lines *lines)
{
    char *newline;
    do {
        newline = memchr(lines->buffer + lines->at, '\n', lines->end - lines->at);
    } while (!newline && lines->end - lines->at < sizeof lines->buffer - 1 && lines_fill(lines));
    if (lines->at == lines->end) {
        os_close(lines->fd);
        return NULL;
    }
    char *line = lines->buffer + lines->at;
    char *end = newline ? newline : lines->buffer + lines->end;
    *end = '\0';
    lines->at = (size_t)(end - lines->buffer) + (newline ? 1 : 0);
    return line;
}

/* The decimal number after blanks; UNLIMITED when there is none ("max"). */
static uint64_t number_at(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    if (*p < '0' || *p > '9')
        return UNLIMITED;
    uint64_t number = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        number = number * 10 + (uint64_t)(*p - '0');
    return number;
}

static const char *after(const char *line, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(line, prefix, n) == 0 ? line + n : NULL;
}

/* Cuts off the text before the next `separator` and moves *rest behind it; the last field ends with the line. */
static char *next_field(char **rest, char separator)
{
    char *field = *rest;
    char *end = strchr(field, separator);
    if (end) {
        *end = '\0';
        *rest = end + 1;
    } else {
        *rest = field + strlen(field);
    }
    return field;
}

/* Whether the comma-separated `list` has `word` in it. */
static bool list_has(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)) != NULL; p += n) {
        bool starts = p == list || p[-1] == ',';
        bool ends = p[n] == '\0' || p[n] == ',';
        if (starts && ends)
            return true;
    }
    return false;
}

/* ---- the memory cgroup ---- */

/* What the two versions call the same things. */
struct hierarchy {
    unsigned version;
    const char *type; /* of its file system */
    const char *limits[2];
    const char *usage;
    const char *reclaimable; /* a key of memory.stat, children included */
};

static const struct hierarchy hierarchies[] = {
    /* Above memory.high a group is not killed but throttled to a crawl: as good as a limit. */
    {2, "cgroup2", {"memory.max", "memory.high"}, "memory.current", "inactive_file "},
    {1, "cgroup", {"memory.limit_in_bytes", NULL}, "memory.usage_in_bytes", "total_inactive_file "},
};

/* A line of /proc/self/mountinfo, its fields cut apart. */
struct mount {
    char *root;  /* the directory of the hierarchy that is mounted */
    char *point; /* where */
    char *type;
    char *options; /* of the file system: the controllers */
};

/* mountinfo writes blanks, newlines and backslashes as three octal digits (proc(5)). */
static void undo_octal(char *name)
{
    char *to = name;
    for (char *p = name; *p; to++) {
        if (p[0] == '\\' && p[1] && p[2] && p[3]) {
            *to = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
            p += 4;
        } else {
            *to = *p++;
        }
    }
    *to = '\0';
}

/* "36 35 0:30 ROOT POINT rw,nosuid shared:9 - TYPE SOURCE OPTIONS" */
static bool mount_parse(char *line, struct mount *out)
{
    char *tail = strstr(line, " - ");
    if (!tail)
        return false;
    *tail = '\0';
    tail += 3;
    for (int i = 0; i < 3; i++)
        next_field(&line, ' ');
    out->root = next_field(&line, ' ');
    out->point = next_field(&line, ' ');
    out->type = next_field(&tail, ' ');
    next_field(&tail, ' ');
    out->options = tail;
    undo_octal(out->root);
    undo_octal(out->point);
    return true;
}

static const struct hierarchy *mount_hierarchy(const struct mount *mount)
{
    for (size_t i = 0; i < sizeof hierarchies / sizeof *hierarchies; i++) {
        const struct hierarchy *h = &hierarchies[i];
        if (strcmp(mount->type, h->type) == 0 && (h->version == 2 || list_has(mount->options, "memory")))
            return h;
    }
    return NULL;
}

/* This process's place in the hierarchy: "9:cpu,memory:PATH" (version 1), "0::PATH" (version 2). */
static bool own_group(const char *root, const struct hierarchy *hierarchy, struct text *path)
{
    struct lines lines;
    bool found = false;
    if (!lines_open(&lines, root, "/proc/self/cgroup"))
        return false;
    for (char *line; (line = lines_next(&lines)) != NULL;) {
        char *id = next_field(&line, ':');
        char *controllers = next_field(&line, ':');
        bool ours = hierarchy->version == 2 ? strcmp(id, "0") == 0 : list_has(controllers, "memory");
        if (ours && !found) {
            text_add(path, line);
            found = true;
        }
    }
    return found;
}

static uint64_t read_number(const char *directory, const char *name)
{
    char path[NAME_SIZE], content[64];
    struct text text = text_in(path, sizeof path);
    text_addf(&text, "%s/%s", directory, name);
    return os_read_file(path, content, sizeof content) > 0 ? number_at(content) : UNLIMITED;
}

static uint64_t read_reclaimable(const char *directory, const char *key)
{
    struct lines lines;
    uint64_t bytes = 0;
    if (!lines_open(&lines, directory, "/memory.stat"))
        return 0;
    for (const char *line; (line = lines_next(&lines)) != NULL;) {
        const char *value = after(line, key);
        bytes = value ? number_at(value) : bytes;
    }
    return bytes;
}

/* The kernel drops inactive page cache before it kills: it does not count as used. */
static uint64_t group_usage(const char *directory, const struct hierarchy *hierarchy)
{
    uint64_t usage = read_number(directory, hierarchy->usage);
    uint64_t reclaimable = read_reclaimable(directory, hierarchy->reclaimable);
    if (usage == UNLIMITED)
        return 0;
    return usage > reclaimable ? usage - reclaimable : 0;
}

static void apply_group(const char *directory, const struct hierarchy *hierarchy, struct memory_limits *out)
{
    if (!out->cgroup_version && read_number(directory, hierarchy->usage) != UNLIMITED)
        out->cgroup_version = hierarchy->version;
    for (size_t i = 0; i < 2 && hierarchy->limits[i]; i++) {
        uint64_t limit = read_number(directory, hierarchy->limits[i]);
        if (limit < ABSURD && limit < out->cgroup_limit) {
            out->cgroup_limit = limit;
            out->cgroup_usage = group_usage(directory, hierarchy);
            out->cgroup_version = hierarchy->version;
        }
    }
}

/* `path` relative to the mounted directory; "" where it lies outside: then only the mount itself can be seen. */
static const char *below_mount_root(const char *path, const char *mount_root)
{
    const char *rest = strcmp(mount_root, "/") == 0 ? path : after(path, mount_root);
    return rest && *rest == '/' && rest[1] ? rest : "";
}

/*
 * Every group from our own up to the mount limits us. Groups that cannot be seen from here (a container shows its own
 * mount, but the path of the host) have no files to read, so that the walk ends at what is visible.
 */
static void apply_mount(const char *root, const struct mount *mount, const struct hierarchy *hierarchy,
                        struct memory_limits *out)
{
    char group[NAME_SIZE], directory[NAME_SIZE];
    struct text group_text = text_in(group, sizeof group);
    struct text text = text_in(directory, sizeof directory);
    if (!own_group(root, hierarchy, &group_text))
        return;
    text_addf(&text, "%s%s", root, mount->point);
    size_t top = text.length;
    text_add(&text, below_mount_root(group, mount->root));
    for (size_t end = text.length;; end--) {
        if (end == top || directory[end] == '/' || directory[end] == '\0') {
            directory[end] = '\0';
            apply_group(directory, hierarchy, out);
        }
        if (end == top)
            break;
    }
}

static void read_cgroups(const char *root, struct memory_limits *out)
{
    struct lines lines;
    out->cgroup_limit = UNLIMITED;
    out->cgroup_usage = 0;
    out->cgroup_version = 0;
    if (!lines_open(&lines, root, "/proc/self/mountinfo"))
        return;
    for (char *line; (line = lines_next(&lines)) != NULL;) {
        struct mount mount;
        const struct hierarchy *hierarchy = mount_parse(line, &mount) ? mount_hierarchy(&mount) : NULL;
        if (hierarchy)
            apply_mount(root, &mount, hierarchy, out);
    }
}

/* ---- "Name:   1234 kB" files ---- */

struct kilobytes {
    const char *name;
    uint64_t *bytes;
};

static void read_kilobytes(const char *root, const char *path, const struct kilobytes *wanted, size_t n)
{
    struct lines lines;
    if (!lines_open(&lines, root, path))
        return;
    for (const char *line; (line = lines_next(&lines)) != NULL;) {
        for (size_t i = 0; i < n; i++) {
            const char *value = after(line, wanted[i].name);
            if (value)
                *wanted[i].bytes = number_at(value) * 1024;
        }
    }
}

/* ---- the answers ---- */

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void memory_limits_at(const char *root, struct memory_limits *out)
{
    out->ram = out->available = UNLIMITED;
    const struct kilobytes wanted[] = {{"MemTotal:", &out->ram}, {"MemAvailable:", &out->available}};
    read_kilobytes(root, "/proc/meminfo", wanted, 2);
    read_cgroups(root, out);
}

void memory_limits(struct memory_limits *out)
{
    memory_limits_at("", out);
}

uint64_t memory_hundred_percent_of(const struct memory_limits *limits)
{
    return smaller(limits->ram, limits->cgroup_limit);
}

uint64_t memory_hundred_percent(void)
{
    struct memory_limits limits;
    memory_limits(&limits);
    return memory_hundred_percent_of(&limits);
}

uint64_t memory_default_budget_of(const struct memory_limits *limits)
{
    uint64_t left = limits->cgroup_limit;
    if (left != UNLIMITED)
        left -= smaller(left, limits->cgroup_usage);
    return smaller(limits->available, left) / 5 * 4;
}

uint64_t memory_default_budget(void)
{
    struct memory_limits limits;
    memory_limits(&limits);
    return memory_default_budget_of(&limits);
}

static void read_use(const char *root, const char *path, struct memory_use *out)
{
    *out = (struct memory_use){0};
    const struct kilobytes wanted[] = {
        {"VmRSS:", &out->resident}, {"VmHWM:", &out->peak_resident}, {"VmPTE:", &out->page_tables}};
    read_kilobytes(root, path, wanted, 3);
}

void memory_use_at(const char *root, struct memory_use *out)
{
    read_use(root, "/proc/self/status", out);
}

/* thread-self below, not self: that is the main thread, which may have ended before the process does. */
void memory_use(struct memory_use *out)
{
    read_use("", "/proc/thread-self/status", out);
}

uint64_t memory_resident(void)
{
    static struct os_proc_file statm = {.path = "/proc/thread-self/statm"};
    for (int tries = 0; tries < 2; tries++) {
        char content[128];
        ssize_t length = os_proc_read(&statm, content, sizeof content - 1, 0);
        content[length > 0 ? length : 0] = 0;
        const char *resident = strchr(content, ' ');
        if (resident && number_at(resident) > 0)
            return number_at(resident) * os_page_size();
        os_proc_close(&statm); /* the thread that had opened it is gone */
    }
    return 0;
}

uint64_t memory_page_tables(void)
{
    static struct os_proc_file status = {.path = "/proc/thread-self/status"};
    static char content[4096]; /* one asks at a time: the evictor, which may be a fault on a small stack */
    for (int tries = 0; tries < 2; tries++) {
        ssize_t length = os_proc_read(&status, content, sizeof content - 1, 0);
        content[length > 0 ? length : 0] = 0;
        const char *field = strstr(content, "VmPTE:");
        if (field)
            return number_at(field + strlen("VmPTE:")) * 1024;
        os_proc_close(&status);
    }
    return 0;
}
