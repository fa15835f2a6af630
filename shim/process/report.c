#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "../../platform/os.h"
#include "../base/log.h"
#include "../base/text.h"
#include "../guard/guard.h"
#include "../lifecycle.h"
#include "../vp.h"
#include "memory.h"

static uint64_t get(const uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }

static uint32_t get32(const uint32_t *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }

static void collect_tiers(struct vp_stats *out)
{
    struct engine *engine = &vp.engine;
    struct tier_stats stats;
    if (!__atomic_load_n(&engine->paging, __ATOMIC_ACQUIRE))
        return;
    out->compressed_pages = get(&engine->pool_peak.records);
    out->compressed_bytes = get(&engine->pool_peak.held_bytes);
    out->spilled_pages = get(&engine->spill_peak.records);
    out->spilled_bytes = get(&engine->spill_peak.held_bytes);
    if (engine->spill) {
        engine->spill->ops->stats(engine->spill, &stats);
        out->spill_reads = stats.loads;
        out->spill_writes = stats.stores;
    }
}

/* Where the budget was never divided, it is this process's. */
static void collect_tree(struct vp_stats *out)
{
    bool alone = get32(&vp.tree.processes) == 0;
    out->tree_processes = alone ? 1 : get32(&vp.tree.processes);
    out->tree_bytes = alone ? out->resident_bytes : get(&vp.tree.use);
    out->share_bytes = alone ? out->ram_budget_bytes : get(&vp.tree.share);
}

void report_collect(struct vp_stats *out)
{
    struct engine *engine = &vp.engine;
    struct memory_use use;
    memory_use(&use);
    *out = (struct vp_stats){
        .ram_budget_bytes = get(&vp.budget),
        .arena_bytes = vp.arena.ready ? vp.platform.size : 0,
        .live_bytes = arena_live_bytes(&vp.arena),
        .peak_live_bytes = get(&vp.arena.peak_live),
        .resident_bytes = use.resident,
        .peak_resident_bytes = use.peak_resident,
        .faults = get(&engine->counters.faults),
        .zero_fills = get(&engine->counters.zero_fills),
        .evictions = get(&engine->counters.evictions),
        .rescues = get(&engine->counters.rescues),
        .poisoned_pages = get(&engine->counters.poisoned),
        .pins = get(&engine->counters.pins),
        .fault_ns_p50 = histogram_quantile(&engine->fault_ns, 50),
        .fault_ns_p99 = histogram_quantile(&engine->fault_ns, 99),
        .fault_ns_max = get(&engine->fault_ns.max),
        .armed = __atomic_load_n(&engine->trapping, __ATOMIC_RELAXED),
    };
    collect_tiers(out);
    collect_tree(out);
}

__attribute__((visibility("default"))) int vp_stats(struct vp_stats *out, size_t size)
{
    struct vp_stats all;
    if (!arena_is_here(&vp.arena)) {
        errno = ENOSYS;
        return -1;
    }
    report_collect(&all);
    memset(out, 0, size);
    memcpy(out, &all, size < sizeof all ? size : sizeof all);
    return 0;
}

/* ---- JSON ---- */

/* The path of the program, or what can be known of it. */
static void program_name(char *out, size_t size)
{
    ssize_t length = os_program_path(out, size - 1);
    if (length < 0)
        length = (ssize_t) strnlen(strncpy(out, "?", size - 1), size - 1);
    out[length] = 0;
}

static void add_string(struct text *text, const char *key, const char *value)
{
    text_addf(text, "\"%s\": \"", key);
    text_add_json(text, value);
    text_add(text, "\", ");
}

static void build_json(struct text *text, const struct vp_stats *stats)
{
    char program[1024];
    program_name(program, sizeof program);
    text_add(text, "{");
    add_string(text, "version", VP_VERSION);
    text_addf(text, "\"pid\": %u, ", (uint64_t) os_process_id());
    add_string(text, "program", program);
    add_string(text, "trap", vp.platform.ops ? vp.platform.ops->name : "none");
    text_addf(text, "\"armed\": %s, ", stats->armed ? "true" : "false");
#define NUMBER(name) text_addf(text, "\"" #name "\": %u, ", (uint64_t) stats->name)
    NUMBER(ram_budget_bytes);
    NUMBER(arena_bytes);
    NUMBER(live_bytes);
    NUMBER(peak_live_bytes);
    NUMBER(resident_bytes);
    NUMBER(peak_resident_bytes);
    NUMBER(faults);
    NUMBER(zero_fills);
    NUMBER(evictions);
    NUMBER(rescues);
    NUMBER(compressed_pages);
    NUMBER(compressed_bytes);
    NUMBER(spilled_pages);
    NUMBER(spilled_bytes);
    NUMBER(spill_reads);
    NUMBER(spill_writes);
    NUMBER(poisoned_pages);
    NUMBER(pins);
    NUMBER(tree_processes);
    NUMBER(tree_bytes);
    NUMBER(share_bytes);
#undef NUMBER
    add_string(text, "guard", guard_name());
    text_addf(text, "\"stopped_calls\": %u, ", __atomic_load_n(&guard.stopped, __ATOMIC_RELAXED));
    add_string(text, "self_test", vp.self_test);
    text_addf(text, "\"fault_ns\": {\"p50\": %u, \"p99\": %u, \"max\": %u}}\n", stats->fault_ns_p50, stats->fault_ns_p99,
              stats->fault_ns_max);
}

/* Replaces %p by the process id. */
static void expand_path(const char *pattern, char *out, size_t size)
{
    struct text text = text_in(out, size);
    for (const char *at = pattern; *at; at++) {
        char one[2] = {*at, 0};
        if (at[0] == '%' && at[1] == 'p') {
            text_add_u64(&text, os_process_id());
            at++;
        } else {
            text_add(&text, one);
        }
    }
}

static void write_stats(const struct vp_stats *stats)
{
    char buffer[4096], path[OPTION_TEXT_MAX + 32];
    struct text text = text_in(buffer, sizeof buffer);
    build_json(&text, stats);
    if (strcmp(vp.options.stats, "-") == 0) {
        log_raw(buffer, text.length);
        return;
    }
    expand_path(vp.options.stats, path, sizeof path);
    /* One write to a file opened for appending: the lines of several processes do not mix. */
    int fd = os_open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0 || os_write(fd, buffer, text.length) != (ssize_t) text.length)
        log_warn("statistics cannot be written to %s", path);
    if (fd >= 0)
        os_close(fd);
}

/* ---- for people ---- */

/* What the large blocks and mappings cannot have been of the peak. */
static uint64_t outside(const struct vp_stats *stats)
{
    return stats->peak_resident_bytes > stats->peak_live_bytes ? stats->peak_resident_bytes - stats->peak_live_bytes : 0;
}

/* Below this nobody needs paging. */
#define WORTH_PAGING (UINT64_C(64) << 20)

static bool mostly_outside(const struct vp_stats *stats)
{
    return stats->peak_resident_bytes >= WORTH_PAGING && outside(stats) > stats->peak_resident_bytes / 2;
}

static void add_outside(struct text *text, const struct vp_stats *stats)
{
    if (mostly_outside(stats))
        text_addf(text, "  outside     at least %z of the peak were small objects%s\n", outside(stats),
                  vp.options.small ? "" : ": with --small they are paged too");
}

static void write_summary(const struct vp_stats *stats)
{
    char buffer[2048], program[1024];
    struct text text = text_in(buffer, sizeof buffer);
    program_name(program, sizeof program);
    text_addf(&text, "vp[%u]: summary of %s\n", (uint64_t) os_process_id(), program);
    text_addf(&text, "  memory      peak %z resident (budget %z), peak %z in large blocks\n", stats->peak_resident_bytes,
              stats->ram_budget_bytes, stats->peak_live_bytes);
    add_outside(&text, stats);
    text_addf(&text, "  paging      %s by %s; %u faults (p50 %u ns, p99 %u ns), %u evictions, %u rescues\n",
              stats->armed ? "armed" : "not needed", vp.platform.ops ? vp.platform.ops->name : "nothing", stats->faults,
              stats->fault_ns_p50, stats->fault_ns_p99, stats->evictions, stats->rescues);
    text_addf(&text, "  compressed  at most %u pages in %z\n", stats->compressed_pages, stats->compressed_bytes);
    text_addf(&text, "  spilled     at most %u pages in %z; %u written, %u read back\n", stats->spilled_pages,
              stats->spilled_bytes, stats->spill_writes, stats->spill_reads);
    text_addf(&text, "  calls       guarded by %s; %u pinned, %u stopped\n", guard_name(), stats->pins,
              __atomic_load_n(&guard.stopped, __ATOMIC_RELAXED));
    if (stats->tree_processes > 1)
        text_addf(&text, "  shared      the budget, by %u processes with %z; this one's share %z\n", stats->tree_processes,
                  stats->tree_bytes, stats->share_bytes);
    if (stats->poisoned_pages)
        text_addf(&text, "  LOST        %u pages could not be read back\n", stats->poisoned_pages);
    log_raw(buffer, text.length);
}

void report_at_exit(void)
{
    if (!vp.options.stats[0] && !vp.options.summary)
        return;
    struct vp_stats stats;
    report_collect(&stats);
    if (vp.options.stats[0])
        write_stats(&stats);
    /* A shell script's hundred small helpers say nothing. */
    if (vp.options.summary && (stats.peak_live_bytes > 0 || mostly_outside(&stats)))
        write_summary(&stats);
}
