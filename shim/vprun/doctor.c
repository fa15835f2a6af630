#include "doctor.h"
#include "allocator.h"
#include "lines.h"
#include "../../platform/os.h"
#include "../../platform/platform.h"
#include "../base/text.h"
#include "../process/memory.h"
#include "../tier/spill_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- lines ---- */

#define NAME_WIDTH 24

void line(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("  %-*s ", NAME_WIDTH, name);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

const char *size_text(uint64_t bytes, char buffer[16])
{
    if (bytes == UINT64_MAX)
        return "unknown";
    size_format(bytes, buffer, 16);
    return buffer;
}

void size_line(const char *name, uint64_t bytes)
{
    char buffer[16];
    line(name, "%s", size_text(bytes, buffer));
}

/* ---- trap backends ---- */

static const char *abilities(const struct platform_caps *caps, char *buffer, size_t size)
{
    const struct {
        bool has;
        const char *name;
    } rows[] = {
        {caps->evicts, "evicts"},         {caps->protects, "write-protects"},     {caps->takes, "takes"},
        {caps->batch_drop, "batch-drop"}, {caps->kernel_faults, "kernel-faults"}, {caps->move, "moves"},
    };
    struct text text = text_in(buffer, size);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].has)
            text_addf(&text, "%s%s", text.length ? ", " : "", rows[i].name);
    return text.length ? buffer : "first touches only";
}

static bool print_backend(const struct platform_ops *ops)
{
    struct platform_caps caps = {0};
    char why[256] = "", list[128];
    bool usable = ops->probe(&caps, why, sizeof why) == 0;
    line(ops->name, "%s: %s", usable ? "usable" : "not usable", usable ? abilities(&caps, list, sizeof list) : why);
    return usable;
}

/* Returns whether there is one for --trap=`asked`. */
static bool print_backends(const char *asked)
{
    const char *chosen = NULL;
    bool any = strcmp(asked, "auto") == 0;
    puts("\nTrap backends, the preferred first");
    for (const struct platform_ops *const *ops = platform_backends; *ops; ops++) {
        bool usable = print_backend(*ops);
        if (usable && !chosen && (any ? !(*ops)->on_request : strcmp((*ops)->name, asked) == 0))
            chosen = (*ops)->name;
    }
    line("chosen", "%s (--trap %s)", chosen ? chosen : "none: programs run without paging", asked);
    return chosen != NULL;
}

/* ---- budget and spill ---- */

static void print_spill(const struct options *options)
{
    char why[512];
    line("spill directory", "%s", options->spill);
    print_file_system(options->spill);
    if (options->spill_max == 0)
        line("spill", "off (--spill-max 0)");
    else if (spill_check_directory(options->spill, why, sizeof why) == 0)
        line("spill", "usable");
    else
        line("spill", "not usable: %s", why);
}

static void print_budget(const struct options *options)
{
    char size[16];
    puts("\nBudget and spill");
    if (options->ram)
        line("budget", "%s (--ram)", size_text(options->ram, size));
    else
        line("budget", "%s (80%% of what is available now)", size_text(memory_default_budget(), size));
    print_spill(options);
}

static void print_allocator(void)
{
    char path[512];
    puts("\nSmall objects (--small)");
    if (allocator_find(path, sizeof path))
        line("allocator", "%s", path);
    else
        line("allocator", "none: %s", allocator_none);
}

int doctor_report(const struct options *options)
{
    struct memory_limits limits;
    memory_limits(&limits);
    puts("Hyperion " VP_VERSION);
    print_machine(&limits);
    bool usable = print_backends(options->trap);
    print_budget(options);
    print_allocator();
    return usable ? 0 : 1;
}
