#include "kinds.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>

static bool status_of(int fd, struct stat *status)
{
    int saved = errno;
    bool known = fstat(fd, status) == 0;
    errno = saved;
    return known;
}

static bool is_stream_socket(int fd)
{
    int type = SOCK_STREAM, saved = errno;
    socklen_t length = sizeof type;
    bool stream = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
    errno = saved;
    return stream;
}

bool kind_is_file(int fd)
{
    struct stat status;
    return status_of(fd, &status) && (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode));
}

bool kind_is_stream(int fd)
{
    struct stat status;
    return status_of(fd, &status) && (S_ISSOCK(status.st_mode) ? is_stream_socket(fd) : !S_ISCHR(status.st_mode));
}

bool kind_is_message(int fd)
{
    struct stat status;
    return status_of(fd, &status) && S_ISSOCK(status.st_mode) && !is_stream_socket(fd);
}
