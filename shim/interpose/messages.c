/*
 * messages.c: message queues of both kinds, and memory that goes to other processes as it is.
 */
#include <limits.h>

#include "../../platform/os.h"
#include "hooks.h"
#include "parts.h"
#include "probe.h"

STAND_IN(ssize_t, mq_receive, (mqd_t queue, char *out, size_t size, unsigned *priority), (queue, out, size, priority),
         OUT(out, size), OUT_ONE(priority))
STAND_IN(ssize_t, mq_timedreceive,
         (mqd_t queue, char *out, size_t size, unsigned *priority, const struct timespec *until),
         (queue, out, size, priority, until), OUT(out, size), OUT_ONE(priority), IN_ONE(until))
STAND_IN(int, mq_send, (mqd_t queue, const char *message, size_t size, unsigned priority),
         (queue, message, size, priority), IN(message, size))
STAND_IN(int, mq_timedsend,
         (mqd_t queue, const char *message, size_t size, unsigned priority, const struct timespec *until),
         (queue, message, size, priority, until), IN(message, size), IN_ONE(until))

/* A message starts with its type, which the size leaves out. */
STAND_IN(ssize_t, msgrcv, (int queue, void *out, size_t size, long type, int flags), (queue, out, size, type, flags),
         OUT(out, sizeof(long) + size))
STAND_IN(int, msgsnd, (int queue, const void *message, size_t size, int flags), (queue, message, size, flags),
         IN(message, sizeof(long) + size))

/* ---- vectors: what is ours of them is held ---- */

SLOW ssize_t vmsplice_held(int fd, const struct iovec *vector, size_t count, unsigned flags)
{
    ssize_t done;
    struct held held[IOV_MAX];
    struct holds holds = {.held = held, .room = IOV_MAX};
    HOLD(parts, vector, count * sizeof *vector, false);
    CLEANUP_PUSH(let_go_all, &holds);
    holds_add_vector(&holds, vector, count, true);
    done = originals()->vmsplice(fd, vector, count, flags);
    CLEANUP_POP;
    LET_GO;
    return done;
}

VP_EXPORT ssize_t vmsplice(int fd, const struct iovec *vector, size_t count, unsigned flags)
{
    if (!vector || count > IOV_MAX || !vector_ours(vector, count))
        return originals()->vmsplice(fd, vector, count, flags);
    return vmsplice_held(fd, vector, count, flags);
}

typedef ssize_t across(pid_t, const struct iovec *, unsigned long, const struct iovec *, unsigned long, unsigned long);

/* `write`: into our memory. */
SLOW ssize_t transfer(across *call, bool write, pid_t pid, const struct iovec *local, unsigned long local_count,
                      const struct iovec *remote, unsigned long remote_count, unsigned long flags)
{
    bool own = (uint32_t) pid == os_process_id();
    if (!local || local_count > IOV_MAX || (!own && !vector_ours(local, local_count)))
        return GUARDED(call(pid, local, local_count, remote, remote_count, flags),
                       IN(remote, remote_count * sizeof *remote));
    ssize_t done;
    struct held held[IOV_MAX];
    struct holds holds = {.held = held, .room = IOV_MAX};
    HOLD(vector, local, local_count * sizeof *local, false);
    HOLD(other, remote, remote_count * sizeof *remote, false);
    CLEANUP_PUSH(let_go_all, &holds);
    holds_add_vector(&holds, local, local_count, write);
    if (own && remote_count <= IOV_MAX && can_read(remote))
        holds_add_vector(&holds, remote, remote_count, !write); /* of our own too, even then, the kernel only takes what is there */
    done = call(pid, local, local_count, remote, remote_count, flags);
    CLEANUP_POP;
    LET_GO;
    LET_GO;
    return done;
}

VP_EXPORT ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long local_count,
                                   const struct iovec *remote, unsigned long remote_count, unsigned long flags)
{
    return transfer(originals()->process_vm_readv, true, pid, local, local_count, remote, remote_count, flags);
}

VP_EXPORT ssize_t process_vm_writev(pid_t pid, const struct iovec *local, unsigned long local_count,
                                    const struct iovec *remote, unsigned long remote_count, unsigned long flags)
{
    return transfer(originals()->process_vm_writev, false, pid, local, local_count, remote, remote_count, flags);
}
