#!/usr/bin/env python3
"""Runs every case of the preload suite in every mode, on every backend, as this user and as nobody: what no table lists.

    everywhere.py --vprun PATH [--jobs N] [--minutes N] [--modes M,M] [--traps T,T] [PATTERN]...

Hours, so for nights, or for the cases whose names match a PATTERN. Torture is left out (meson test --suite soak). Ends with
a list of what has failed, and status 1 if anything has.
"""

import argparse
import concurrent.futures
import fnmatch
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import cases

MODES = ("lazy", "floor", "lazy64")
TRAPS = ("uffd-signal", "mprotect", "uffd-thread")
LONG = ("torture*", "soak_*", "java_*_2g", "dictionary_large*", "memcached", "stress_ng*", "sort_1g", "numpy_sort", "memtester",
        "convert", "redis_million", "sqlite_large", "map_mimalloc", "map_jemalloc", "map_fuzz_million")
BUDGETED = ("tree_*", "spill_*")  # say nothing without a budget
# MiB of a budget that has room for what there is besides: eight processes, page tables of 16 GiB.
ROOM = {"tree_*": 256, "spill_none": 64, "many_ranges_100k": 256, "sparse_touch": 64}
DRIVER = Path(__file__).resolve().with_name("driver.py")


def combinations(options):
    wanted = [name for name in cases.CASES
              if not any(fnmatch.fnmatch(name, long) for long in LONG)
              and (not options.patterns or any(fnmatch.fnmatch(name, p) for p in options.patterns))]
    def fits(name, mode):
        budget = cases.MODES[mode].budget
        if budget is None:
            return not any(fnmatch.fnmatch(name, pattern) for pattern in BUDGETED)
        return all(budget >= least for pattern, least in ROOM.items() if fnmatch.fnmatch(name, pattern))

    every = [(name, mode, trap, user) for name in wanted for mode in options.modes.split(",")
             for trap in options.traps.split(",") for user in ("self", "nobody")
             if fits(name, mode) and not (user == "nobody" and trap == "uffd-thread")]
    random.Random(0).shuffle(every)  # a run that is cut short has seen something of everything
    return every


def run(options, one):
    name, mode, trap, user = one
    command = [sys.executable, str(DRIVER), "--vprun", options.vprun, "--case", name, "--mode", mode, "--trap", trap,
               "--patience", "4"]
    if user == "nobody":
        command.append("--unprivileged")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return one, done.returncode, done.stdout.decode(errors="replace")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vprun", required=True, type=os.path.abspath)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after that long")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--traps", default=",".join(TRAPS))
    parser.add_argument("patterns", nargs="*")
    options = parser.parse_args()
    end, todo, failed, counts = time.monotonic() + options.minutes * 60, combinations(options), [], {0: 0, 77: 0, 1: 0}

    def bounded(one):
        return run(options, one) if time.monotonic() < end else (one, None, "")

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for one, status, output in pool.map(bounded, todo):
            if status is None:
                continue
            counts[status] = counts.get(status, 0) + 1
            if status not in (0, 77):
                failed.append(one)
                print("FAILED", *one, output, sep="\n  ", flush=True)
    print(f"{sum(counts.values())} of {len(todo)} run: {counts[0]} passed, {counts[77]} skipped, {len(failed)} failed")
    for one in failed:
        print("  " + " ".join(one))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
