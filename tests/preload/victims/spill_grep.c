/*
 * spill_grep MIB: fills memory with a known text among noise (which does not compress, so that it has to go to the
 * spill file), then reads the whole spill file and looks for the text. Only for the shim, with a budget well below MIB.
 */
#include "../victim.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define CHUNK (256u << 10)

static const char marker[] = "plaintext of the program, not to be seen on any disk";
static unsigned char *block;
static size_t pages;

/* The marker at some place of the page, noise around it; all of it follows from the page's number. */
static void page_content(size_t i, unsigned char *page)
{
    uint64_t random = i;
    for (size_t j = 0; j < PAGE; j += 8) {
        const uint64_t noise = random_next(&random);
        memcpy(page + j, &noise, 8);
    }
    memcpy(page + mix64(i) % (PAGE - sizeof marker), marker, sizeof marker - 1);
}

static void verify(void)
{
    unsigned char expected[PAGE];
    for (size_t i = 0; i < pages; i++) {
        page_content(i, expected);
        if (memcmp(block + i * PAGE, expected, PAGE) != 0)
            die("page %zu has changed", i);
    }
}

/* Times that the marker occurs in the file; *used counts its blocks that are not all zero. */
static size_t scan(int fd, size_t *used)
{
    static unsigned char buffer[CHUNK + sizeof marker];
    size_t found = 0, kept = 0;
    off_t at = 0;
    *used = 0;
    for (ssize_t n; (n = pread(fd, buffer + kept, CHUNK, at)) > 0; at += n) {
        bool zero = true;
        for (ssize_t i = 0; i < n && zero; i++)
            zero = buffer[kept + (size_t)i] == 0;
        *used += !zero;
        const size_t length = kept + (size_t)n;
        for (unsigned char *p = buffer; (p = memmem(p, length - (size_t)(p - buffer), marker, sizeof marker - 1)); p++)
            found++;
        kept = sizeof marker - 2; /* it may lie across two chunks */
        memmove(buffer, buffer + length - kept, kept);
    }
    return found;
}

/* Scans every deleted file of at least `size_min` bytes that this process has open. Returns how many there are. */
static size_t scan_deleted(off_t size_min, size_t *found, size_t *used)
{
    size_t files = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[300], link[4096];
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        const ssize_t length = readlink(path, link, sizeof link - 1);
        struct stat file;
        if (length < 10 || memcmp(link + length - 10, " (deleted)", 10) != 0 || stat(path, &file) != 0 ||
            !S_ISREG(file.st_mode) || file.st_size < size_min)
            continue;
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            die("%s: %s", path, strerror(errno));
        size_t chunks;
        *found += scan(fd, &chunks);
        *used += chunks;
        files++;
        close(fd);
    }
    closedir(directory);
    return files;
}

/* The search must be able to find: a deleted file of our own, with one page of the data in it. */
static void control(void)
{
    char name[] = "control-XXXXXX";
    unsigned char page[PAGE];
    const int fd = mkstemp(name);
    CHECK(fd >= 0 && unlink(name) == 0);
    page_content(5, page);
    CHECK(pwrite(fd, page, PAGE, CHUNK - 2048) == (ssize_t)PAGE);
    size_t found = 0, used = 0;
    CHECK(scan_deleted(1, &found, &used) >= 1 && found >= 1 && used >= 1);
    close(fd);
}

int main(int argc, char **argv)
{
    control(); /* before there is a spill file */
    pages = argument(argc, argv, 1, 256) * MIB / PAGE;
    block = big_malloc(pages * PAGE);
    for (size_t i = 0; i < pages; i++)
        page_content(i, block + i * PAGE);
    verify();

    size_t found = 0, used = 0;
    const size_t files = scan_deleted(MIB, &found, &used);
    printf("spill file: %s\n", files == 0 ? "none" : used == 0 ? "empty" : "used");
    printf("plaintext: %s\n", found ? "found" : "not found");
    fprintf(stderr, "%zu files, %zu chunks of %u KiB, %zu times\n", files, used, CHUNK >> 10, found);
    verify();
    puts("data intact");
    return files && used && !found ? 0 : 1;
}
