/* matrix_processes.c: what a process asks the kernel about time, itself and the machine. Values that are never the same
 * twice are only noted as there or not: room() fills with a pattern that none of them has. */
#include "matrix.h"

#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <time.h>

static void note_time(const char *what, long seconds, long right)
{
    note("%s %s", what, seconds >= right - 5 && seconds <= right + 5 ? "right" : "wrong");
}

static void clock_row(void)
{
    struct timespec *const now = ROOM(struct timespec), *const step = ROOM(struct timespec);
    begin();
    outcome("clock_gettime", CALL(clock_gettime, CLOCK_REALTIME, now));
    outcome("clock_getres", CALL(clock_getres, CLOCK_MONOTONIC, step));
    finish();
    note_time("time", now->tv_sec, time(NULL));
    note("step %ld", step->tv_nsec);
}

static void gettimeofday_row(void)
{
    struct timeval *const now = ROOM(struct timeval);
    begin();
    outcome("gettimeofday", CALL(gettimeofday, now, NULL));
    finish();
    note_time("time", now->tv_sec, time(NULL));
}

static void timer_row(void)
{
    const struct itimerval *const given = GIVEN(struct itimerval, {0, 0}, {1000, 0});
    struct itimerval *const old = ROOM(struct itimerval);
    begin();
    outcome("setitimer", CALL(setitimer, ITIMER_VIRTUAL, given, NULL));
    outcome("setitimer", CALL(setitimer, ITIMER_VIRTUAL, given, old));
    finish();
    note_time("timer", old->it_value.tv_sec, 1000);
    CHECK(setitimer(ITIMER_VIRTUAL, &(struct itimerval){0}, NULL) == 0);
}

static void usage_row(void)
{
    struct rusage *const usage = ROOM(struct rusage);
    begin();
    outcome("getrusage", CALL(getrusage, RUSAGE_SELF, usage));
    finish();
    note("usage %s", usage->ru_maxrss > 0 && usage->ru_nivcsw >= 0 ? "there" : "not there");
}

static void limits_row(void)
{
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_CORE, &before) == 0);
    const struct rlimit *const given = GIVEN(struct rlimit, 0, before.rlim_max);
    struct rlimit *const old = ROOM(struct rlimit);
    begin();
    outcome("prlimit64", CALL(prlimit64, 0, RLIMIT_CORE, given, old));
    finish();
    note("old limit %s", memcmp(old, &before, sizeof before) == 0 ? "right" : "wrong");
    CHECK(setrlimit(RLIMIT_CORE, &before) == 0);
}

static void machine_row(void)
{
    struct sysinfo right, *const found = ROOM(struct sysinfo);
    CHECK(sysinfo(&right) == 0);
    begin();
    outcome("sysinfo", CALL(sysinfo, found));
    finish();
    note("memory %s", found->totalram == right.totalram && found->mem_unit == right.mem_unit ? "right" : "wrong");
}

static void uname_row(void)
{
    struct utsname *const name = ROOM(struct utsname);
    begin();
    outcome("uname", CALL(uname, name));
    finish();
    note_bytes("name", name, sizeof *name);
}

static void times_row(void)
{
    struct tms *const found = ROOM(struct tms);
    begin();
    const long result = CALL(times, found);
    finish();
    note("times %s, %s", result > 0 ? "ok" : strerror((int)-result), found->tms_cstime >= 0 ? "there" : "not there");
}

static void random_row(void)
{
    enum { SIZE = 100000 };
    unsigned char *const p = room(SIZE);
    size_t kept = 0;
    begin();
    outcome("getrandom", CALL(getrandom, p, SIZE, 0));
    finish();
    for (size_t i = 0; i + 8 <= SIZE; i += 8)
        kept += memcmp(p + i, "\xa5\xa5\xa5\xa5\xa5\xa5\xa5\xa5", 8) == 0 || memcmp(p + i, "\0\0\0\0\0\0\0\0", 8) == 0;
    note("%zu words not random", kept);
}

static void affinity_row(void)
{
    cpu_set_t right, *const found = GIVEN(cpu_set_t, 0);
    CHECK(sched_getaffinity(0, sizeof right, &right) == 0);
    begin();
    const long result = CALL(sched_getaffinity, 0, sizeof *found, found);
    finish();
    outcome("sched_getaffinity", result);
    note("%s", CPU_EQUAL(&right, found) ? "right" : "wrong");
}

static void pending_row(void)
{
    sigset_t *const found = GIVEN(sigset_t, 0);
    begin();
    outcome("sigpending", CALL(rt_sigpending, found, 8));
    finish();
    note("%d", sigismember(found, SIGUSR2));
}

static void capabilities_row(void)
{
    struct __user_cap_header_struct *const header = GIVEN(struct __user_cap_header_struct, _LINUX_CAPABILITY_VERSION_3,
                                                          0);
    struct __user_cap_data_struct *const data = room(2 * sizeof *data);
    begin();
    outcome("capget", CALL(capget, header, data));
    finish();
    note("%x %x", data[0].effective, data[1].permitted);
}

void rows_processes(void)
{
    static const struct row rows[] = {
        {"clock_gettime", clock_row, 0}, {"gettimeofday", gettimeofday_row, 0},
        {"setitimer", timer_row, 0},     {"getrusage", usage_row, 0},
        {"prlimit64", limits_row, 0},    {"sysinfo", machine_row, 0},
        {"uname", uname_row, 0},         {"times", times_row, 0},
        {"getrandom", random_row, 0},      {"sched_getaffinity", affinity_row, 0},
        {"sigpending", pending_row, 0},  {"capget", capabilities_row, 0},
    };
    RUN_ROWS(rows);
}
