/*
 * system.c: what the system says of itself and of the process, answered into the arena.
 */
#include "hooks.h"
#include "parts.h"

STAND_IN(int, uname, (struct utsname *out), (out), OUT_ONE(out))
STAND_IN(int, sysinfo, (struct sysinfo *out), (out), OUT_ONE(out))
STAND_IN(clock_t, times, (struct tms *out), (out), OUT_ONE(out))
STAND_IN(int, getrusage, (__rusage_who_t who, struct rusage *out), (who, out), OUT_ONE(out))
STAND_IN(int, getrlimit, (__rlimit_resource_t what, struct rlimit *out), (what, out), OUT_ONE(out))
STAND_IN(int, getrlimit64, (__rlimit_resource_t what, struct rlimit64 *out), (what, out), OUT_ONE(out))
STAND_IN(int, setrlimit, (__rlimit_resource_t what, const struct rlimit *limit), (what, limit), IN_ONE(limit))
STAND_IN(int, setrlimit64, (__rlimit_resource_t what, const struct rlimit64 *limit), (what, limit), IN_ONE(limit))
STAND_IN(int, prlimit, (pid_t pid, enum __rlimit_resource what, const struct rlimit *limit, struct rlimit *old),
         (pid, what, limit, old), IN_ONE(limit), OUT_ONE(old))
STAND_IN(int, prlimit64, (pid_t pid, enum __rlimit_resource what, const struct rlimit64 *limit, struct rlimit64 *old),
         (pid, what, limit, old), IN_ONE(limit), OUT_ONE(old))
STAND_IN(int, sched_getaffinity, (pid_t pid, size_t size, cpu_set_t *out), (pid, size, out), OUT(out, size))
STAND_IN(int, sched_setaffinity, (pid_t pid, size_t size, const cpu_set_t *set), (pid, size, set), IN(set, size))
STAND_IN(int, getitimer, (__itimer_which_t which, struct itimerval *out), (which, out), OUT_ONE(out))
STAND_IN(int, setitimer, (__itimer_which_t which, const struct itimerval *value, struct itimerval *old),
         (which, value, old), IN_ONE(value), OUT_ONE(old))
