#!/usr/bin/env python3
"""Runs one case of victim.c under vprun, on a Mac.

Usage: macos.py vprun victim CASE BACKEND

The budget is a quarter of what the case fills; paging must have armed where the case says so, by that backend. A case that
hangs is a failure: a signal that nobody serves is raised for ever there.
"""
import json
import subprocess
import sys
import tempfile

PAGING = {"threads", "gcd", "blocked", "chained", "wild", "tagged", "efault", "forked", "map"}
SECONDS = 300


def main(vprun, victim, case, backend):
    with tempfile.TemporaryDirectory() as directory:
        stats = f"{directory}/stats"
        command = [vprun, "--trap", backend, "--ram", "64M", "--spill", directory, f"--stats={stats}", "--verbose", "--",
                   victim, case]
        done = subprocess.run(command, timeout=SECONDS, capture_output=True, text=True)
        print(done.stdout, done.stderr, sep="")
        if done.returncode:
            sys.exit(f"{case} ended with {done.returncode}")
        lines = [json.loads(line) for line in open(stats)]
    if case in PAGING and not any(line["armed"] and line["trap"] == backend and line["evictions"] > 0 for line in lines):
        sys.exit(f"{case}: paging by {backend} has not begun: {lines}")
    if any(line["self_test"] != "ok" or line["poisoned_pages"] for line in lines):
        sys.exit(f"{case}: {lines}")


main(*sys.argv[1:])
