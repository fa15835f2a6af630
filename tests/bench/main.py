"""Hyperion beside the kernel's own means, on the same work with the same memory. See scripts/bench --help."""
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
ABOUT = """Measures, side by side and in turns, work on more data than fits into memory: native without a limit, in a memory
cgroup with zram, a swap file or zswap, and with vprun, itself in a cgroup of its --ram. Writes bench.md, bench.json and
bench.svg. The kernel's columns need root; without, the others are measured. The exit status is 1 if a program got wrong
data, or failed under vprun; how fast it was does not matter for it."""


def size(text):
    number, unit = text[:-1], text[-1:].upper()
    if not number.isdecimal() or unit not in UNITS or not 64 * MIB <= int(number) << UNITS[unit] <= 4096 * MIB:
        raise argparse.ArgumentTypeError(f"{text}: allowed is a size from 64M to 4G, such as 256M")
    return int(number) << UNITS[unit]


def seconds(text):
    try:
        if 0.1 <= float(text) <= 600:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text}: allowed are seconds from 0.1 to 600")


def count(text):
    if text.isdecimal() and 1 <= int(text) <= 100:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text}: allowed is a number from 1 to 100")


def row_names(text):
    """Rows by name, group or pattern, in the table's order."""
    chosen = set()
    for wanted in text.split(","):
        names = [name for name, row in works.ROWS.items() if row.group == wanted or fnmatch.fnmatchcase(name, wanted)]
        if not names:
            raise argparse.ArgumentTypeError(
                f"no row {wanted!r}: allowed are, with commas between, names and * patterns of rows (--list), and the groups "
                + ", ".join(works.GROUPS))
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
    parser.add_argument("--rows", type=row_names, metavar="LIST", help="only these rows: names, groups, patterns with *")
    parser.add_argument("--systems", type=system_names, metavar="LIST", default=list(systems.SYSTEMS),
                        help="only these: " + ", ".join(systems.SYSTEMS))
    parser.add_argument("--ram", type=size, metavar="SIZE", help="the limit (256M; --quick: 96M)")
    parser.add_argument("--seconds", type=seconds, help="that each pattern of access is measured (2; --quick: 0.7)")
    parser.add_argument("--repeat", type=count, metavar="N", help="repetitions (3; --quick: 1)")
    parser.add_argument("--seed", type=count, metavar="N", default=1, help="of everything random (1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results go (bench in the build directory)")
    parser.add_argument("--directory", type=Path, metavar="DIR", default=Path("/var/tmp"),
                        help="a place on a disk for swap and spill files (/var/tmp)")
    parser.add_argument("--quick", action="store_true", help="a few rows, in under 3 minutes")
    parser.add_argument("--list", action="store_true", help="show rows and systems")
    parser.add_argument("--build", type=Path, metavar="DIR", default=Path("build"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rows = options.rows or (list(works.QUICK) if options.quick else list(works.ROWS))
    options.ram = options.ram or (96 if options.quick else 256) * MIB
    options.seconds = options.seconds or (0.7 if options.quick else 2)
    options.repeat = options.repeat or (1 if options.quick else 3)
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
        for row in self.rows:
            self._row(row)
        self.results.seconds = time.monotonic() - start

    def _row(self, row):
        names = [name for name in self.options.systems if name in row.systems and name not in self.results.missing]
        for repetition in range(self.options.repeat * row.rounds):
            # vprun comes last in the first round: it is given what zram was seen to take.
            for name in names if repetition % 2 == 0 else reversed(names):
                interrupt.check()
                self._cell(row, systems.SYSTEMS[name])

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
