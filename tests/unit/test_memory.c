/* Memory limits and use (shim/process/memory.h), read from made-up machines. */
#include "../../shim/process/memory_root.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define MEMINFO      "MemTotal:       16777216 kB\nMemFree:         1 kB\nMemAvailable:    8388608 kB\n"
#define V2_MOUNT     "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNT     "33 25 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:15 - cgroup cgroup rw,memory\n"
#define UNLIMITED_V1 "9223372036854771712\n"

static char root[64];
static struct memory_limits limits;

/* Writes root/path, making the directories on the way. */
static void file(const char *path, const char *content)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *p = name + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(name, 0700);
        *p = '/';
    }
    FILE *out = fopen(name, "w");
    cr_assert_not_null(out, "%s", name);
    fputs(content, out);
    fclose(out);
}

static void setup(void)
{
    strcpy(root, "/tmp/hyperion-memory-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
    file("/proc/meminfo", MEMINFO);
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    cr_assert_eq(system(command), 0);
}

static void mounts(const char *mountinfo, const char *own)
{
    file("/proc/self/mountinfo", mountinfo);
    file("/proc/self/cgroup", own);
}

static void read_limits(void)
{
    memory_limits_at(root, &limits);
}

TestSuite(memory, .init = setup, .fini = teardown);

Test(memory, no_cgroup)
{
    read_limits();
    cr_expect_eq(limits.ram, 16 * GIB);
    cr_expect_eq(limits.available, 8 * GIB);
    cr_expect_eq(limits.cgroup_limit, UINT64_MAX);
    cr_expect_eq(limits.cgroup_usage, 0);
    cr_expect_eq(limits.cgroup_version, 0);
}

Test(memory, nothing_readable)
{
    strcat(root, "/none");
    read_limits();
    root[strlen(root) - strlen("/none")] = '\0';
    cr_expect_eq(limits.ram, UINT64_MAX);
    cr_expect_eq(limits.available, UINT64_MAX);
    cr_expect_eq(limits.cgroup_limit, UINT64_MAX);
}

Test(memory, version_2_limit_and_usage)
{
    mounts(V2_MOUNT, "0::/user.slice/job\n");
    file("/sys/fs/cgroup/user.slice/job/memory.max", "2147483648\n");
    file("/sys/fs/cgroup/user.slice/job/memory.current", "1073741824\n");
    file("/sys/fs/cgroup/user.slice/job/memory.stat", "anon 1\nfile 2\ninactive_anon 5\ninactive_file 1048576\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, 2 * GIB);
    cr_expect_eq(limits.cgroup_usage, GIB - MIB);
    cr_expect_eq(limits.cgroup_version, 2);
}

Test(memory, version_2_unlimited)
{
    mounts(V2_MOUNT, "0::/a\n");
    file("/sys/fs/cgroup/a/memory.max", "max\n");
    file("/sys/fs/cgroup/a/memory.high", "max\n");
    file("/sys/fs/cgroup/a/memory.current", "4096\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, UINT64_MAX);
    cr_expect_eq(limits.cgroup_usage, 0);
    cr_expect_eq(limits.cgroup_version, 2);
}

Test(memory, throttling_counts_as_limit)
{
    mounts(V2_MOUNT, "0::/a\n");
    file("/sys/fs/cgroup/a/memory.max", "2147483648\n");
    file("/sys/fs/cgroup/a/memory.high", "1073741824\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, GIB);
}

Test(memory, the_smallest_limit_on_the_way_up_counts)
{
    mounts(V2_MOUNT, "0::/a/b/c\n");
    file("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
    file("/sys/fs/cgroup/a/b/memory.max", "4294967296\n");
    file("/sys/fs/cgroup/a/b/memory.current", "111\n");
    file("/sys/fs/cgroup/a/memory.max", "1073741824\n");
    file("/sys/fs/cgroup/a/memory.current", "222\n");
    file("/sys/fs/cgroup/ab/memory.max", "5\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, GIB);
    cr_expect_eq(limits.cgroup_usage, 222);
}

Test(memory, the_mounts_own_limit_counts)
{
    mounts(V2_MOUNT, "0::/\n");
    file("/sys/fs/cgroup/memory.max", "1073741824\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, GIB);
}

Test(memory, version_1)
{
    mounts(V1_MOUNT, "12:pids:/x\n4:cpu,memory:/job\n0::/\n");
    file("/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED_V1);
    file("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n");
    file("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "536870912\n");
    file("/sys/fs/cgroup/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 1048576\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, GIB);
    cr_expect_eq(limits.cgroup_usage, 511 * MIB);
    cr_expect_eq(limits.cgroup_version, 1);
}

Test(memory, version_1_unlimited)
{
    mounts(V1_MOUNT, "4:memory:/\n");
    file("/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED_V1);
    read_limits();
    cr_expect_eq(limits.cgroup_limit, UINT64_MAX);
}

Test(memory, version_1_other_controllers_are_not_memory)
{
    mounts("33 25 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n", "4:cpu,cpuacct:/job\n");
    file("/sys/fs/cgroup/cpu/job/memory.limit_in_bytes", "5\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, UINT64_MAX);
}

Test(memory, hybrid_takes_the_one_with_the_limit)
{
    mounts("30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n" V1_MOUNT, "4:memory:/m\n0::/u\n");
    file("/sys/fs/cgroup/unified/u/cgroup.procs", "");
    file("/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "1073741824\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, GIB);
    cr_expect_eq(limits.cgroup_version, 1);
}

Test(memory, container_that_mounts_its_own_group)
{
    mounts("33 25 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", "4:memory:/docker/abc\n");
    file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, GIB);
}

Test(memory, group_below_a_nested_mount_root)
{
    mounts("33 25 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
           "4:memory:/docker/abc/child\n");
    file("/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED_V1);
    file("/sys/fs/cgroup/memory/child/memory.limit_in_bytes", "536870912\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, 512 * MIB);
}

Test(memory, group_that_cannot_be_seen_falls_back_to_the_mount)
{
    mounts(V2_MOUNT, "0::/../../elsewhere/job\n");
    file("/sys/fs/cgroup/memory.max", "1073741824\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, GIB);

    mounts("30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/docker/abcdef\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, GIB);
}

Test(memory, mount_point_with_blanks)
{
    mounts("30 23 0:26 / /sys/my\\040groups rw - cgroup2 cgroup rw\n", "0::/a:b\n");
    file("/sys/my groups/a:b/memory.max", "1073741824\n");
    read_limits();
    cr_expect_eq(limits.cgroup_limit, GIB);
}

Test(memory, overlong_lines_are_survived)
{
    static char info[3 * 8192];
    strcpy(info, "29 1 0:25 / / rw - overlay overlay rw,lowerdir=");
    memset(info + strlen(info), 'x', 2 * 8192);
    strcat(info, "\n" V2_MOUNT "garbage\n\n - \n");
    mounts(info, "0::/a\n");
    file("/sys/fs/cgroup/a/memory.max", "1073741824"); /* no newline at the end */
    read_limits();
    cr_expect_eq(limits.cgroup_limit, GIB);
}

Test(memory, reading_leaves_errno_and_descriptors_alone)
{
    mounts(V2_MOUNT V1_MOUNT, "4:memory:/m\n0::/u\n");
    int before = dup(0);
    errno = E2BIG;
    read_limits();
    cr_expect_eq(errno, E2BIG);
    int after = dup(0);
    cr_expect_eq(after, before + 1);
    close(before);
    close(after);
}

Test(memory, hundred_percent_is_the_smaller)
{
    struct memory_limits l = {.ram = 8 * GIB, .available = GIB, .cgroup_limit = UINT64_MAX};
    cr_expect_eq(memory_hundred_percent_of(&l), 8 * GIB);
    l.cgroup_limit = 2 * GIB;
    cr_expect_eq(memory_hundred_percent_of(&l), 2 * GIB);
}

Test(memory, default_budget)
{
    struct memory_limits l = {.ram = 8 * GIB, .available = 5 * GIB, .cgroup_limit = UINT64_MAX};
    cr_expect_eq(memory_default_budget_of(&l), 4 * GIB);
    l.cgroup_limit = 6 * GIB;
    l.cgroup_usage = GIB;
    cr_expect_eq(memory_default_budget_of(&l), 4 * GIB);
    l.cgroup_usage = 5 * GIB;
    cr_expect_eq(memory_default_budget_of(&l), GIB / 5 * 4);
    l.cgroup_usage = 7 * GIB;
    cr_expect_eq(memory_default_budget_of(&l), 0);
}

Test(memory, use_from_status)
{
    struct memory_use use;
    file("/proc/self/status",
         "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t 1 kB\nVmPTE:\t      60 kB\n");
    memory_use_at(root, &use);
    cr_expect_eq(use.resident, MIB);
    cr_expect_eq(use.peak_resident, 2 * MIB);
    cr_expect_eq(use.page_tables, 60 * KIB);
}

Test(memory, this_machine)
{
    struct memory_limits l;
    struct memory_use use;
    memory_limits(&l);
    memory_use(&use);
    cr_expect(l.ram != UINT64_MAX && l.available <= l.ram);
    cr_expect(memory_hundred_percent() <= l.ram);
    cr_expect(memory_default_budget() <= l.ram);
    cr_expect(use.resident > 0 && use.peak_resident >= use.resident);
    cr_expect(memory_resident() > 0);
}
