#include "doctor.h"

#include "../../platform/os.h"
#include "../../platform/platform.h"
#include "../base/text.h"
#include "../process/memory.h"
#include "../tier/spill_file.h"

#include "allocator.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- lines ---- */

#define NAME_WIDTH 24

__attribute__((format(printf, 2, 3))) static void line(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("  %-*s ", NAME_WIDTH, name);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

/* A size for a line; the text lives in `buffer`. */
static const char *size_text(uint64_t bytes, char buffer[16])
{
    if (bytes == UINT64_MAX)
        return "unknown";
    size_format(bytes, buffer, 16);
    return buffer;
}

static void size_line(const char *name, uint64_t bytes)
{
    char buffer[16];
    line(name, "%s", size_text(bytes, buffer));
}

/* A setting of the kernel's, without its newline; "" where there is no such file. */
static const char *setting(const char *path, char *buffer, size_t size)
{
    if (os_read_file(path, buffer, size) < 0)
        *buffer = '\0';
    buffer[strcspn(buffer, "\n")] = '\0';
    return buffer;
}

/* ---- the machine ---- */

static void print_kernel(void)
{
    struct utsname name;
    if (uname(&name) == 0)
        line("kernel", "%s %s %s", name.sysname, name.release, name.machine);
    size_line("page size", os_page_size());
}

static void print_memory(const struct memory_limits *limits)
{
    char limit[16], usage[16];
    size_line("RAM", limits->ram);
    size_line("available", limits->available);
    if (limits->cgroup_version == 0)
        line("memory cgroup", "none");
    else if (limits->cgroup_limit == UINT64_MAX)
        line("memory cgroup", "version %u, no limit", limits->cgroup_version);
    else
        line("memory cgroup", "version %u, limit %s, used %s", limits->cgroup_version,
             size_text(limits->cgroup_limit, limit), size_text(limits->cgroup_usage, usage));
}

static void print_overcommit(void)
{
    static const char *const modes[] = {"heuristic", "always", "never: large reservations may be refused"};
    char value[16];
    setting("/proc/sys/vm/overcommit_memory", value, sizeof value);
    bool known = value[0] >= '0' && value[0] <= '2' && !value[1];
    line("overcommit", "%s (%s)", *value ? value : "?", known ? modes[value[0] - '0'] : "unknown");
}

static void print_map_limits(void)
{
    char value[32], size[16];
    struct rlimit space;
    line("mappings at most", "%s (vm.max_map_count)", setting("/proc/sys/vm/max_map_count", value, sizeof value));
    if (getrlimit(RLIMIT_AS, &space) == 0)
        line("address space", "%s (RLIMIT_AS)",
             space.rlim_cur == RLIM_INFINITY ? "unlimited" : size_text(space.rlim_cur, size));
}

/* "always [madvise] never": the one in brackets is in force. */
static void print_huge_pages(void)
{
    char value[128];
    char *mode = strchr(setting("/sys/kernel/mm/transparent_hugepage/enabled", value, sizeof value), '[');
    line("huge pages", "%.*s", mode ? (int)strcspn(mode + 1, "]") : 4, mode ? mode + 1 : "none");
}

static void print_userfaultfd(void)
{
    char value[16];
    setting("/proc/sys/vm/unprivileged_userfaultfd", value, sizeof value);
    line("userfaultfd", "vm.unprivileged_userfaultfd = %s", *value ? value : "absent");
    bool accessible = access("/dev/userfaultfd", R_OK | W_OK) == 0;
    line("/dev/userfaultfd", "%s", accessible ? "accessible" : strerror(errno));
}

static void print_seccomp(void)
{
    static const char *const modes[] = {"off", "strict", "a filter is installed"};
    char status[4096];
    bool readable = os_read_file("/proc/self/status", status, sizeof status) > 0;
    const char *field = readable ? strstr(status, "\nSeccomp:\t") : NULL;
    int mode = field ? field[strlen("\nSeccomp:\t")] - '0' : -1;
    line("seccomp", "%s", mode >= 0 && mode <= 2 ? modes[mode] : "unknown");
    line("no_new_privs", "%s", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? "set" : "not set");
}

/* Whether a filter can be installed, tried in a child: it would be there for good. Returns 0 or an errno value. */
static int try_filter(unsigned long flags)
{
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {1, allow};
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        _exit(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0 ? errno : 0);
    }
    int status = 0;
    bool ended = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status);
    return ended ? WEXITSTATUS(status) : EAGAIN;
}

/* What guard_start() (guard/guard.h) will find. */
static void print_guard(void)
{
    int listener = try_filter(SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC |
                              SECCOMP_FILTER_FLAG_TSYNC_ESRCH);
    int trap = listener ? try_filter(SECCOMP_FILTER_FLAG_TSYNC) : 0;
    if (!listener)
        line("system calls", "a filter with a listener, once paging arms");
    else if (!trap)
        line("system calls", "a filter with signals, once paging arms (no listener: %s)", strerror(listener));
    else
        line("system calls", "libc's functions only: filters are refused (%s)", strerror(trap));
}

static void print_machine(const struct memory_limits *limits)
{
    puts("\nMachine");
    print_kernel();
    print_memory(limits);
    print_overcommit();
    print_map_limits();
    print_huge_pages();
    print_userfaultfd();
    print_seccomp();
    print_guard();
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

static const char *file_system_name(unsigned long type, char buffer[24])
{
    static const struct {
        unsigned long type;
        const char *name;
    } names[] = {
        {EXT4_SUPER_MAGIC, "ext4"}, {XFS_SUPER_MAGIC, "xfs"},   {BTRFS_SUPER_MAGIC, "btrfs"},
        {TMPFS_MAGIC, "tmpfs"},     {RAMFS_MAGIC, "ramfs"},     {OVERLAYFS_SUPER_MAGIC, "overlayfs"},
        {NFS_SUPER_MAGIC, "nfs"},   {F2FS_SUPER_MAGIC, "f2fs"}, {FUSE_SUPER_MAGIC, "fuse"},
        {V9FS_MAGIC, "9p"},         {CIFS_SUPER_MAGIC, "cifs"}, {SMB2_SUPER_MAGIC, "smb2"},
        {CEPH_SUPER_MAGIC, "ceph"}, {0x2fc12fc1, "zfs"},        {0xca451a4e, "bcachefs"},
        {0x0bd00bd0, "lustre"},     {0x47504653, "gpfs"},       {0x19830326, "beegfs"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].type == type)
            return names[i].name;
    snprintf(buffer, 24, "type 0x%lx", type);
    return buffer;
}

static void print_spill(const struct options *options)
{
    struct statfs fs;
    char name[24], size[16], why[512];
    line("spill directory", "%s", options->spill);
    if (statfs(options->spill, &fs) == 0)
        line("spill file system", "%s, %s free", file_system_name((unsigned long)fs.f_type, name),
             size_text(fs.f_bavail * (uint64_t)fs.f_bsize, size));
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
        line("allocator", "none: install " ALLOCATOR_PACKAGES);
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
