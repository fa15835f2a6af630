"""The results as Markdown and as JSON."""
import json
import os
import platform
from pathlib import Path

from systems import COLUMNS, SYSTEMS
from works import GROUPS

MIB = 1 << 20


def speed(value, unit):
    """A figure as people write it."""
    if value is None:
        return ""
    if unit.endswith("/s") and unit != "MiB/s":
        return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:.1f} k/s"
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def mebibytes(value):
    return "" if value is None else f"{value / MIB:.0f}"


def verdict(met):
    return {None: "", True: "met", False: "**no**"}[met]


class Report:
    def __init__(self, results, settings):
        self.results, self.settings = results, settings

    def markdown(self):
        parts = [self._machine(), *(self._group(group) for group in GROUPS), self._checks(), self._details(),
                 self._failures(), self._missing()]
        return "\n".join(part for part in parts if part)

    def _machine(self):
        settings = self.settings
        lines = ["Speed of the columns, medians; the `vprun` column has as much memory as what it is compared with "
                 "(zram's own memory is outside its cgroup, and `vprun` is given limit + that).", ""]
        lines.append(f"{os.cpu_count()} processors, {platform.machine()}, Linux {platform.release()}; limit "
                     f"{settings['ram'] // MIB} MiB, {settings['seconds']:g} s and {settings['repeat']} repetitions "
                     f"each, {self.results.seconds / 60:.0f} min in all.")
        return "\n".join(lines) + "\n"

    def _group(self, group):
        rows = [row for row in self.results.rows.values() if row.group == group]
        used = [column for column in COLUMNS if any(self._shown(row, column) for row in rows)]
        if not used:
            return ""
        head = [GROUPS[group], *used, "vprun to", "target", ""]
        return table(head, [self._line(row, used) for row in rows])

    def _shown(self, row, column):
        return self.results.best(row.name, column) or self.results.failed(row.name, column)

    def _line(self, row, used):
        ratio = self.results.ratio(row.name, "vprun", row.against)
        compared = "" if ratio is None else f"{ratio:.2f} x {row.against}"
        target = "" if row.target is None else f"{row.target:g} x"
        return [row.name, *(self._cell(row, column) for column in used), compared, target,
                verdict(self.results.target(row.name))]

    def _cell(self, row, column):
        if self.results.failed(row.name, column):
            return "**failed**"
        return speed(self.results.value(row.name, column), row.unit)

    def _checks(self):
        checks = list(self.results.checks())
        rows = [[check.about, check.measured, check.wanted, verdict(check.met)] for check in checks]
        return table(["Other targets", "measured", "wanted", ""], rows) if rows else ""

    def _details(self):
        head = ["Details", "", "access p50, p99, p99.9 (us)", "fault p50, p99, p99.9 (us)", "CPU s", "peak RSS MiB",
                "limit MiB", "beside it MiB", "written MiB"]
        rows = [self._detail(row, system) for row in self.results.rows for system in SYSTEMS
                if self.results.runs[row, system]]
        return table(head, rows) if rows else ""

    def _detail(self, row, system):
        def of(*path):
            return self.results.median(row, system, *path)

        def percentiles(name):
            values = [of(name, key) for key in ("p50", "p99", "p999")]
            return "" if None in values else ", ".join(f"{value / 1000:.1f}" for value in values)

        cpu = of("cpu_seconds")
        return [row, system, percentiles("access_ns"), percentiles("fault_ns"), "" if cpu is None else f"{cpu:.2f}",
                mebibytes(of("peak_rss_bytes")), mebibytes(of("limit_bytes")), mebibytes(of("memory_outside_bytes")),
                mebibytes(of("written_bytes"))]

    def _failures(self):
        lines = [f"- {row}, {system}: {text}" for (row, system), texts in self.results.failures.items()
                 for text in dict.fromkeys(texts)]
        return "\n".join(["Failures:", "", *lines]) + "\n" if lines else ""

    def _missing(self):
        lines = [f"- {name}: {why}" for name, why in self.results.missing.items()]
        return "\n".join(["Not measured:", "", *lines]) + "\n" if lines else ""

    def json(self):
        results = self.results
        return json.dumps({
            "settings": self.settings,
            "machine": {"processors": os.cpu_count(), "kernel": platform.release(), "architecture": platform.machine()},
            "seconds": results.seconds,
            "bare_ns": results.bare,
            "rows": [self._row(row) for row in results.rows.values()],
            "checks": [vars(check) for check in results.checks()],
            "missing": results.missing,
        }, indent=1) + "\n"

    def _row(self, row):
        results = self.results
        return {
            "name": row.name, "group": row.group, "about": row.about, "unit": row.unit,
            "smaller_is_better": row.smaller_is_better, "against": row.against, "target": row.target,
            "ratio": results.ratio(row.name, "vprun", row.against), "met": results.target(row.name),
            "systems": {system: self._figures(row, system) for system in row.systems
                        if system not in results.missing},
        }

    def _figures(self, row, system):
        runs, failures = self.results.runs[row.name, system], self.results.failures[row.name, system]
        return {"median": self.results.median(row.name, system, "value"), "runs": runs, "failures": failures}

    def write(self, directory, chart):
        Path(directory).mkdir(parents=True, exist_ok=True)
        for name, text in (("bench.md", self.markdown()), ("bench.json", self.json()), ("bench.svg", chart)):
            (Path(directory) / name).write_text(text)
