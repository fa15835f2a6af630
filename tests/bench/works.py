"""The rows: what is done, how much memory it takes, which systems do it, and how fast it has to be."""
import json
import os
import random
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from redis_client import Client
from swaps import Missing
from systems import Failure

PROGRAMS = Path(__file__).resolve().parent / "programs"
GIB = 1 << 30
ZRAM = ("native", "zram-0", "zram-3", "vprun")
FILE = ("native", "file-0", "file-3", "vprun")
BARE = ("native", "vprun")


@dataclass(frozen=True)
class Row:
    name: str
    group: str
    about: str
    run: object  # (context, place) -> figures, with "value" among them
    unit: str = "accesses/s"
    times_ram: float = 2  # how much memory the work takes
    systems: tuple = ZRAM
    against: str = "zram"  # the column that vprun is compared with
    target: float = 1.0  # how many times as fast as that
    gets_zram: bool = True  # vprun is given what zram took besides the limit
    confined: bool = True
    ram: int = None  # instead of what --ram says
    rounds: int = 1  # for each repetition
    repeat_most: int = 100  # repetitions: what takes long is repeated less

    @property
    def smaller_is_better(self):
        return self.unit in ("s", "us", "ms")


@dataclass
class Context:
    """What rows need to know of this run of the benchmark."""

    build: Path
    directory: Path
    ram: int
    seconds: float
    seed: int
    checksums: dict  # of each program's output, by row: all systems must agree

    def program(self, name):
        return self.build / "tests" / "bench" / name


# ---- patterns of access to one block ----


def access(pattern, data, times_ram, threads, context, place):
    size = int(context.ram * times_ram) >> 20
    finished = place.run([
        context.program("bench_work"), "--pattern", pattern, "--data", data, "--size", f"{size}M", "--threads", threads,
        "--seconds", context.seconds, "--warmup", max(0.3, context.seconds / 4), "--seed", context.seed])
    said = json.loads(finished.output)
    written = said["written_bytes"] + (said["swapped_out_bytes"] if place.on_disk else 0)
    return {
        **finished.figures,
        **{key: said[key] for key in ("accesses", "fill_mib_s", "access_ns", "fault_ns", "peak_rss_bytes")},
        "value": said["mib_s"] or said["per_second"],
        "cpu_seconds": said["user_seconds"] + said["system_seconds"],
        "written_bytes": written,
        "written_per_access": written / max(1, said["accesses"]),
    }


def access_row(pattern, data, times_ram, threads, target, about, **more):
    name = f"{pattern} {data} {times_ram:g}x" + (f" {threads} threads" if threads > 1 else "")
    unit = "MiB/s" if pattern in ("scan", "fill") else "accesses/s"
    run = partial(access, pattern, data, times_ram, threads)
    more.setdefault("group", "compressible")
    return Row(name, about=about, run=run, unit=unit, times_ram=times_ram, target=target, **more)


def spill_row(pattern, times_ram, threads, target, about, systems=FILE):
    return access_row(pattern, "random", times_ram, threads, target, about, group="spills", systems=systems,
                      against="swap file", gets_zram=False)


def fitting_row(pattern, about):
    return access_row(pattern, "text", 0.5, 1, 0.99, about, group="fits", systems=BARE, against="native", rounds=3,
                      gets_zram=False)


# ---- real programs ----


def elapsed(context, row, place, argv, **options):
    finished = place.run(argv, **options)
    if context.checksums.setdefault(row, finished.checksum) != finished.checksum:
        raise Failure(f"WRONG DATA: {row} has another result than before", wrong=True)
    return {**finished.figures, "value": finished.seconds, "written_bytes": finished.figures["run_written_bytes"]}


def python_with(module):
    """The first Python that has a module: packages of the system are for /usr/bin/python3."""
    for python in ("/usr/bin/python3", "python3"):
        if shutil.which(python) and not subprocess.run(
            [python, "-c", f"import {module}"], stderr=subprocess.DEVNULL, check=False
        ).returncode:
            return python
    raise Missing(f"no python3 that can import {module}")


def python_program(script, module, options, context, place):
    size = int(context.ram * 2)
    return elapsed(context, script, place, [python_with(module), PROGRAMS / script, size],
                   environment={"OPENBLAS_NUM_THREADS": "1"}, **options)


def records(context):
    """A file of records as logs of many machines are when they are put together: nearly in order. (In no order at all,
    sort goes back and forth over all its buffer, which nothing smaller serves well.) sort needs about 1.3 times its
    size."""
    path = context.directory / "records"
    if not path.exists():
        order, text = random.Random(1), " a record of the benchmark, as long as records often are" * 2
        with path.open("w") as file:
            for i in range(int(context.ram * 2 / 1.3 / 128)):
                file.write(f"{(i + order.random() * 20000) * 1000:010.0f}{text}\n")
    return path


def gnu_sort(context, place):
    sort = shutil.which("sort")
    if not sort:
        raise Missing("no sort")
    argv = [sort, "--parallel=1", f"--buffer-size={context.ram * 4 >> 10}K", records(context)]
    return elapsed(context, "sort", place, argv)


def redis(context, place):
    server = shutil.which("redis-server")
    if not server:
        raise Missing("no redis-server")
    path = context.directory / "redis"
    running = place.start([server, "--port", 0, "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir",
                           context.directory, "--logfile", "", "--loglevel", "warning"])
    try:
        client = Client(str(path), context.ram * 2, context.seed)
        client.fill()
        value = client.mix(context.seconds)
        client.socket.sendall(b"SHUTDOWN NOSAVE\r\n")
    except ValueError as error:
        raise Failure(str(error), wrong=True) from error
    except OSError as error:
        running.finish(5)  # says why it is gone, if it can
        raise Failure(f"redis: {error}") from error
    finished = running.finish(60)
    return {**finished.figures, "value": value, "written_bytes": finished.figures["run_written_bytes"]}


def program_row(name, about, run, unit="s", target=1.0):
    return Row(name, "programs", about, run, unit, target=target, repeat_most=2)


# ---- guardrails ----


def startup(_context, place):
    """Microseconds from spawning `true` to its end."""
    shim = [str(place.vprun), "--"] if place.system.vprun else []
    argv, times = [*shim, "/bin/true"], []
    for _ in range(200):
        start = time.perf_counter_ns()
        _, status = os.waitpid(os.posix_spawn(argv[0], argv, os.environ), 0)
        times.append((time.perf_counter_ns() - start) / 1000)
        if status:
            raise Failure(f"true ended with status {status}")
    return {**place.figures(), "value": statistics.median(times)}


def allocations(pick, context, place):
    available = int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) << 10
    if available < 2 * GIB:
        raise Missing("needs 2 GiB of memory")
    finished = place.run([context.program("bench_alloc")])
    return {**finished.figures, "value": pick(json.loads(finished.output))}


def allocation_row(name, about, pick, unit):
    return Row(name, "guard", about, partial(allocations, pick), unit=unit, systems=BARE, against="native",
               confined=False, ram=3 * GIB, target=None, gets_zram=False)


ROWS = {
    row.name: row
    for row in (
        access_row("scan", "text", 2, 1, 5, "reads all pages in order, again and again",
                   systems=(*ZRAM, "file-3", "zswap")),
        access_row("fill", "text", 2, 1, 1, "writes all pages in order, again and again"),
        access_row("random-read", "text", 2, 1, 3, "reads a word of any page", systems=(*ZRAM, "file-0", "zswap")),
        access_row("random-update", "text", 2, 1, 1.5, "changes a word of any page",
                   systems=(*ZRAM, "file-0", "zswap")),
        access_row("zipf", "text", 2, 1, 2, "reads, page ranks drawn from Zipf's law, 0.99"),
        access_row("hot", "text", 4, 1, 2, "90 % of the reads in 10 % of the pages, which fit"),
        access_row("chase", "text", 2, 1, 1, "each page says which is next"),
        access_row("gups", "text", 2, 1, 1, "changes words of any pages, 64 at a time"),
        access_row("scan", "text", 4, 1, 5, "more data"),
        access_row("random-read", "text", 4, 1, 3, "more data"),
        access_row("random-update", "text", 4, 1, 1.5, "more data"),
        access_row("random-read", "text", 2, 2, 3, "another thread"),
        access_row("random-update", "text", 2, 2, 1.5, "another thread"),
        access_row("scan", "text", 2, 2, 5, "another thread"),
        access_row("random-read", "float", 2, 1, 3, "measured values as float64"),
        access_row("random-read", "heap", 2, 1, 3, "objects as Python's"),
        access_row("random-read", "zero", 2, 1, 3, "hardly anything but zeros"),
        spill_row("scan", 2, 1, 4, "nothing to compress: all goes to the disk"),
        spill_row("random-read", 2, 1, 2, "the same", systems=(*FILE, "zswap")),
        spill_row("random-update", 2, 1, 2, "the same"),
        spill_row("zipf", 2, 1, 3, "the same"),
        spill_row("random-read", 4, 1, 2, "more data"),
        spill_row("random-read", 2, 2, 2, "another thread"),
        fitting_row("scan", "fits: nothing may be lost"),
        fitting_row("random-read", "fits: nothing may be lost"),
        fitting_row("random-update", "fits: nothing may be lost"),
        Row("start of true", "guard", "from spawn to end", startup, "us", systems=BARE, against="native",
            confined=False, target=None, gets_zram=False, rounds=3),
        allocation_row("malloc+free 1M", "one byte written", lambda said: said["pair_ns"]["1M"] / 1000, "us"),
        allocation_row("malloc+free 1024M", "one byte written", lambda said: said["pair_ns"]["1024M"] / 1000, "us"),
        allocation_row("malloc+free 1M, written", "every page written", lambda said: said["touched_ns"] / 1000, "us"),
        allocation_row("realloc 1M to 1G", "in steps of 1 MiB, each written", lambda said: said["growth_ms"], "ms"),
        program_row("GNU sort", "sorts records that are nearly in order", gnu_sort, target=2),
        program_row("NumPy sort", "sorts measured values in place",
                    partial(python_program, "numpy_sort.py", "numpy", {}), target=2),
        program_row("NumPy matrix x vector", "fills a matrix, multiplies five times",
                    partial(python_program, "numpy_matvec.py", "numpy", {})),
        program_row("redis", "GET and SET of 1000 bytes at random, in pipelines", redis, "requests/s"),
        program_row("sqlite", "a table in memory, written, read at random and as a whole (vprun: --small)",
                    partial(python_program, "sqlite_table.py", "sqlite3", {"small": True})),
    )
}
GROUPS = {
    "compressible": "Compressible data, which fits when compressed",
    "spills": "Data that cannot be compressed",
    "fits": "Everything fits",
    "guard": "Start-up and allocations",
    "programs": "Real programs",
}
QUICK = (
    "scan text 2x", "random-read text 2x", "random-update text 2x", "zipf text 2x", "random-read random 2x", "GNU sort",
    "random-read text 0.5x", "start of true", "malloc+free 1M",
)


# ---- what the machine itself takes ----


def bare(context, place, *argv):
    """Nanoseconds, as percentiles; None where it cannot be had (no userfaultfd, no O_DIRECT there)."""
    try:
        return json.loads(place.run([context.program("bench_bare"), *argv]).output)["ns"]
    except Failure:
        return None


def bare_figures(context, place):
    return {"trap": bare(context, place, "trap"), "disk": bare(context, place, "disk", context.directory)}
