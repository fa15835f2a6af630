"""The columns: where a program's memory comes from, and how a program is run so."""
import contextlib
import json
import os
import select
import subprocess
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import cgroup
import interrupt
import swaps
from swaps import Missing

KEPT = 1 << 16  # bytes of a program's output that are looked at; of the rest, only the checksum


@dataclass(frozen=True)
class System:
    name: str
    column: str  # systems of one column are variants: the better counts
    about: str
    swap: str = None
    page_cluster: int = None
    vprun: bool = False


SYSTEMS = {
    system.name: system
    for system in (
        System("native", "native", "no limit, no swap"),
        System("zram-0", "zram", "cgroup, zram with lz4, vm.page-cluster 0", "zram", 0),
        System("zram-3", "zram", "cgroup, zram with lz4, vm.page-cluster 3", "zram", 3),
        System("file-0", "swap file", "cgroup, swap file, vm.page-cluster 0", "file", 0),
        System("file-3", "swap file", "cgroup, swap file, vm.page-cluster 3", "file", 3),
        System("zswap", "zswap", "cgroup, zswap (lz4 if there is) over a swap file, vm.page-cluster 0", "zswap", 0),
        System("vprun", "vprun", "vprun, in a cgroup of its --ram, without swap", vprun=True),
    )
}
COLUMNS = list(dict.fromkeys(system.column for system in SYSTEMS.values()))


def why_missing(system):
    """Why a system cannot be measured here; None where it can. vprun and native always can."""
    if not system.swap:
        return None
    return cgroup.why_missing() or swaps.why_missing(system.swap)


@dataclass
class Finished:
    """A program that ended well."""

    output: str  # its beginning
    checksum: int  # of all of it
    seconds: float
    figures: dict = field(default_factory=dict)


class Running:
    """A program in a place."""

    def __init__(self, place, argv, *, environment=None, small=False):
        self.place = place
        self.late = False
        self.begun = time.monotonic()
        self.swapped_out = swaps.swapped_out()
        self.process = subprocess.Popen(
            [*place.prefix(small), *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
            stderr=place.errors.open("wb"), env={**os.environ, "LC_ALL": "C", **(environment or {})},
            preexec_fn=place.cgroup.enter if place.cgroup else None)
        interrupt.started(self.process.pid)
        self.io = self._open_io()

    def finish(self, timeout):
        """Its results; Failure if it did not end well or not in time. The exit status is looked at twice, because its
        I/O is known only until it is reaped."""
        pid = self.process.pid
        output, checksum = self._read(time.monotonic() + timeout)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        seconds = time.monotonic() - self.begun
        written = self._written()
        _, status, usage = os.wait4(pid, 0)
        interrupt.ended(pid)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        interrupt.check()
        self._complain(timeout)
        figures = {
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_rss_bytes": usage.ru_maxrss << 10,
            "run_written_bytes": written + (swaps.swapped_out() - self.swapped_out if self.place.on_disk else 0),
            **self.place.figures(),
        }
        return Finished(output.decode(errors="replace"), checksum, seconds, figures)

    def abandon(self):
        """Ends it, if it was not finished."""
        if self.process.returncode is None:
            interrupt.kill(self.process.pid)
            self.process.wait()
            interrupt.ended(self.process.pid)

    def _read(self, deadline):
        """Reads to the end. A program that takes too long is killed, which is an end as well."""
        output, checksum, pipe = b"", 0, self.process.stdout
        while not self.late and (chunk := self._chunk(pipe, deadline)):
            checksum = zlib.crc32(chunk, checksum)
            output += chunk[: KEPT - len(output)]
        pipe.close()
        return output, checksum

    def _chunk(self, pipe, deadline):
        if select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            return os.read(pipe.fileno(), 1 << 18)
        self.late = True
        interrupt.kill(self.process.pid)
        return b""

    def _open_io(self):
        """Opened early: once a process has ended, only root may. None if it has ended already."""
        try:
            return open(f"/proc/{self.process.pid}/io", encoding="ascii")
        except PermissionError:
            return None

    def _written(self):
        if not self.io:
            return 0
        with self.io:
            return int(self.io.read().split("\nwrite_bytes: ")[1].split()[0])

    def _complain(self, timeout):
        code, place = self.process.returncode, self.place
        if self.late:
            raise Failure(f"not done after {timeout:.0f} s")
        if place.cgroup and place.cgroup.kills():
            raise Failure(f"killed: did not fit into the cgroup of {place.limit >> 20} MiB")
        if code:
            said = place.errors.read_text(errors="replace").strip()[-500:]
            raise Failure(f"ended with status {code}: {said}", wrong="WRONG DATA" in said)


class Failure(Exception):
    """A program did not do its work. `wrong`: it got wrong data, the worst that can happen."""

    def __init__(self, text, wrong=False):
        super().__init__(text)
        self.wrong = wrong


class Place:
    """Where programs run as one system runs them."""

    def __init__(self, system, limit, directory, vprun):
        self.system, self.limit, self.directory, self.vprun = system, limit, Path(directory), vprun
        self.errors = self.directory / "errors"
        self.stats = self.directory / "stats"
        self.on_disk = system.swap in ("file", "zswap")
        self.cgroup = self.swap = None
        self.running = []

    def prefix(self, small=False):
        if not self.system.vprun:
            return []
        options = ["--ram", str(self.limit), "--spill", str(self.directory), f"--stats={self.stats}.%p"]
        return [str(self.vprun), *options, *(["--small"] if small else []), "--"]

    def start(self, argv, **options):
        interrupt.check()
        self.running.append(Running(self, [str(word) for word in argv], **options))
        return self.running[-1]

    def run(self, argv, timeout=600, **options):
        return self.start(argv, **options).finish(timeout)

    def clear(self):
        """Ends what was not finished, and removes the files of this run."""
        for running in self.running:
            running.abandon()
        for file in self.directory.glob("stats.*"):
            file.unlink()

    def figures(self):
        figures = {"limit_bytes": self.limit if self.cgroup or self.system.vprun else None}
        if self.swap:
            figures["memory_outside_bytes"] = self.swap.memory()
            figures["compressor"] = self.swap.compressor
        if self.cgroup:
            figures["cgroup_peak_bytes"] = self.cgroup.peak()
        stats = [json.loads(file.read_text()) for file in self.directory.glob("stats.*")]
        if stats:
            figures["vprun"] = max(stats, key=lambda one: one["peak_live_bytes"])
        return figures


@contextlib.contextmanager
def place(system, limit, swap_size, directory, vprun, confined=True):
    """Sets up what a system needs, and cleans up. Unconfined: no cgroup (for what has nothing to do with memory)."""
    made = Place(system, limit, directory, vprun)
    with contextlib.ExitStack() as stack:
        if system.page_cluster is not None:
            stack.enter_context(swaps.setting(swaps.PAGE_CLUSTER, system.page_cluster))
        if system.swap:
            made.swap = stack.enter_context(swaps.KINDS[system.swap](swap_size, directory))
        if confined and system.name != "native" and not cgroup.why_missing():
            made.cgroup = stack.enter_context(cgroup.Cgroup(limit))
        stack.callback(made.clear)
        yield made
