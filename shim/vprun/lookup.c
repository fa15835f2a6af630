/* lookup.c: where a program is, see program.h. */
#include "program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int executable(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return errno;
    bool runs = S_ISREG(status.st_mode) && access(path, X_OK) == 0;
    return runs ? 0 : EACCES;
}

static int candidate(const char *directory, size_t length, const char *name, char *path, size_t size)
{
    size_t name_length = strlen(name);
    if (length + 1 + name_length >= size)
        return ENAMETOOLONG;
    memcpy(path, directory, length);
    char *end = path + length;
    if (length) /* an empty entry of PATH is the working directory */
        *end++ = '/';
    memcpy(end, name, name_length + 1);
    return executable(path);
}

int program_find(const char *name, char *path, size_t size)
{
    if (strchr(name, '/'))
        return candidate("", 0, name, path, size);
    const char *directory = getenv("PATH");
    directory = directory ? directory : "/bin:/usr/bin";
    int error = ENOENT;
    while (*name) {
        size_t length = strcspn(directory, ":");
        int result = candidate(directory, length, name, path, size);
        if (result == 0)
            return 0;
        error = result == EACCES ? EACCES : error;
        if (!directory[length])
            break;
        directory += length + 1;
    }
    return error;
}
