"""What a system call costs under the shim: the same calls by a bare process and by shimmed ones, in turns, in one run.

Usage: syscalls.py VPRUN PROGRAM [ROUNDS]

Unarmed is how most programs stay; armed, here by --lazy, is how they are once memory is short, with what sees to calls on
absent memory in place. The pages themselves are present all the time. Columns are medians, with the ratio to the bare
process.
"""
import os
import statistics
import subprocess
import sys
import tempfile

MEASURES = ("getppid", "read of 1 byte, ordinary memory", "read of 1 byte, arena", "read of 1 MiB, ordinary memory",
            "read of 1 MiB, arena")


def settings(vprun):
    """Name and what starts the program, of each process to compare."""
    found = {"bare": [], "unarmed": [vprun, "--"], "armed": [vprun, "--lazy", "--"]}
    if "--no-filter" in subprocess.run([vprun, "--help"], capture_output=True, text=True, check=True).stdout:
        found["armed, no filter"] = [vprun, "--lazy", "--no-filter", "--"]
    return found


def one_round(process):
    process.stdin.write("go\n")
    process.stdin.flush()
    values = [float(word) for word in process.stdout.readline().split()]
    if len(values) != len(MEASURES):
        sys.exit(f"{process.args} gave no result")
    return values


def show(names, medians):
    print(f"{'ns a call':32}" + "".join(f"{name:>24}" for name in names))
    for i, measure in enumerate(MEASURES):
        bare = medians[0][i]
        print(f"{measure:32}" + "".join(f"{m[i]:15.0f} ({m[i] / bare:5.2f})" for m in medians))


def main():
    vprun, program = (os.path.abspath(path) for path in sys.argv[1:3])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 50
    with tempfile.NamedTemporaryFile() as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        processes = {
            name: subprocess.Popen([*prefix, program, file.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for name, prefix in settings(vprun).items()}
        results = {name: [] for name in processes}
        for _ in range(rounds):
            for name, process in processes.items():
                results[name].append(one_round(process))
        for process in processes.values():
            process.communicate()
    show(list(results), [[statistics.median(column) for column in zip(*rows)] for rows in results.values()])


main()
