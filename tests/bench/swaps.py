"""What the kernel offers for more data than fits: zram, a swap file, zswap over one. Each is a context manager that
turns exactly one swap device on and leaves everything as it was."""
import contextlib
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

MIB = 1 << 20
PAGE_CLUSTER = Path("/proc/sys/vm/page-cluster")
ZRAM_CONTROL = Path("/sys/class/zram-control")
ZSWAP = Path("/sys/module/zswap/parameters")
ZSWAP_COMPRESSORS = ("lz4", "lzo-rle", "lzo")


class Missing(Exception):
    """Something cannot be measured here; says why."""


def command(*argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True, check=False)
    if done.returncode:
        raise Missing(f"{' '.join(argv)}: {done.stdout.strip()}")


def why_missing(kind):
    """Why a kind of swap ("zram", "file", "zswap") is not to be had; None where it is."""
    if os.geteuid():
        return "needs root"
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        return "swap is on already (/proc/swaps), and would be used too"
    if not all(shutil.which(name) for name in ("mkswap", "swapon", "swapoff")):
        return "needs mkswap, swapon and swapoff"
    if kind == "zram" and not (ZRAM_CONTROL / "hot_add").exists():
        return "the kernel has no zram (modprobe zram)"
    if kind == "zswap" and not ZSWAP.exists():
        return "the kernel has no zswap"
    return None


def swapped_out():
    """Bytes that the kernel has written to swap devices since it started."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith("pswpout "):
            return int(line.split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0


@contextlib.contextmanager
def setting(file, value):
    """A kernel parameter, changed for a while."""
    before = file.read_text().strip()
    try:
        file.write_text(str(value))
    except OSError as error:
        raise Missing(f"{file} cannot be {value}: {error.strerror}") from error
    try:
        yield
    finally:
        file.write_text(before)


@contextlib.contextmanager
def turned_on(device):
    command("mkswap", str(device))
    command("swapon", str(device))
    try:
        yield
    finally:
        command("swapoff", str(device))


def insist(file, value):
    """The kernel refuses while something (udev) still has the device open."""
    for attempt in range(50):
        try:
            file.write_text(str(value))
            return
        except OSError:
            if attempt == 49:
                raise
            time.sleep(0.1)


class Device:
    """A swap that is on. `memory()` is the most memory that it took beside the cgroup's, in bytes."""

    def __init__(self, memory, compressor=None):
        self.memory, self.compressor = memory, compressor


@contextlib.contextmanager
def zram(size, _directory):
    number = int((ZRAM_CONTROL / "hot_add").read_text())
    block = Path(f"/sys/block/zram{number}")
    try:
        (block / "comp_algorithm").write_text("lz4")
        (block / "disksize").write_text(str(size))
        with turned_on(f"/dev/zram{number}"):
            yield Device(lambda: int((block / "mm_stat").read_text().split()[4]), "lz4")  # mem_used_max
    finally:
        insist(block / "reset", 1)
        insist(ZRAM_CONTROL / "hot_remove", number)


@contextlib.contextmanager
def swap_file(size, directory):
    """The file is kept for the next time: writing it takes long, and the first writes to a new file are slow."""
    path = Path(directory) / "swap"
    if not path.exists() or path.stat().st_size < size:
        zeros = bytes(MIB)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0) as file:
            for _ in range(-(-size // MIB)):
                file.write(zeros)
            os.fsync(file.fileno())
    with turned_on(path):
        yield Device(lambda: 0)


class Peak(threading.Thread):
    """The highest value of a figure while it is watched."""

    def __init__(self, figure):
        super().__init__(daemon=True)
        self.figure, self.value, self.over = figure, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.05):
            self.value = max(self.value, self.figure())


def zswap_memory():
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Zswap:"):
            return int(line.split()[1]) << 10
    return 0


def set_zswap_compressor(stack):
    """lz4 where the kernel has it for zswap, else the next best. It refuses what it has not, but only with zswap on."""
    for name in ZSWAP_COMPRESSORS:
        try:
            stack.enter_context(setting(ZSWAP / "compressor", name))
            return name
        except Missing:
            pass
    raise Missing(f"zswap has none of {', '.join(ZSWAP_COMPRESSORS)}")


@contextlib.contextmanager
def zswap(size, directory):
    with contextlib.ExitStack() as stack:
        stack.enter_context(setting(ZSWAP / "enabled", "Y"))
        compressor = set_zswap_compressor(stack)
        stack.enter_context(swap_file(size, directory))
        peak = Peak(zswap_memory)
        peak.start()
        try:
            yield Device(lambda: peak.value, compressor)
        finally:
            peak.over.set()
            peak.join()


KINDS = {"zram": zram, "file": swap_file, "zswap": zswap}
