"""A memory cgroup, of either version, with a hard limit."""
import os
import signal
import time
from pathlib import Path

from swaps import Missing

ROOTS = {1: Path("/sys/fs/cgroup/memory"), 2: Path("/sys/fs/cgroup")}


def version():
    """Of the hierarchy that has the memory controller; None where there is none."""
    if (ROOTS[1] / "memory.limit_in_bytes").exists():
        return 1
    controllers = ROOTS[2] / "cgroup.controllers"
    return 2 if controllers.exists() and "memory" in controllers.read_text().split() else None


def why_missing():
    if os.geteuid():
        return "needs root"
    return None if version() else "no memory cgroups (/sys/fs/cgroup)"


class Cgroup:
    """Made when entered, removed when left; what still runs in it then is killed."""

    LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
    KILLS = {1: "memory.oom_control", 2: "memory.events"}
    PEAK = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}

    def __init__(self, limit):
        self.limit, self.version = limit, version()
        self.path = ROOTS[self.version] / f"hyperion-bench-{os.getpid()}"
        self.controls = ROOTS[2] / "cgroup.subtree_control"
        self.added_controller = False

    def __enter__(self):
        if self.version == 2 and "memory" not in self.controls.read_text().split():
            self.controls.write_text("+memory")
            self.added_controller = True
        try:
            self.path.mkdir()
            (self.path / self.LIMIT[self.version]).write_text(str(self.limit))
        except OSError as error:
            self.__exit__()
            raise Missing(f"no memory cgroup of {self.limit >> 20} MiB: {error}") from error
        return self

    def __exit__(self, *_):
        if self.path.exists():
            self._empty()
            self.path.rmdir()
        if self.added_controller:
            self.controls.write_text("-memory")

    def _empty(self):
        for _ in range(100):
            left = (self.path / "cgroup.procs").read_text().split()
            if not left:
                return
            for pid in map(int, left):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)

    def enter(self):
        """To be called by the process that is to be in it."""
        (self.path / "cgroup.procs").write_text("0")

    def kills(self):
        """Processes that the kernel killed because they did not fit."""
        for line in (self.path / self.KILLS[self.version]).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def peak(self):
        file = self.path / self.PEAK[self.version]
        return int(file.read_text()) if file.exists() else None
