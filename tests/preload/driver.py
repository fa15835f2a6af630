#!/usr/bin/env python3
"""Runs one case of the preload suite: a program without the shim and with it, and compares what can be seen from outside.

    driver.py --vprun PATH --case NAME --mode MODE [--trap BACKEND] [--unprivileged | --cgroup]

Compared are stdout byte for byte, stderr, exit status or signal, and every file left in the working directory. From the
shim's statistics: the self-test, that nothing is poisoned, and that the case did what it is for (faults, evictions);
from the kernel: the peak resident set against the budget. cases.py has the table. The driver itself is never shimmed.

Exit status: 0 passed, 1 failed, 77 skipped (the last line says why).
"""

import argparse
import difflib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cases

NOBODY = 65534
MEMORY_MAX = 5 << 30  # of a run and all its children: beyond it something is broken, and the machine is shared
TOLERANCE = 1.05  # the promise of --ram


class Failure(Exception):
    """The case does not hold."""


class Skip(Exception):
    """The case cannot be run here."""


class Context:
    """What a case's functions may need: where things are, and the mode."""

    def __init__(self, options, directory):
        self.victims = options.victims
        self.directory = directory  # holds what prepare() makes; the runs' working directories are below it
        self.mode = options.mode
        self.trap = options.trap
        self.patience = options.patience
        self.budget = cases.MODES[options.mode].budget  # MiB, or None

    def victim(self, name, *arguments):
        return [str(self.victims / ("victim_" + name)), *map(str, arguments)]

    def scaled(self, times, otherwise):
        """MiB: so many times the budget, where the mode has one."""
        return self.budget * times if self.budget else otherwise

    def python(self):
        """One that any user may run, where there is one."""
        return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else shutil.which("python3")

    def python_with_numpy(self):
        for python in ("python3", "/usr/bin/python3"):
            found = shutil.which(python)
            if found and subprocess.run([found, "-c", "import numpy"], stderr=subprocess.DEVNULL).returncode == 0:
                return found
        raise Skip("no python3 with numpy")


class Run:
    """One finished run: its directory, wait status and peak resident set."""

    def __init__(self, directory):
        self.directory = directory
        self.stdout = directory.with_suffix(".stdout")
        self.stderr = directory.with_suffix(".stderr")
        self.status = None
        self.peak = None  # bytes

    def ending(self):
        if os.WIFSIGNALED(self.status):
            return "killed by " + signal.Signals(os.WTERMSIG(self.status)).name
        return f"exit status {os.WEXITSTATUS(self.status)}"


def resident_of_session(session):
    """Bytes resident in all processes of that session."""
    total = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                if int(stat[3]) == session:
                    total += int(stat[21]) * os.sysconf("SC_PAGESIZE")
            except (OSError, IndexError):
                pass  # it has just ended
    return total


def kill_session(session):
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) == session:
                    os.kill(int(entry), signal.SIGKILL)
            except OSError:
                pass


class Cgroup:
    """A memory cgroup without swap, of either version, for one run."""

    ROOTS = {1: Path("/sys/fs/cgroup/memory"), 2: Path("/sys/fs/cgroup")}
    LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
    EVENTS = {1: "memory.oom_control", 2: "memory.events"}

    def __init__(self, limit):
        self.version = 2 if (self.ROOTS[2] / "cgroup.controllers").exists() else 1
        self.path = self.ROOTS[self.version] / f"vp-preload-{os.getpid()}"
        try:
            self.path.mkdir()
        except OSError as error:
            raise Skip(f"no memory cgroup can be made: {error}")
        try:
            if self.version == 1:
                (self.path / "memory.swappiness").write_text("0")
            elif (self.path / "memory.swap.max").exists():
                (self.path / "memory.swap.max").write_text("0")
            (self.path / self.LIMIT[self.version]).write_text(str(limit))
        except OSError as error:
            self.remove()
            raise Skip(f"the memory controller is not to be had: {error}")

    def enter(self):
        (self.path / "cgroup.procs").write_text("0")

    def kills(self):
        text = (self.path / self.EVENTS[self.version]).read_text()
        return int(re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)[1])

    def remove(self):
        for _ in range(50):  # a process that has just ended leaves in its own time
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.1)


def execute(command, run, context, case, unprivileged, cgroup=None):
    """Runs command in run.directory, bounded in time, memory and disk."""
    run.directory.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("VP_", "LD_", "MALLOC_", "GLIBC_"))}
    environment.update(LC_ALL="C", TZ="UTC", HOME=str(run.directory), TMPDIR=str(context.directory / "tmp"),
                       INPUT=str(context.directory), **case.environment)
    prefix = []
    if unprivileged:
        os.chown(run.directory, NOBODY, NOBODY)
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    report, report_end = os.pipe()
    with open(run.stdout, "wb") as stdout, open(run.stderr, "wb") as stderr:
        process = subprocess.Popen(
            [*prefix, str(context.victims / "preload_measure"), str(report_end), *command], cwd=run.directory,
            env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, pass_fds=[report_end],
            start_new_session=True, preexec_fn=cgroup.enter if cgroup else None)
    os.close(report_end)
    end = time.monotonic() + case.timeout * context.patience
    problem = None
    try:
        while problem is None:
            try:
                process.wait(timeout=0.25)
                break
            except subprocess.TimeoutExpired:
                pass
            if time.monotonic() > end:
                problem = f"not finished after {case.timeout * context.patience} s"
            elif resident_of_session(process.pid) > MEMORY_MAX:
                problem = f"more than {MEMORY_MAX >> 20} MiB resident"
    finally:
        kill_session(process.pid)  # also what a finished program has left behind
        process.wait()
    with os.fdopen(report) as stream:
        fields = stream.read().split()
    if problem or len(fields) != 2:
        raise Failure(f"{run.directory.name} run: {problem or 'could not be measured'}\n{tail(run.stderr)}")
    run.status, run.peak = int(fields[0]), int(fields[1]) << 10


def tail(path, lines=15):
    text = path.read_bytes()[-4000:].decode(errors="replace").splitlines()[-lines:]
    return "".join(f"    {line}\n" for line in text)


# ---- comparing ----

def show_difference(name, expected, found):
    """A message about two files (or bytes) that should be the same: small texts as a diff, others by their first
    difference."""
    def text(data):
        return data.decode().splitlines() if len(data) < 20000 and b"\0" not in data else None

    try:
        if text(expected) is not None and text(found) is not None:
            lines = list(difflib.unified_diff(text(expected), text(found), "expected", "shimmed", lineterm="", n=2))
            return f"{name} differs:\n" + "".join(f"    {line}\n" for line in lines[:40])
    except UnicodeDecodeError:
        pass
    at = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
    return (f"{name} differs at byte {at} (of {len(expected)} expected, {len(found)} found):\n"
            f"    expected {expected[at:at + 32].hex(' ')}\n    shimmed  {found[at:at + 32].hex(' ')}\n")


def compare_files(name, expected, found):
    """Piece by piece: the driver stays small."""
    with open(expected, "rb") as a, open(found, "rb") as b:
        offset = 0
        while True:
            left, right = a.read(1 << 20), b.read(1 << 20)
            if left != right:
                raise Failure(show_difference(name + (f" (from offset {offset})" if offset else ""), left, right))
            if not left:
                return
            offset += len(left)


def produced(run):
    return {str(p.relative_to(run.directory)): p for p in sorted(run.directory.rglob("*")) if p.is_file()}


def compare_produced(case, plain, shimmed):
    if not case.files:
        return
    expected, found = produced(plain), produced(shimmed)
    if expected.keys() != found.keys():
        raise Failure("other files are left:\n" + "".join(
            f"    {'missing' if n in expected else 'new'}: {n}\n" for n in sorted(expected.keys() ^ found.keys())))
    for name in expected:
        compare_files(name, expected[name], found[name])


def is_shim_line(line):
    return re.match(rb"vp\[\d+\]: |vprun: ", line)


def check_stderr(case, run, expected):
    """Apart from the lines that the case calls for, the shim is silent."""
    lines = run.stderr.read_bytes().splitlines(keepends=True)
    own = [line.decode(errors="replace").rstrip("\n") for line in lines if is_shim_line(line)]
    least, most, pattern = case.says
    wrong = [line for line in own if not re.search(pattern, line)] if most else own
    if wrong:
        raise Failure("the shim says on stderr:\n" + "".join(f"    {line}\n" for line in wrong[:10]))
    if not least <= len(own) <= most:
        raise Failure(f"{len(own)} lines of the shim on stderr, not {least} to {most}:\n"
                      + "".join(f"    {line}\n" for line in own[:10]))
    if expected is not None and case.stderr:
        rest = b"".join(line for line in lines if not is_shim_line(line))
        if rest != expected:
            raise Failure(show_difference("stderr", expected, rest))


# ---- what the shim did ----

def read_stats(directory):
    stats = []
    for path in sorted(directory.glob("stats-*.json")):
        if path.stat().st_size == 0:
            continue  # a pool's worker that was killed between opening its file and writing to it
        try:
            stats.append(json.loads(path.read_text()))
        except json.JSONDecodeError as error:
            raise Failure(f"statistics are no JSON: {error}\n{tail(path)}")
    return stats


def check_stats(case, context, run):
    stats = read_stats(context.directory / "stats")
    if os.WIFEXITED(run.status) and not stats:
        raise Failure("no statistics were written: was the program shimmed at all?")
    for one in stats:
        who = f"{one['program']} (pid {one['pid']})"
        if one["self_test"] != "ok":
            raise Failure(f"{who}: self_test: {one['self_test']}")
        if one["poisoned_pages"] != 0:
            raise Failure(f"{who}: {one['poisoned_pages']} poisoned pages")
        if case.spilled is not None and one["spilled_bytes"] > case.spilled << 20:
            raise Failure(f"{who}: a spill file of {one['spilled_bytes'] >> 20} MiB, {case.spilled} expected at most")
    if not os.WIFEXITED(run.status):
        return
    total = {key: sum(one[key] for one in stats) for key in ("faults", "evictions", "spill_writes")}
    touched = case.touched(context) if callable(case.touched) else case.touched
    lazy = cases.MODES[context.mode].lazy
    paged = context.budget is not None and touched > context.budget
    if touched and (lazy or paged) and total["faults"] == 0:
        raise Failure(f"no faults in mode {context.mode} with {touched} MiB touched")
    if paged and total["evictions"] == 0:
        raise Failure(f"no evictions with {touched} MiB touched and a budget of {context.budget} MiB")
    if not case.huge and context.budget is None and total["evictions"]:
        raise Failure(f"{total['evictions']} evictions without need")
    if not case.huge and context.mode == "default" and total["faults"]:
        raise Failure(f"{total['faults']} faults in the default mode: the shim is not inert")
    print(f"  {len(stats)} processes; {total['faults']} faults, {total['evictions']} evictions, "
          f"{total['spill_writes']} pages spilled; peak {run.peak >> 20} MiB")


def check_peak(case, context, run):
    """The cap, as the kernel saw it. Programs whose other memory alone comes near the budget are not held to it."""
    if context.budget is None or case.outside * 2 > context.budget or case.above_cap:
        return
    # The mprotect backend counts 64 KiB pages when it opens them, the kernel when they are touched: while a large buffer is
    # being read into, the two are apart.
    slack = 8 << 20 if context.trap == "mprotect" else 0
    if run.peak > (context.budget << 20) * TOLERANCE + slack:
        raise Failure(f"peak resident set {run.peak / 2**20:.1f} MiB with --ram {context.budget}M")


# ---- skipping ----

def usable_backend(vprun, name, prefix):
    """Whether --doctor calls the backend usable: a line with its name, then "usable" or the reason why not."""
    text = subprocess.run([*prefix, vprun, "--doctor"], capture_output=True, text=True, timeout=20).stdout
    for line in text.splitlines():
        match = re.match(rf"\s*(?:trap\s+)?{re.escape(name)}\b[:\s]*(.*)", line)
        if match:
            return match[1].strip().startswith("usable"), line.strip()
    return False, f"--doctor does not know {name}"


def known_libraries():
    """What the loader finds by name, as text."""
    command = ["ldconfig", "-p"]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin"}).stdout


def check_possible(case, options):
    prefix = []
    if options.unprivileged:
        if os.geteuid() != 0 or not shutil.which("setpriv"):
            raise Skip("--unprivileged needs root and setpriv")
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        if subprocess.run([*prefix, "test", "-x", options.vprun]).returncode != 0:
            raise Skip(f"user {NOBODY} cannot reach {options.vprun}")
    for program in case.needs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")
    for library in case.libraries:
        if library not in known_libraries():
            raise Skip(f"{library} is not installed")
    if options.trap in case.not_on:
        raise Skip(f"not for trap backend {options.trap}")
    if options.trap:
        usable, line = usable_backend(options.vprun, options.trap, prefix)
        if not usable:
            raise Skip(f"trap backend {options.trap}: {line}")


# ---- one case ----

def run_case(options, directory):
    case = cases.CASES[options.case]
    mode = cases.MODES[options.mode]
    check_possible(case, options)
    context = Context(options, directory)
    for name in ("tmp", "spill", "stats"):
        (directory / name).mkdir()
        (directory / name).chmod(0o1777)
    directory.chmod(0o755)
    if case.prepare:
        case.prepare(context)
    command = case.command(context)

    plain = None
    if case.expect is None:
        plain = Run(directory / "plain")
        execute(command, plain, context, case, options.unprivileged)

    shim = [options.vprun, *mode.options, "--spill", str(directory / "spill"),
            f"--stats={directory / 'stats' / 'stats-%p.json'}", *case.options]
    if options.trap:
        shim += ["--trap", options.trap]
    shim.append("--")
    shimmed = Run(directory / "shim")
    print("+", shlex.join([*shim, *command]), flush=True)
    start = time.monotonic()
    cgroup = Cgroup(int((context.budget << 20) * TOLERANCE)) if options.cgroup else None
    try:
        execute([*case.wrapper, *shim, *command], shimmed, context, case, options.unprivileged, cgroup)
        kills = cgroup.kills() if cgroup else 0
    finally:
        if cgroup:
            cgroup.remove()
    print(f"  {time.monotonic() - start:.1f} s, {shimmed.ending()}")
    if kills:
        raise Failure(f"the kernel killed it: over {TOLERANCE} times --ram {context.budget}M")

    try:
        if plain:
            if plain.status != shimmed.status:
                raise Failure(f"{shimmed.ending()}; {plain.ending()} without the shim")
            compare_files("stdout", plain.stdout, shimmed.stdout)
            compare_produced(case, plain, shimmed)
        else:
            if shimmed.status != 0:
                raise Failure(shimmed.ending())
            expected, found = case.expect(context).encode(), shimmed.stdout.read_bytes()
            if expected != found:
                raise Failure(show_difference("stdout", expected, found))
        check_stderr(case, shimmed, plain.stderr.read_bytes() if plain else None)
        check_stats(case, context, shimmed)
        check_peak(case, context, shimmed)
        left = sorted(p.name for p in (directory / "spill").iterdir())
        if left:
            raise Failure(f"left in the spill directory: {', '.join(left)}")
    except Failure as failure:
        said = f"  end of its stdout:\n{tail(shimmed.stdout)}" if case.expect else ""
        raise Failure(f"{failure}\n{said}  end of its stderr:\n{tail(shimmed.stderr)}") from None


def main():
    here = Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vprun", required=True, type=os.path.abspath)
    parser.add_argument("--case", required=True, choices=sorted(cases.CASES))
    parser.add_argument("--mode", required=True, choices=list(cases.MODES))
    parser.add_argument("--trap", metavar="BACKEND")
    parser.add_argument("--unprivileged", action="store_true", help="as user and group 65534 (needs root)")
    parser.add_argument("--cgroup", action="store_true",
                        help=f"in a memory cgroup of {TOLERANCE} times the budget, without swap (needs root)")
    parser.add_argument("--victims", type=Path, help="directory of the victim programs (default: beside vprun)")
    parser.add_argument("--patience", type=int, default=1, help="that many times the case's time")
    parser.add_argument("--keep", action="store_true", help="leave the directory of a failed case")
    options = parser.parse_args()
    if options.victims is None:
        options.victims = Path(options.vprun).parent / here.parent.relative_to(here.parents[2])
    options.victims = options.victims.resolve()

    # A real disk: the spill file is refused on tmpfs.
    directory = Path(tempfile.mkdtemp(prefix="vp-preload-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    keep = False
    try:
        run_case(options, directory)
    except Skip as skip:
        print(f"skipped: {skip}")
        return 77
    except Failure as failure:
        keep = options.keep
        print(f"FAILED: {failure}" + (f"  kept: {directory}" if keep else ""))
        return 1
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    print("passed")
    return 0


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # meson's timeout: clean up before the end
        signal.signal(number, lambda *_: sys.exit("stopped by a signal"))
    sys.exit(main())
