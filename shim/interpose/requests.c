/*
 * requests.c: asynchronous requests (aio.h). Threads of libc's serve them, with all signals blocked: a request and its
 * buffer stay in memory from when it is made until the program has seen it done.
 */
#include <errno.h>

#include "../guard/resident.h"
#include "hooks.h"
#include "parts.h"

/* struct aiocb64 is the same on 64-bit systems; so are the functions, under two names. */
_Static_assert(sizeof(struct aiocb) == sizeof(struct aiocb64), "two kinds of requests");

/* The buffer is the request's, the request its second byte's. */
static const void *own_name(const struct aiocb *request) { return (const char *) request + 1; }

static void let_go_request(const struct aiocb *request)
{
    resident_drop(request);
    resident_drop(own_name(request));
}

static void keep_request(const struct aiocb *request)
{
    resident_add(own_name(request), request, sizeof *request);
    resident_add(request, (const void *) request->aio_buf, request->aio_nbytes);
}

static int submitted(int result, const struct aiocb *request)
{
    if (result != 0)
        let_go_request(request);
    return result;
}

#define SUBMIT(name, type)                                              \
    VP_EXPORT int name(type *request)                                   \
    {                                                                   \
        keep_request((const struct aiocb *) request);                   \
        return submitted(originals()->name(request), (const struct aiocb *) request); \
    }

SUBMIT(aio_read, struct aiocb)
SUBMIT(aio_read64, struct aiocb64)
SUBMIT(aio_write, struct aiocb)
SUBMIT(aio_write64, struct aiocb64)

/* Only the request itself: there is no buffer. */
#define SYNC(name, type)                                                                    \
    VP_EXPORT int name(int operation, type *request)                                        \
    {                                                                                       \
        resident_add(own_name((const struct aiocb *) request), request, sizeof *request);   \
        return submitted(originals()->name(operation, request), (const struct aiocb *) request); \
    }

SYNC(aio_fsync, struct aiocb)
SYNC(aio_fsync64, struct aiocb64)

/* Some may be under way even if the call fails: what is not is let go when its error is asked for. */
static void keep_list(const struct aiocb *const list[], int count)
{
    for (int i = 0; i < count; i++)
        if (list[i] && list[i]->aio_lio_opcode != LIO_NOP)
            keep_request(list[i]);
}

VP_EXPORT int lio_listio(int mode, struct aiocb *const list[], int count, struct sigevent *event)
{
    keep_list((const struct aiocb *const *) list, count);
    return originals()->lio_listio(mode, list, count, event);
}

VP_EXPORT int lio_listio64(int mode, struct aiocb64 *const list[], int count, struct sigevent *event)
{
    keep_list((const struct aiocb *const *) list, count);
    return originals()->lio_listio64(mode, list, count, event);
}

static int asked(int error, const struct aiocb *request)
{
    if (error != EINPROGRESS && resident_any())
        let_go_request(request);
    return error;
}

static ssize_t returned(ssize_t result, const struct aiocb *request)
{
    if (resident_any())
        let_go_request(request);
    return result;
}

VP_EXPORT int aio_error(const struct aiocb *request) { return asked(originals()->aio_error(request), request); }

VP_EXPORT int aio_error64(const struct aiocb64 *request)
{
    return asked(originals()->aio_error64(request), (const struct aiocb *) request);
}

VP_EXPORT ssize_t aio_return(struct aiocb *request) { return returned(originals()->aio_return(request), request); }

VP_EXPORT ssize_t aio_return64(struct aiocb64 *request)
{
    return returned(originals()->aio_return64(request), (const struct aiocb *) request);
}
