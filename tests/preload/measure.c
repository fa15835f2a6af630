/*
 * measure FD PROGRAM [ARGUMENT...]: runs the program and writes "wait-status peak-resident-KiB\n" to descriptor FD.
 *
 * A process of its own between the driver and the program, because the kernel counts what a process was before exec
 * into its peak: started by the driver itself, every program would be as large as a Python interpreter.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* A runaway program fills no disk. */
#define FILE_MAX ((rlim_t)8 << 30)

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s FD PROGRAM [ARGUMENT...]\n", argv[0]);
        return 2;
    }
    int report = atoi(argv[1]);
    fcntl(report, F_SETFD, FD_CLOEXEC);

    pid_t child = fork();
    if (child == 0) {
        const struct rlimit no_core = {0, 0}, file_size = {FILE_MAX, FILE_MAX};
        setrlimit(RLIMIT_CORE, &no_core);
        setrlimit(RLIMIT_FSIZE, &file_size);
        /* Where memory runs out after all, the program is to die, not somebody else's. */
        int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (score >= 0 && write(score, "1000", 4) == 4)
            close(score);
        execvp(argv[2], argv + 2);
        fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
        _exit(127);
    }
    int status;
    struct rusage usage;
    if (child < 0 || wait4(child, &status, 0, &usage) != child) {
        perror("measure");
        return 2;
    }
    dprintf(report, "%d %ld\n", status, usage.ru_maxrss);
    return 0;
}
