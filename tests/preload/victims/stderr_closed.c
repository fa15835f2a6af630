/*
 * stderr_closed: closes fd 2 and opens a file of its own, which gets that number. Nobody else may write into it, even
 * if there is something to say.
 */
#include "../victim.h"

#include <fcntl.h>
#include <sys/stat.h>

int main(void)
{
    unsigned char *p = big_malloc(96 * MIB);
    close(STDERR_FILENO);
    if (open("own.log", O_RDWR | O_CREAT | O_TRUNC, 0644) != STDERR_FILENO)
        return 2;
    const char *const text = "the program's own\n";
    CHECK(write(STDERR_FILENO, text, strlen(text)) == (ssize_t)strlen(text));

    memset(p, 1, 96 * MIB);
    for (size_t i = 0; i < 96 * MIB; i += PAGE)
        CHECK(p[i] == 1);
    free(p);
    if (in_arena(p) == 1)
        free(p); /* under the shim only: it would warn of the second free */

    struct stat file;
    CHECK(fstat(STDERR_FILENO, &file) == 0);
    printf("%lld bytes\n", (long long)file.st_size);
    return 0; /* the driver compares the file too: the shim has more to say at exit */
}
