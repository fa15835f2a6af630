/*
 * machine.c: what the doctor finds on a Mac.
 */
#include "../lines.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/param.h>
#include <sys/sysctl.h>
#include <sys/utsname.h>

#include "../../../platform/os.h"

/* System Integrity Protection's settings, a bit for each thing that is allowed all the same. */
extern int csr_get_active_config(uint32_t *allowed);

static void print_protection(void)
{
    uint32_t allowed = 0;
    if (csr_get_active_config(&allowed) != 0)
        line("SIP", "unknown");
    else
        line("SIP", "%s (allowed: 0x%x); the system's own programs cannot be shimmed", allowed ? "partly off" : "on",
             allowed);
}

/* Whether this is an Intel program on Apple silicon. */
static void print_translation(void)
{
    int translated = 0;
    size_t size = sizeof translated;
    if (sysctlbyname("sysctl.proc_translated", &translated, &size, NULL, 0) == 0 && translated)
        line("processor", "Intel code, translated by Rosetta");
}

void print_machine(const struct memory_limits *limits)
{
    struct utsname name;
    puts("\nMachine");
    if (uname(&name) == 0)
        line("kernel", "%s %s %s", name.sysname, name.release, name.machine);
    print_translation();
    size_line("page size", os_page_size());
    size_line("RAM", limits->ram);
    size_line("available", limits->available);
    print_protection();
    line("system calls", "stand-ins only: nothing else can see them here");
}

void print_file_system(const char *directory)
{
    struct statfs fs;
    char size[16];
    if (statfs(directory, &fs) == 0)
        line("spill file system", "%s, %s free", fs.f_fstypename, size_text(fs.f_bavail * (uint64_t) fs.f_bsize, size));
}
