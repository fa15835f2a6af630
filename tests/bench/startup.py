"""What the shim adds to the start of a small program: `true` bare and under vprun, in turns, in one run.

Usage: startup.py VPRUN [ROUNDS]
"""
import os
import statistics
import sys
import time


def run(argv):
    """Microseconds from spawning argv to its end."""
    start = time.perf_counter_ns()
    pid = os.posix_spawn(argv[0], argv, os.environ)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        sys.exit(f"{argv[0]} ended with status {status}")
    return (time.perf_counter_ns() - start) / 1000


def main():
    vprun = os.path.abspath(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    commands = {"true": ["/bin/true"], "vprun -- true": [vprun, "--", "/bin/true"]}
    times = {name: [] for name in commands}
    for _ in range(rounds):
        for name, argv in commands.items():
            times[name].append(run(argv))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:15} {median:7.0f} us (median of {rounds})")
    bare, shimmed = medians.values()
    print(f"{'added':15} {shimmed - bare:7.0f} us, ratio {shimmed / bare:.2f}")


main()
