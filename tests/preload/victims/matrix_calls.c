/* matrix_calls.c: issuing a system call by its number through libc's function of that name, syscall() or the
 * instruction. */
#include "matrix.h"

#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/msg.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

static long by_syscall(long number, const long a[6])
{
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static long by_instruction(long number, const long a[6])
{
#ifdef __x86_64__
    long result;
    register long fourth __asm__("r10") = a[3];
    register long fifth __asm__("r8") = a[4];
    register long sixth __asm__("r9") = a[5];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return result;
#else
    const long result = by_syscall(number, a);
    return result == -1 ? -errno : result;
#endif
}

#define P(i) ((void *)a[i])
#define I(i) ((int)a[i])
#define Z(i) ((size_t)a[i])
#define U(i) ((unsigned)a[i])

static long transfer_by_libc(long number, const long a[6])
{
    switch (number) {
    case SYS_read:
        return read(I(0), P(1), Z(2));
    case SYS_write:
        return write(I(0), P(1), Z(2));
    case SYS_pread64:
        return pread(I(0), P(1), Z(2), a[3]);
    case SYS_pwrite64:
        return pwrite(I(0), P(1), Z(2), a[3]);
    case SYS_readv:
        return readv(I(0), P(1), I(2));
    case SYS_writev:
        return writev(I(0), P(1), I(2));
    case SYS_preadv:
        return preadv(I(0), P(1), I(2), a[3]);
    case SYS_pwritev:
        return pwritev(I(0), P(1), I(2), a[3]);
    case SYS_preadv2:
        return preadv2(I(0), P(1), I(2), a[3], I(5));
    case SYS_pwritev2:
        return pwritev2(I(0), P(1), I(2), a[3], I(5));
    case SYS_recvfrom:
        return a[4] ? recvfrom(I(0), P(1), Z(2), I(3), P(4), P(5)) : recv(I(0), P(1), Z(2), I(3));
    case SYS_sendto:
        return a[4] ? sendto(I(0), P(1), Z(2), I(3), P(4), (socklen_t)a[5]) : send(I(0), P(1), Z(2), I(3));
    case SYS_recvmsg:
        return recvmsg(I(0), P(1), I(2));
    case SYS_sendmsg:
        return sendmsg(I(0), P(1), I(2));
    case SYS_recvmmsg:
        return recvmmsg(I(0), P(1), U(2), I(3), P(4));
    case SYS_sendmmsg:
        return sendmmsg(I(0), P(1), U(2), I(3));
    case SYS_sendfile:
        return sendfile(I(0), I(1), P(2), Z(3));
    case SYS_splice:
        return splice(I(0), P(1), I(2), P(3), Z(4), U(5));
    case SYS_vmsplice:
        return vmsplice(I(0), P(1), Z(2), U(3));
    case SYS_copy_file_range:
        return copy_file_range(I(0), P(1), I(2), P(3), Z(4), U(5));
    case SYS_getrandom:
        return getrandom(P(0), Z(1), U(2));
    case SYS_process_vm_readv:
        return process_vm_readv(I(0), P(1), Z(2), P(3), Z(4), 0);
    case SYS_process_vm_writev:
        return process_vm_writev(I(0), P(1), Z(2), P(3), Z(4), 0);
    case SYS_getdents64:
        return getdents64(I(0), P(1), Z(2));
    default:
        return by_syscall(number, a);
    }
}

static long socket_by_libc(long number, const long a[6])
{
    switch (number) {
    case SYS_getsockopt:
        return getsockopt(I(0), I(1), I(2), P(3), P(4));
    case SYS_setsockopt:
        return setsockopt(I(0), I(1), I(2), P(3), (socklen_t)a[4]);
    case SYS_getsockname:
        return getsockname(I(0), P(1), P(2));
    case SYS_getpeername:
        return getpeername(I(0), P(1), P(2));
    case SYS_accept:
        return accept(I(0), P(1), P(2));
    case SYS_accept4:
        return accept4(I(0), P(1), P(2), I(3));
    case SYS_bind:
        return bind(I(0), P(1), (socklen_t)a[2]);
    case SYS_connect:
        return connect(I(0), P(1), (socklen_t)a[2]);
    case SYS_socketpair:
        return socketpair(I(0), I(1), I(2), P(3));
    case SYS_mq_timedsend:
        return a[4] ? mq_timedsend(I(0), P(1), Z(2), U(3), P(4)) : mq_send(I(0), P(1), Z(2), U(3));
    case SYS_mq_timedreceive:
        return a[4] ? mq_timedreceive(I(0), P(1), Z(2), P(3), P(4)) : mq_receive(I(0), P(1), Z(2), P(3));
    case SYS_msgsnd:
        return msgsnd(I(0), P(1), Z(2), I(3));
    case SYS_msgrcv:
        return msgrcv(I(0), P(1), Z(2), a[3], I(4));
    default:
        return transfer_by_libc(number, a);
    }
}

static long path_by_libc(long number, const long a[6])
{
    switch (number) {
#ifdef SYS_open /* newer machines have the calls relative to a directory only */
    case SYS_stat:
        return stat(P(0), P(1));
    case SYS_lstat:
        return lstat(P(0), P(1));
    case SYS_readlink:
        return readlink(P(0), P(1), Z(2));
    case SYS_open:
        return open(P(0), I(1), (mode_t)a[2]);
    case SYS_access:
        return access(P(0), I(1));
    case SYS_unlink:
        return unlink(P(0));
    case SYS_rename:
        return rename(P(0), P(1));
    case SYS_mkdir:
        return mkdir(P(0), (mode_t)a[1]);
    case SYS_rmdir:
        return rmdir(P(0));
    case SYS_link:
        return link(P(0), P(1));
    case SYS_symlink:
        return symlink(P(0), P(1));
    case SYS_chmod:
        return chmod(P(0), (mode_t)a[1]);
#endif
    case SYS_fstat:
        return fstat(I(0), P(1));
    case SYS_newfstatat:
        return fstatat(I(0), P(1), P(2), I(3));
    case SYS_statx:
        return statx(I(0), P(1), I(2), U(3), P(4));
    case SYS_statfs:
        return statfs(P(0), P(1));
    case SYS_fstatfs:
        return fstatfs(I(0), P(1));
    case SYS_readlinkat:
        return readlinkat(I(0), P(1), P(2), Z(3));
    case SYS_openat:
        return openat(I(0), P(1), I(2), (mode_t)a[3]);
    case SYS_faccessat:
        return faccessat(I(0), P(1), I(2), 0);
    case SYS_unlinkat:
        return unlinkat(I(0), P(1), I(2));
    case SYS_renameat2:
        return renameat2(I(0), P(1), I(2), P(3), U(4));
    case SYS_mkdirat:
        return mkdirat(I(0), P(1), (mode_t)a[2]);
    case SYS_truncate:
        return truncate(P(0), a[1]);
    case SYS_utimensat:
        return utimensat(I(0), P(1), P(2), I(3));
    case SYS_getcwd:
        return getcwd(P(0), Z(1)) ? (long)strlen(P(0)) + 1 : -1;
    case SYS_getxattr:
        return getxattr(P(0), P(1), P(2), Z(3));
    case SYS_setxattr:
        return setxattr(P(0), P(1), P(2), Z(3), I(4));
    case SYS_listxattr:
        return listxattr(P(0), P(1), Z(2));
    default:
        return socket_by_libc(number, a);
    }
}

static long wait_by_libc(long number, const long a[6])
{
    switch (number) {
#ifdef SYS_poll
    case SYS_poll:
        return poll(P(0), (nfds_t)a[1], I(2));
    case SYS_select:
        return select(I(0), P(1), P(2), P(3), P(4));
    case SYS_epoll_wait:
        return epoll_wait(I(0), P(1), I(2), I(3));
#endif
    case SYS_ppoll:
        return ppoll(P(0), (nfds_t)a[1], P(2), P(3));
    case SYS_pselect6:
        return pselect(I(0), P(1), P(2), P(3), P(4), a[5] ? *(sigset_t **)P(5) : NULL);
    case SYS_epoll_pwait:
        return epoll_pwait(I(0), P(1), I(2), I(3), P(4));
    case SYS_epoll_ctl:
        return epoll_ctl(I(0), I(1), I(2), P(3));
    case SYS_wait4:
        return wait4((pid_t)a[0], P(1), I(2), P(3));
    case SYS_waitid:
        return waitid((idtype_t)a[0], (id_t)a[1], P(2), I(3));
    case SYS_nanosleep:
        return nanosleep(P(0), P(1));
    case SYS_rt_sigtimedwait:
        return sigtimedwait(P(0), P(1), P(2));
    case SYS_rt_sigpending:
        return sigpending(P(0));
    default:
        return path_by_libc(number, a);
    }
}

static long by_libc(long number, const long a[6])
{
    switch (number) {
    case SYS_ioctl:
        return ioctl(I(0), (unsigned long)a[1], P(2));
    case SYS_fcntl:
        return fcntl(I(0), I(1), P(2));
    case SYS_clock_gettime:
        return clock_gettime((clockid_t)a[0], P(1));
    case SYS_clock_getres:
        return clock_getres((clockid_t)a[0], P(1));
    case SYS_gettimeofday:
        return gettimeofday(P(0), NULL);
    case SYS_setitimer:
        return setitimer((__itimer_which_t)a[0], P(1), P(2));
    case SYS_getrusage:
        return getrusage((__rusage_who_t)a[0], P(1));
    case SYS_prlimit64:
        return prlimit((pid_t)a[0], (__rlimit_resource_t)a[1], P(2), P(3));
    case SYS_sysinfo:
        return sysinfo(P(0));
    case SYS_uname:
        return uname(P(0));
    case SYS_times:
        return times(P(0));
    case SYS_sched_getaffinity:
        return sched_getaffinity((pid_t)a[0], Z(1), P(2)) == 0 ? 0 : -1;
    case SYS_pipe2:
        return pipe2(P(0), I(1));
    default:
        return wait_by_libc(number, a); /* what libc has no function for: syscall() */
    }
}

/* A call that succeeds leaves errno alone, as libc's own do. */
long issue(enum way way, long number, const long arguments[6])
{
    if (way == BY_INSTRUCTION)
        return by_instruction(number, arguments);
    errno = ENOTNAM;
    const long result = way == BY_LIBC ? by_libc(number, arguments) : by_syscall(number, arguments);
    const int after = errno;
    if (result != -1 && after != ENOTNAM)
        note("errno became %d in a call that succeeded", after);
    return result == -1 ? -after : result;
}
