#include "calls.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>

#define READS(at, bytes)               {.kind = RULE_FIXED, .argument = (at), .unit = (bytes)}
#define WRITES(at, bytes)              {.kind = RULE_FIXED, .argument = (at), .write = true, .unit = (bytes)}
#define READS_N(at, of, bytes)      {.kind = RULE_COUNTED, .argument = (at), .count = (of), .unit = (bytes)}
#define WRITES_N(at, of, bytes)     {.kind = RULE_COUNTED, .argument = (at), .count = (of), .write = true, .unit = (bytes)}
#define BITS(at, of)               {.kind = RULE_BITS, .argument = (at), .count = (of), .write = true}
#define ROOM(at, of)               {.kind = RULE_LENGTH, .argument = (at), .count = (of), .write = true}
#define READS_TAGGED(at, of)       {.kind = RULE_TAGGED, .argument = (at), .count = (of)}
#define WRITES_TAGGED(at, of)      {.kind = RULE_TAGGED, .argument = (at), .count = (of), .write = true}
#define READS_VECTOR(at, of)       {.kind = RULE_VECTOR, .argument = (at), .count = (of)}
#define WRITES_VECTOR(at, of)      {.kind = RULE_VECTOR, .argument = (at), .count = (of), .write = true}
#define READS_MESSAGE(at)             {.kind = RULE_MESSAGE, .argument = (at)}
#define WRITES_MESSAGE(at)            {.kind = RULE_MESSAGE, .argument = (at), .write = true}
#define READS_MESSAGES(at, of)     {.kind = RULE_MESSAGES, .argument = (at), .count = (of)}
#define WRITES_MESSAGES(at, of)    {.kind = RULE_MESSAGES, .argument = (at), .count = (of), .write = true}

/* A string is at most this long; what of it lies beyond its block is not held. */
#define STRING(at) READS(at, 4096)

/* What an ioctl or a control call does with its argument is known to the device only. */
#define OPAQUE(at) {.kind = RULE_OPAQUE, .argument = (at), .write = true, .unit = 4096}

#define TIME(at)       READS(at, sizeof(struct timespec))
#define TIME_LEFT(at)  WRITES(at, sizeof(struct timespec))
#define SIGNALS(at)    READS(at, 8)

#define CALL(name, ...) [SYS_##name] = {.number = SYS_##name, .rules = {__VA_ARGS__}},

static const struct call calls[] = {
    /* Files by descriptor. */
    CALL(read, WRITES_N(1, 2, 1))
    CALL(write, READS_N(1, 2, 1))
    CALL(pread64, WRITES_N(1, 2, 1))
    CALL(pwrite64, READS_N(1, 2, 1))
    CALL(readv, WRITES_VECTOR(1, 2))
    CALL(writev, READS_VECTOR(1, 2))
    CALL(preadv, WRITES_VECTOR(1, 2))
    CALL(pwritev, READS_VECTOR(1, 2))
    CALL(preadv2, WRITES_VECTOR(1, 2))
    CALL(pwritev2, READS_VECTOR(1, 2))
    CALL(vmsplice, READS_VECTOR(1, 2))
    CALL(sendfile, WRITES(2, 8))
    CALL(splice, WRITES(1, 8), WRITES(3, 8))
    CALL(copy_file_range, WRITES(1, 8), WRITES(3, 8))
    CALL(getdents64, WRITES_N(1, 2, 1))
    CALL(fstat, WRITES(1, sizeof(struct stat)))
    CALL(fstatfs, WRITES(1, sizeof(struct statfs)))
    CALL(fcntl, WRITES(2, sizeof(struct flock)))
    CALL(ioctl, OPAQUE(2))
    CALL(pipe2, WRITES(0, 2 * sizeof(int)))
    CALL(getrandom, WRITES_N(0, 1, 1))

    /* Files by name. */
    CALL(openat, STRING(1))
    CALL(openat2, STRING(1), READS_N(2, 3, 1))
    CALL(newfstatat, STRING(1), WRITES(2, sizeof(struct stat)))
    CALL(statx, STRING(1), WRITES(4, 256))
    CALL(statfs, STRING(0), WRITES(1, sizeof(struct statfs)))
    CALL(faccessat, STRING(1))
    CALL(faccessat2, STRING(1))
    CALL(readlinkat, STRING(1), WRITES_N(2, 3, 1))
    CALL(unlinkat, STRING(1))
    CALL(renameat, STRING(1), STRING(3))
    CALL(renameat2, STRING(1), STRING(3))
    CALL(linkat, STRING(1), STRING(3))
    CALL(symlinkat, STRING(0), STRING(2))
    CALL(mkdirat, STRING(1))
    CALL(mknodat, STRING(1))
    CALL(fchmodat, STRING(1))
    CALL(fchownat, STRING(1))
    CALL(utimensat, STRING(1), READS(2, 2 * sizeof(struct timespec)))
    CALL(truncate, STRING(0))
    CALL(chdir, STRING(0))
    CALL(getcwd, WRITES_N(0, 1, 1))
    CALL(memfd_create, STRING(0))
    CALL(name_to_handle_at, STRING(1), OPAQUE(2), WRITES(3, sizeof(int)))
    CALL(inotify_add_watch, STRING(1))
    CALL(setxattr, STRING(0), STRING(1), READS_N(2, 3, 1))
    CALL(lsetxattr, STRING(0), STRING(1), READS_N(2, 3, 1))
    CALL(fsetxattr, STRING(1), READS_N(2, 3, 1))
    CALL(getxattr, STRING(0), STRING(1), WRITES_N(2, 3, 1))
    CALL(lgetxattr, STRING(0), STRING(1), WRITES_N(2, 3, 1))
    CALL(fgetxattr, STRING(1), WRITES_N(2, 3, 1))
    CALL(listxattr, STRING(0), WRITES_N(1, 2, 1))
    CALL(llistxattr, STRING(0), WRITES_N(1, 2, 1))
    CALL(flistxattr, WRITES_N(1, 2, 1))
    CALL(removexattr, STRING(0), STRING(1))
    CALL(fremovexattr, STRING(1))

    /* Sockets. */
    CALL(sendto, READS_N(1, 2, 1), READS_N(4, 5, 1))
    CALL(recvfrom, WRITES_N(1, 2, 1), ROOM(4, 5))
    CALL(sendmsg, READS_MESSAGE(1))
    CALL(recvmsg, WRITES_MESSAGE(1))
    CALL(sendmmsg, READS_MESSAGES(1, 2))
    CALL(recvmmsg, WRITES_MESSAGES(1, 2), TIME_LEFT(4))
    CALL(connect, READS_N(1, 2, 1))
    CALL(bind, READS_N(1, 2, 1))
    CALL(accept, ROOM(1, 2))
    CALL(accept4, ROOM(1, 2))
    CALL(getsockname, ROOM(1, 2))
    CALL(getpeername, ROOM(1, 2))
    CALL(getsockopt, ROOM(3, 4))
    CALL(setsockopt, READS_N(3, 4, 1))
    CALL(socketpair, WRITES(3, 2 * sizeof(int)))

    /* Waiting. */
    CALL(ppoll, WRITES_N(0, 1, sizeof(struct pollfd)), TIME_LEFT(2), SIGNALS(3))
    CALL(pselect6, BITS(1, 0), BITS(2, 0), BITS(3, 0), TIME_LEFT(4), {.kind = RULE_OPAQUE, .argument = 5, .unit = 16})
    CALL(epoll_ctl, READS(3, sizeof(struct epoll_event)))
    CALL(epoll_pwait, WRITES_N(1, 2, sizeof(struct epoll_event)), SIGNALS(4))
    CALL(epoll_pwait2, WRITES_N(1, 2, sizeof(struct epoll_event)), TIME(3), SIGNALS(4))
    CALL(futex, WRITES(0, 4), TIME(3), WRITES(4, 4))
    CALL(nanosleep, TIME(0), TIME_LEFT(1))
    CALL(clock_nanosleep, TIME(2), TIME_LEFT(3))
    CALL(rt_sigtimedwait, SIGNALS(0), WRITES(1, sizeof(siginfo_t)), TIME(2))
    CALL(wait4, WRITES(1, sizeof(int)), WRITES(3, sizeof(struct rusage)))
    CALL(waitid, WRITES(2, sizeof(siginfo_t)), WRITES(4, sizeof(struct rusage)))
    CALL(signalfd4, SIGNALS(1))
    CALL(rt_sigpending, WRITES(0, 8))

    /* Queues. */
    CALL(mq_open, STRING(0), READS(3, 64))
    CALL(mq_unlink, STRING(0))
    CALL(mq_timedsend, READS_N(1, 2, 1), TIME(4))
    CALL(mq_timedreceive, WRITES_N(1, 2, 1), WRITES(3, sizeof(int)), TIME(4))
    CALL(mq_getsetattr, READS(1, 64), WRITES(2, 64))
    CALL(mq_notify, READS(1, sizeof(struct sigevent)))
    CALL(msgsnd, READS_TAGGED(1, 2))
    CALL(msgrcv, WRITES_TAGGED(1, 2))
    CALL(msgctl, OPAQUE(2))
    CALL(semop, READS_N(1, 2, sizeof(struct sembuf)))
    CALL(semtimedop, READS_N(1, 2, sizeof(struct sembuf)), TIME(3))
    CALL(semctl, WRITES(3, 65536 * 2))
    CALL(shmctl, OPAQUE(2))

    /* Time. */
    CALL(clock_gettime, WRITES(1, sizeof(struct timespec)))
    CALL(clock_settime, TIME(1))
    CALL(clock_getres, WRITES(1, sizeof(struct timespec)))
    CALL(clock_adjtime, WRITES(1, sizeof(struct timex)))
    CALL(adjtimex, WRITES(0, sizeof(struct timex)))
    CALL(gettimeofday, WRITES(0, sizeof(struct timeval)), WRITES(1, sizeof(struct timezone)))
    CALL(times, WRITES(0, sizeof(struct tms)))
    CALL(timer_create, READS(1, sizeof(struct sigevent)), WRITES(2, sizeof(int)))
    CALL(timer_settime, READS(2, sizeof(struct itimerspec)), WRITES(3, sizeof(struct itimerspec)))
    CALL(timer_gettime, WRITES(1, sizeof(struct itimerspec)))
    CALL(timerfd_settime, READS(2, sizeof(struct itimerspec)), WRITES(3, sizeof(struct itimerspec)))
    CALL(timerfd_gettime, WRITES(1, sizeof(struct itimerspec)))
    CALL(getitimer, WRITES(1, sizeof(struct itimerval)))
    CALL(setitimer, READS(1, sizeof(struct itimerval)), WRITES(2, sizeof(struct itimerval)))

    /* About processes and the machine. */
    CALL(getrusage, WRITES(1, sizeof(struct rusage)))
    CALL(prlimit64, READS(2, sizeof(struct rlimit)), WRITES(3, sizeof(struct rlimit)))
    CALL(getrlimit, WRITES(1, sizeof(struct rlimit)))
    CALL(setrlimit, READS(1, sizeof(struct rlimit)))
    CALL(sysinfo, WRITES(0, sizeof(struct sysinfo)))
    CALL(uname, WRITES(0, sizeof(struct utsname)))
    CALL(getgroups, WRITES_N(1, 0, sizeof(gid_t)))
    CALL(setgroups, READS_N(1, 0, sizeof(gid_t)))
    CALL(getresuid, WRITES(0, 4), WRITES(1, 4), WRITES(2, 4))
    CALL(getresgid, WRITES(0, 4), WRITES(1, 4), WRITES(2, 4))
    CALL(sched_getaffinity, WRITES_N(2, 1, 1))
    CALL(sched_setaffinity, READS_N(2, 1, 1))
    CALL(sched_getparam, WRITES(1, sizeof(struct sched_param)))
    CALL(sched_setparam, READS(1, sizeof(struct sched_param)))
    CALL(sched_setscheduler, READS(2, sizeof(struct sched_param)))
    CALL(sched_getattr, WRITES_N(1, 2, 1))
    CALL(sched_rr_get_interval, WRITES(1, sizeof(struct timespec)))
    CALL(getcpu, WRITES(0, 4), WRITES(1, 4))
    CALL(capget, WRITES(0, 8), WRITES(1, 24))
    CALL(capset, READS(0, 8), READS(1, 24))
    CALL(process_vm_readv, WRITES_VECTOR(1, 2), READS_N(3, 4, 16))
    CALL(process_vm_writev, READS_VECTOR(1, 2), READS_N(3, 4, 16))
    CALL(get_mempolicy, WRITES(0, sizeof(int)), WRITES(1, 128))
    CALL(move_pages, READS_N(2, 1, 8), READS_N(3, 1, 4), WRITES_N(4, 1, 4))
    CALL(prctl, OPAQUE(1))
    CALL(madvise, {.kind = RULE_DISCARD, .argument = 0, .count = 1})
    CALL(chroot, STRING(0))
    CALL(open_by_handle_at, OPAQUE(1))
    CALL(sched_setattr, READS(1, 128))
    CALL(futex_waitv, READS_N(0, 1, 24), TIME(3))
    CALL(sethostname, READS_N(0, 1, 1))
    CALL(mount, STRING(0), STRING(1), STRING(2), READS(4, 4096))
    CALL(umount2, STRING(0))

#ifdef SYS_open /* what newer architectures have dropped */
    CALL(open, STRING(0))
    CALL(creat, STRING(0))
    CALL(stat, STRING(0), WRITES(1, sizeof(struct stat)))
    CALL(lstat, STRING(0), WRITES(1, sizeof(struct stat)))
    CALL(access, STRING(0))
    CALL(readlink, STRING(0), WRITES_N(1, 2, 1))
    CALL(unlink, STRING(0))
    CALL(rmdir, STRING(0))
    CALL(mkdir, STRING(0))
    CALL(rename, STRING(0), STRING(1))
    CALL(link, STRING(0), STRING(1))
    CALL(symlink, STRING(0), STRING(1))
    CALL(chmod, STRING(0))
    CALL(chown, STRING(0))
    CALL(lchown, STRING(0))
    CALL(utime, STRING(0), READS(1, 16))
    CALL(utimes, STRING(0), READS(1, 32))
    CALL(futimesat, STRING(1), READS(2, 32))
    CALL(mknod, STRING(0))
    CALL(pipe, WRITES(0, 2 * sizeof(int)))
    CALL(poll, WRITES_N(0, 1, sizeof(struct pollfd)))
    CALL(select, BITS(1, 0), BITS(2, 0), BITS(3, 0), WRITES(4, sizeof(struct timeval)))
    CALL(epoll_wait, WRITES_N(1, 2, sizeof(struct epoll_event)))
    CALL(getdents, WRITES_N(1, 2, 1))
    CALL(signalfd, SIGNALS(1))
    CALL(time, WRITES(0, sizeof(time_t)))
#endif
};

#define NUMBERS (sizeof calls / sizeof *calls)

const struct call *call_find(long number)
{
    return (unsigned long) number < NUMBERS && calls[number].rules[0].kind != RULE_NONE ? &calls[number] : NULL;
}

size_t call_list(const struct call **out, size_t room)
{
    size_t n = 0;
    for (size_t number = 0; number < NUMBERS && n < room; number++)
        if (call_find((long) number))
            out[n++] = &calls[number];
    return n;
}

unsigned call_pointers(const struct call *call)
{
    unsigned mask = 0;
    for (size_t i = 0; i < CALL_RULES; i++) {
        const struct rule *rule = &call->rules[i];
        if (rule->kind == RULE_NONE)
            break;
        mask |= 1u << rule->argument;
        if (rule->kind == RULE_LENGTH)
            mask |= 1u << rule->count;
    }
    return mask;
}

bool call_is_nested(const struct call *call)
{
    for (size_t i = 0; i < CALL_RULES; i++)
        if (call->rules[i].kind >= RULE_VECTOR)
            return true;
    return false;
}
