#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "../../platform/os.h"
#include "text.h"

static struct {
    dev_t device;
    ino_t inode;
    bool usable, verbose;
} sink;

/* Whether descriptor 2 is there, and its identity. */
static bool stderr_identity(struct stat *status)
{
    int saved = errno;
    bool open = fstat(2, status) == 0;
    errno = saved;
    return open;
}

void log_init(bool verbose)
{
    struct stat status;
    sink.verbose = verbose;
    sink.usable = stderr_identity(&status);
    sink.device = status.st_dev;
    sink.inode = status.st_ino;
}

void log_raw(const char *text, size_t length)
{
    struct stat status;
    if (!sink.usable || !stderr_identity(&status) || status.st_dev != sink.device || status.st_ino != sink.inode)
        return;
    while (length > 0) {
        ssize_t put = os_write_no_sigpipe(2, text, length);
        if (put == -EINTR)
            continue;
        if (put <= 0)
            return;
        text += put;
        length -= (size_t) put;
    }
}

static void log_line(const char *format, va_list arguments)
{
    char line[512];
    struct text text = text_in(line, sizeof line - 1);
    text_add(&text, "vp[");
    text_add_u64(&text, os_process_id());
    text_add(&text, "]: ");
    text_addv(&text, format, arguments);
    line[text.length++] = '\n';
    log_raw(line, text.length);
}

void log_warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_line(format, arguments);
    va_end(arguments);
}

void log_info(const char *format, ...)
{
    if (!sink.verbose)
        return;
    va_list arguments;
    va_start(arguments, format);
    log_line(format, arguments);
    va_end(arguments);
}
