"""Hyperion beside the kernel's own means, on the same work with the same memory. See scripts/bench --help.

systems.py has the columns, with swaps.py and cgroup.py; works.py the rows, with work.c, bare.c, alloc.c and programs/;
results.py draws the conclusions; report.py and chart.py show them."""
import argparse
import fnmatch
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import cgroup
import chart
import interrupt
import systems
import works
from report import Report
from results import Results

MIB = 1 << 20
UNITS = {"M": 20, "G": 30}
ABOUT = """Measures, side by side and in turns, work on more data than fits into memory: native without a limit, in a
memory cgroup with zram, a swap file or zswap, and with vprun, itself in a cgroup of its --ram. Writes bench.md, bench.json and
bench.svg. The kernel's columns need root; without, the others are measured. The exit status is 1 if a program got wrong
data, or failed under vprun; how fast it was does not matter for it."""


def size(text):
    digits, unit = text[:-1], text[-1:].upper()
    if not digits.isdecimal() or unit not in UNITS or not 64 * MIB <= int(digits) << UNITS[unit] <= 4096 * MIB:
        raise argparse.ArgumentTypeError(f"{text}: allowed is a size from 64M to 4G, such as 256M")
    return int(digits) << UNITS[unit]


def number(low, high, what):
    """What parses a number of these bounds."""
    def parse_number(text):
        try:
            if low <= float(text) <= high:
                return float(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text}: allowed are {what} from {low} to {high}")
    return parse_number


def count(text):
    if text.isdecimal() and 1 <= int(text) <= 100:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text}: allowed is a number from 1 to 100")


def directory_name(text):
    if not os.access(text, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text}: allowed is a directory that can be written to")
    return Path(text)


def row_names(text):
    """Rows by name, group or pattern, in the table's order."""
    chosen = set()
    for wanted in text.split(","):
        names = [name for name, row in works.ROWS.items() if row.group == wanted or fnmatch.fnmatchcase(name, wanted)]
        if not names:
            raise argparse.ArgumentTypeError(
                f"no row {wanted!r}: allowed are, with commas between, names and * patterns of rows (--list), and the "
                f"groups {', '.join(works.GROUPS)}")
        chosen.update(names)
    return [name for name in works.ROWS if name in chosen]


def system_names(text):
    names = text.split(",")
    for name in names:
        if name not in systems.SYSTEMS:
            raise argparse.ArgumentTypeError(
                f"no system {name!r}: allowed are, with commas between, " + ", ".join(systems.SYSTEMS))
    return [name for name in systems.SYSTEMS if name in names]


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=ABOUT)
    parser.add_argument("--rows", type=row_names, metavar="LIST",
                        help="only these rows: names, groups, patterns with *")
    parser.add_argument("--systems", type=system_names, metavar="LIST", default=list(systems.SYSTEMS),
                        help="only these: " + ", ".join(systems.SYSTEMS))
    parser.add_argument("--ram", type=size, metavar="SIZE", help="the limit (256M; --quick: 96M)")
    parser.add_argument("--seconds", type=number(0.1, 600, "seconds"), metavar="S",
                        help="that each pattern of access is measured (1.5; --quick: 0.7)")
    parser.add_argument("--repeat", type=count, metavar="N", help="repetitions (3; --quick: 1)")
    parser.add_argument("--minutes", type=number(0.1, 600, "minutes"), metavar="N",
                        help="begin nothing after so many minutes (35; --quick: 2.3)")
    parser.add_argument("--seed", type=count, metavar="N", default=1, help="of everything random (1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results go (bench in the build directory)")
    parser.add_argument("--directory", type=directory_name, metavar="DIR", default=Path("/var/tmp"),
                        help="a place on a disk for swap and spill files (/var/tmp)")
    parser.add_argument("--quick", action="store_true", help="a few rows, in under 3 minutes")
    parser.add_argument("--list", action="store_true", help="show rows and systems")
    parser.add_argument("--build", type=Path, metavar="DIR", default=Path("build"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rows = options.rows or (list(works.QUICK) if options.quick else list(works.ROWS))
    options.ram = options.ram or (96 if options.quick else 256) * MIB
    options.seconds = options.seconds or (0.7 if options.quick else 1.5)
    options.repeat = options.repeat or (1 if options.quick else 3)
    options.minutes = options.minutes or (2.3 if options.quick else 35)
    options.build = options.build.resolve()
    options.out = options.out or options.build / "bench"
    return options


def show():
    for group, about in works.GROUPS.items():
        print(f"{group}: {about}")
        for row in works.ROWS.values():
            if row.group == group:
                print(f"  {row.name:30} {row.about} ({', '.join(row.systems)})")
    print("systems:")
    for system in systems.SYSTEMS.values():
        print(f"  {system.name:30} {system.about}; {systems.why_missing(system) or 'can be measured here'}")


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, options, directory):
        self.options = options
        self.rows = [works.ROWS[name] for name in options.rows]
        self.results = Results(self.rows)
        self.context = works.Context(options.build, Path(directory), options.ram, options.seconds, options.seed, {})
        self.vprun = options.build / "vprun"

    def run(self):
        start = time.monotonic()
        for name in self.options.systems:
            if why := systems.why_missing(systems.SYSTEMS[name]):
                self.results.missing[name] = why
        if why := cgroup.why_missing():
            self.results.missing["a hard limit around vprun"] = why
        say("what the machine itself takes")
        with systems.place(systems.SYSTEMS["native"], None, 0, self.context.directory, self.vprun) as place:
            self.results.bare = works.bare_figures(self.context, place)
        # Round by round: where the time does not suffice, it is later repetitions that are missing, not rows.
        for round_number in range(max(self._rounds(row) for row in self.rows)):
            for row in self.rows:
                if round_number < self._rounds(row):
                    self._round(row, round_number, start + self.options.minutes * 60)
        self.results.seconds = time.monotonic() - start

    def _rounds(self, row):
        return min(self.options.repeat, row.repeat_most) * row.rounds

    def _round(self, row, number, deadline):
        names = [name for name in self.options.systems if name in row.systems and name not in self.results.missing]
        if number:
            names = [name for name in names if name == self.results.best(row.name, systems.SYSTEMS[name].column)]
        # vprun comes last in the first round: it is given what zram was seen to take.
        for name in names if number % 2 == 0 else reversed(names):
            interrupt.check()
            if time.monotonic() < deadline:
                self._cell(row, systems.SYSTEMS[name])
            elif not self.results.runs[row.name, name]:
                self.results.missing[f"{row.name}, {name}"] = f"the {self.options.minutes:g} minutes were over"

    def _limit(self, row, system):
        limit = row.ram or self.options.ram
        if system.vprun and row.gets_zram:
            limit += -(-self.results.zram_memory(row.name) // MIB) * MIB
        return limit

    def _cell(self, row, system):
        results, key = self.results, (row.name, system.name)
        start = time.monotonic()
        try:
            swap = int(self.options.ram * (row.times_ram + 1))
            with systems.place(system, self._limit(row, system), swap, self.context.directory, self.vprun,
                               row.confined) as place:
                figures = row.run(self.context, place)
            results.runs[key].append(figures)
            if system.swap == "zswap" and figures["compressor"] != "lz4":
                results.missing["zswap with lz4"] = f"the kernel has none; measured with {figures['compressor']}"
            outcome = f"{figures['value']:.5g} {row.unit}"
        except systems.Missing as why:
            results.missing[f"{row.name}, {system.name}"] = outcome = str(why)
        except systems.Failure as failure:
            interrupt.check()
            results.failures[key].append(str(failure))
            results.wrong |= failure.wrong
            outcome = f"FAILED: {failure}"
        say(f"{row.name}, {system.name}: {outcome} ({time.monotonic() - start:.1f} s)")

    def status(self):
        shimmed = any(texts for (_, system), texts in self.results.failures.items() if systems.SYSTEMS[system].vprun)
        return 1 if self.results.wrong or shimmed else 0


def main():
    interrupt.install()
    options = parse()
    if options.list:
        return show()
    for program in ("vprun", "tests/bench/bench_work"):
        if not (options.build / program).exists():
            sys.exit(f"scripts/bench: no {program} in {options.build}: build it first (scripts/build)")
    with tempfile.TemporaryDirectory(prefix="hyperion-bench-", dir=options.directory) as directory:
        bench = Bench(options, directory)
        try:
            bench.run()
        except interrupt.Interrupted as by:
            say("scripts/bench: interrupted, everything cleaned up")
            return 128 + by.args[0]
    report = Report(bench.results, {
        "ram": options.ram, "seconds": options.seconds, "repeat": options.repeat, "seed": options.seed,
        "systems": options.systems})
    report.write(options.out, chart.draw(bench.results))
    print(report.markdown())
    say(f"written to {options.out}: bench.md, bench.json, bench.svg")
    return bench.status()


if __name__ == "__main__":
    sys.exit(main())
