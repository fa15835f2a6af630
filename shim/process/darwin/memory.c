/*
 * memory.c: memory.h on Darwin, where a task's footprint is what the system itself holds against a process: memory in
 * use, compressed memory too, but not what was given back as reusable. There are no cgroups.
 */
#include "../memory.h"

#include <mach/mach_host.h>
#include <mach/mach_init.h>
#include <mach/task.h>
#include <mach/task_info.h>
#include <mach/vm_page_size.h>
#include <stddef.h>
#include <sys/sysctl.h>

#define UNLIMITED UINT64_MAX

static uint64_t ram(void)
{
    uint64_t bytes;
    size_t size = sizeof bytes;
    return sysctlbyname("hw.memsize", &bytes, &size, NULL, 0) == 0 ? bytes : UNLIMITED;
}

/* Free, or dropped without being written anywhere. */
static uint64_t available(void)
{
    vm_statistics64_data_t stats;
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    if (host_statistics64(mach_host_self(), HOST_VM_INFO64, (host_info64_t) &stats, &count) != KERN_SUCCESS)
        return UNLIMITED;
    return ((uint64_t) stats.free_count + stats.external_page_count + stats.purgeable_count) * vm_page_size;
}

void memory_limits(struct memory_limits *out)
{
    *out = (struct memory_limits){.ram = ram(), .available = available(), .cgroup_limit = UNLIMITED};
}

uint64_t memory_hundred_percent(void) { return ram(); }

uint64_t memory_default_budget(void) { return available() / 5 * 4; }

static task_vm_info_data_t own_use(void)
{
    task_vm_info_data_t info = {0};
    mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
    task_info(mach_task_self(), TASK_VM_INFO, (task_info_t) &info, &count);
    return info;
}

void memory_use(struct memory_use *out)
{
    task_vm_info_data_t info = own_use();
    *out = (struct memory_use){.resident = info.phys_footprint,
                               .peak_resident = (uint64_t) info.ledger_phys_footprint_peak};
}

uint64_t memory_resident(void) { return own_use().phys_footprint; }

/* In the footprint already. */
uint64_t memory_page_tables(void) { return 0; }
