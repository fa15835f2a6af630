"""What was measured, and what follows from it: medians, ratios, targets met or not."""
import statistics
from collections import defaultdict
from dataclasses import dataclass

from systems import SYSTEMS

STARTUP_US = 300  # that `true` may take longer


@dataclass(frozen=True)
class Check:
    """A target."""

    about: str
    measured: str
    wanted: str
    met: bool


class Results:
    def __init__(self, rows):
        self.rows = {row.name: row for row in rows}
        self.runs = defaultdict(list)  # (row, system): figures of each run
        self.failures = defaultdict(list)  # (row, system): texts
        self.missing = {}  # system or row: why it was not measured
        self.bare = {}  # what the machine itself takes
        self.wrong = False  # some program got wrong data
        self.seconds = 0  # that it all took

    def median(self, row, system, *path):
        """Of a figure; None where nobody measured it."""
        values = []
        for figures in self.runs[row, system]:
            for key in path:
                figures = (figures or {}).get(key)
            if figures is not None:
                values.append(figures)
        return statistics.median(values) if values else None

    def best(self, row, column):
        """The fastest system of a column; None where there is none."""
        sign = -1 if self.rows[row].smaller_is_better else 1
        speeds = {name: self.median(row, name, "value") for name, system in SYSTEMS.items() if system.column == column}
        speeds = {name: sign * value for name, value in speeds.items() if value is not None}
        return max(speeds, key=speeds.get) if speeds else None

    def value(self, row, column, *path):
        if row not in self.rows:
            return None
        system = self.best(row, column)
        return self.median(row, system, *(path or ("value",))) if system else None

    def ratio(self, row, column, to):
        """How many times as fast a column is as another."""
        one, other = self.value(row, column), self.value(row, to)
        if self.rows[row].smaller_is_better:
            one, other = other, one
        return one / other if one is not None and other else None

    def zram_memory(self, row):
        """The most that zram took in a run of this row."""
        return max((figures.get("memory_outside_bytes", 0) for (name, system), runs in self.runs.items()
                    if name == row and SYSTEMS[system].swap == "zram" for figures in runs), default=0)

    def failed(self, row, column):
        return any(texts for (name, system), texts in self.failures.items()
                   if name == row and SYSTEMS[system].column == column)

    def target(self, row):
        """Whether a row meets its target; None where it has none, or nothing to compare with."""
        wanted, ratio = self.rows[row].target, self.ratio(row, "vprun", self.rows[row].against)
        if wanted is None or (ratio is None and not self.failed(row, "vprun")):
            return None
        return ratio is not None and ratio >= wanted

    # ---- targets that are not one row's speed ----

    def checks(self):
        yield from self._startup()
        yield from self._faults("random-read text 2x", "trap", "from the compressed tier", "trap + UFFDIO_COPY", 1.5)
        yield from self._faults("random-read random 2x", "disk", "from the disk", "O_DIRECT pread", 1.15)
        yield from self._threads()
        yield from self._writes()

    def _startup(self):
        bare, shimmed = (self.value("start of true", column) for column in ("native", "vprun"))
        if bare and shimmed:
            added = shimmed - bare
            yield Check("start-up adds", f"{added / 1000:.2f} ms", f"at most {STARTUP_US / 1000} ms",
                        added <= STARTUP_US)

    def _faults(self, row, bare, where, what, most):
        p50, p99 = (self.value(row, "vprun", "fault_ns", key) for key in ("p50", "p99"))
        if not p50:
            return
        if floor := (self.bare.get(bare) or {}).get("p50"):
            measured = f"{p50 / 1000:.1f} us, {p50 / floor:.2f} times {floor / 1000:.1f} us"
            about = f"a fault {where}, p50, to a bare {what}"
            yield Check(about, measured, f"at most {most} times", p50 <= most * floor)
        yield Check(f"a fault {where}, p99 to p50", f"{p99 / p50:.1f} times", "at most 4 times", p99 <= 4 * p50)

    def _threads(self):
        for row in self.rows:
            if not row.endswith(" 2 threads"):
                continue
            one, two = self.value(row.removesuffix(" 2 threads"), "vprun"), self.value(row, "vprun")
            if one and two:
                yield Check(f"{row} to one", f"{two / one:.2f} times", "at least 1.6 times", two >= 1.6 * one)

    def _writes(self):
        for name, row in self.rows.items():
            if row.group != "spills":
                continue
            ours, theirs = (self.value(name, column, "written_per_access") for column in ("vprun", "swap file"))
            if ours is not None and theirs is not None:
                yield Check(f"{name}: bytes written for an access", f"{ours:.0f}; swap file {theirs:.0f}", "no more",
                            ours <= theirs)
