#!/usr/bin/env python3
"""Tests of the launcher: test_launcher.py PATH-OF-VPRUN

Every exit status and message of vprun, and what reaches the program. One line a case; exit 0, 1 (a case failed) or
77 (none could run).
"""
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

VPRUN = os.path.abspath(sys.argv[1])
LIBRARY = os.path.join(os.path.dirname(VPRUN), "libvp.so")
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
NOBODY = 65534
CASES = []


class Skip(Exception):
    """The machine cannot run a case; the text says why."""


def case(function):
    CASES.append(function)
    return function


def environment(**variables):
    """The test's own, without what could reach vprun by accident."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("VP_") and k != "LD_PRELOAD"}
    return {**kept, **variables}


def run(*arguments, env=None, cwd=None, vprun=VPRUN, prefix=(), **options):
    return subprocess.run([*prefix, vprun, *arguments], env=env or environment(), cwd=cwd, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, **options)


def equal(got, wanted):
    assert got == wanted, f"got {got!r}, not {wanted!r}"


def refused(result, status, *words):
    """vprun said one line on stderr, nothing on stdout, and left with the status."""
    text = result.stderr.decode(errors="replace")
    assert result.returncode == status, f"exit {result.returncode}, not {status}: {text}"
    assert result.stdout == b"", result.stdout
    assert text.startswith("vprun: ") and text.count("\n") == 1, text
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"


def seen(*arguments, env=None, cwd=None):
    """The environment that a program gets."""
    result = run(*arguments, "env", "-0", env=env, cwd=cwd)
    assert result.returncode == 0, result.stderr
    pairs = (entry.split(b"=", 1) for entry in result.stdout.split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, value in pairs}


def executable(path, content, mode=0o755):
    with open(path, "wb") as out:
        out.write(content.encode() if isinstance(content, str) else content)
    os.chmod(path, mode)
    return path


def compiled(directory, name, *flags):
    """A small program; skips where the compiler or its static libraries are missing."""
    source = executable(os.path.join(directory, name + ".c"), "int main(void) { return 3; }\n", 0o644)
    program = os.path.join(directory, name)
    for compiler in ("cc", "gcc", "clang"):
        if shutil.which(compiler):
            made = subprocess.run([compiler, *flags, "-o", program, source], stderr=subprocess.DEVNULL)
            if made.returncode == 0:
                return program
    raise Skip(f"no compiler that makes programs with {' '.join(flags)}")


# ---- what vprun says about itself ----


@case
def help_goes_to_stdout(_):
    result = run("--help")
    equal((result.returncode, result.stderr), (0, b""))
    assert result.stdout.startswith(b"Usage: vprun"), result.stdout


@case
def help_lists_what_the_manual_and_the_readme_list(_):
    flags = set(re.findall(r"^  (--[a-z-]+)", run("--help").stdout.decode(), re.M))
    variables = set(re.findall(r"\[(VP_[A-Z_]+)", run("--help").stdout.decode()))
    assert len(flags) > 10 and len(variables) > 7, flags
    with open(os.path.join(SOURCE, "shim", "vprun", "vprun.1")) as file:
        manual = file.read().replace("\\-", "-")
    with open(os.path.join(SOURCE, "README.md")) as file:
        readme = file.read()
    for flag in flags:
        assert f"Fl {flag[1:]}" in manual, f"{flag} is not in vprun.1"
        assert f"`{flag}" in readme, f"{flag} is not in README.md"
    for variable in variables:
        assert variable in manual, f"{variable} is not in vprun.1"
        assert variable in readme, f"{variable} is not in README.md"


@case
def version_goes_to_stdout(_):
    result = run("--version")
    equal((result.returncode, result.stderr), (0, b""))
    assert re.fullmatch(rb"vprun \(Hyperion\) \d+\.\d+\.\d+\n", result.stdout), result.stdout


@case
def doctor_reports(_):
    result = run("--doctor")
    text = result.stdout.decode()
    for word in ("kernel", "page size", "RAM", "overcommit", "vm.max_map_count", "RLIMIT_AS", "huge pages",
                 "userfaultfd", "seccomp", "no_new_privs", "mprotect", "chosen", "budget", "spill directory"):
        assert word in text, f"{word} is not in the report"
    equal(result.returncode, 1 if re.search(r"chosen +none", text) else 0)


@case
def doctor_looks_at_the_spill_directory_asked_for(directory):
    text = run("--doctor", f"--spill={directory}/none").stdout.decode()
    assert f"{directory}/none" in text and "not usable" in text, text


# ---- usage errors ----


@case
def program_missing(_):
    refused(run(), 2, "program", "missing")
    refused(run("--lazy", "--"), 2, "program", "missing")


@case
def unknown_option(_):
    refused(run("--rom", "2G", "true"), 2, "--rom", "unknown option", "--help")
    refused(run("--ramx=2G", "true"), 2, "--ramx=2G", "unknown option")
    refused(run("-v", "true"), 2, "-v", "unknown option")


@case
def bad_sizes(_):
    for value in ("12Q", "", "-1", "1.5G", "G", "99999999999999999999", "5%%"):
        refused(run("--ram", value, "true"), 2, "--ram:", f"'{value}'", "allowed", "32M to 128T")
        refused(run(f"--ram={value}", "true"), 2, "--ram:", f"'{value}'", "allowed", "32M to 128T")


@case
def size_out_of_range(_):
    refused(run("--ram", "1M", "true"), 2, "--ram: '1M'", "out of range", "32M to 128T")
    refused(run("--threshold=1K", "true"), 2, "--threshold: '1K'", "64K to 1T")
    refused(run("--arena=1M", "true"), 2, "--arena: '1M'", "1G to 16T")


@case
def other_bad_values(directory):
    refused(run("--trap", "magic", "true"), 2, "--trap: 'magic'", "allowed", "auto")
    refused(run("--lazy=maybe", "true"), 2, "--lazy: 'maybe'", "allowed: 1 or 0")
    refused(run("--stats=", "true"), 2, "--stats: ''", "allowed")
    refused(run("--spill", f"{directory}/none", "true"), 2, "--spill", f"{directory}/none", "allowed")


@case
def argument_missing(_):
    refused(run("--ram"), 2, "--ram", "SIZE", "missing", "allowed")


@case
def bad_variable_is_named(directory):
    refused(run("true", env=environment(VP_RAM="lots")), 2, "VP_RAM: 'lots'", "allowed")
    refused(run("true", env=environment(VP_LAZY="yes")), 2, "VP_LAZY: 'yes'", "allowed")
    refused(run("true", env=environment(VP_SPILL=f"{directory}/none")), 2, "VP_SPILL", f"{directory}/none")


@case
def overridden_bad_variable_does_not_matter(_):
    equal(seen("--ram=1G", env=environment(VP_RAM="lots"))["VP_RAM"], str(1 << 30))


@case
def spill_on_tmpfs_is_refused(_):
    if os.path.ismount("/dev/shm") and os.access("/dev/shm", os.W_OK):
        refused(run("--spill", "/dev/shm", "true"), 2, "--spill", "/dev/shm", "tmpfs")
    else:
        raise Skip("no tmpfs at /dev/shm")


# ---- options become variables ----


@case
def options_set_variables(directory):
    env = seen("--ram", "2G", "--spill", directory, "--spill-max=3G", "--threshold", "512K", "--arena=2T", "--lazy",
               "--trap=auto", f"--stats={directory}/s.%p.json", "--verbose")
    equal({k: v for k, v in env.items() if k.startswith("VP_") and k != "VP_TREE"}, {
        "VP_RAM": str(2 << 30), "VP_SPILL": directory, "VP_SPILL_MAX": str(3 << 30), "VP_THRESHOLD": str(512 << 10),
        "VP_ARENA": str(2 << 40), "VP_LAZY": "1", "VP_TRAP": "auto", "VP_STATS": f"{directory}/s.%p.json",
        "VP_VERBOSE": "1"})


@case
def the_last_of_two_counts(_):
    equal(seen("--ram=1G", "--ram=2G", "--lazy", "--lazy=0")["VP_RAM"], str(2 << 30))


@case
def an_option_beats_its_variable_and_others_stay(_):
    env = seen("--ram", "2G", env=environment(VP_RAM="1G", VP_THRESHOLD="2M", VP_OTHER="x"))
    equal((env["VP_RAM"], env["VP_THRESHOLD"], env["VP_OTHER"]), (str(2 << 30), "2M", "x"))


@case
def stats_takes_no_argument_without_equals(_):
    equal(seen("--stats")["VP_STATS"], "-")


@case
def percentages_are_resolved_once(_):
    whole = int(seen("--ram", "100%")["VP_RAM"])
    half = int(seen("--ram=50%")["VP_RAM"])
    with open("/proc/meminfo") as file:
        ram = int(file.readline().split()[1]) * 1024
    assert 0 < whole <= ram, (whole, ram)
    assert abs(whole - 2 * half) <= 2, (whole, half)
    equal(seen(env=environment(VP_RAM="50%"))["VP_RAM"], "50%")


@case
def relative_paths_become_absolute(directory):
    os.mkdir(os.path.join(directory, "spill"))
    env = seen("--spill", "spill", "--stats=s.%p.json", cwd=directory)
    equal((env["VP_SPILL"], env["VP_STATS"]), (f"{directory}/spill", f"{directory}/s.%p.json"))


# ---- devices ----

def told(call):
    """Whether the shim has noticed that a device may reach into memory, at a call of libc's by a program."""
    program = f"import ctypes, socket; libc = ctypes.CDLL(None); fd = open('/dev/null').fileno(); {call}"
    result = run("--verbose", sys.executable, "-c", program)
    equal(result.returncode, 0)
    return b"a device may reach into the program's memory" in result.stderr


@case
def devices_that_are_given_addresses_are_noticed(directory):
    equal(told("libc.ioctl(fd, 0x3b71, 0)"), True)      # VFIO_IOMMU_MAP_DMA
    equal(told("libc.ioctl(fd, 0x3b85, 0)"), True)      # IOMMU_IOAS_MAP
    equal(told("libc.ioctl(fd, ctypes.c_ulong(0xc058560f), 0)"), True)  # VIDIOC_QBUF
    equal(told("libc.setsockopt(socket.socket().fileno(), 283, 4, 0, 0)"), True)  # XDP_UMEM_REG


@case
def other_requests_are_not(directory):
    equal(told("libc.ioctl(fd, 0x5401, 0)"), False)
    equal(told("libc.setsockopt(socket.socket().fileno(), 1, 2, 0, 0)"), False)


# ---- memory that is to be there at once ----

@case
def populating_keeps_to_the_budget(directory):
    program = ("import mmap, re; m = mmap.mmap(-1, 512 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000); "
               "m[100 << 20] = 7; print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])")
    result = run("--ram", "128M", sys.executable, "-c", program)
    equal(result.returncode, 0)
    assert int(result.stdout) < 140 << 10, f"{int(result.stdout) >> 10} MiB at most, not 128"


# ---- LD_PRELOAD ----


@case
def the_library_is_preloaded(_):
    equal(seen()["LD_PRELOAD"], LIBRARY)


@case
def other_preloads_are_kept(_):
    equal(seen(env=environment(LD_PRELOAD="libm.so.6 libdl.so.2"))["LD_PRELOAD"], f"{LIBRARY}:libm.so.6:libdl.so.2")


@case
def the_library_is_preloaded_once(_):
    for value in (LIBRARY, f"libm.so.6:{LIBRARY}", "/elsewhere/libvp.so:libm.so.6", ":libm.so.6::"):
        wanted = f"{LIBRARY}:libm.so.6" if "libm" in value else LIBRARY
        equal(seen(env=environment(LD_PRELOAD=value))["LD_PRELOAD"], wanted)
    value = "libm.so.6"  # ends like nothing of ours
    equal(seen(env=environment(LD_PRELOAD=value))["LD_PRELOAD"], f"{LIBRARY}:{value}")


@case
def a_missing_library_is_told_with_every_place(directory):
    programs = f"{directory}/a/prefix/bin"
    os.makedirs(programs)
    copy = shutil.copy(VPRUN, programs)
    result = run("true", vprun=copy)
    if result.returncode == 0:
        raise Skip("an installed libvp.so is found")
    refused(result, 125, "libvp.so", f"{programs}/libvp.so")
    places = result.stderr.decode().strip().split(": ")[-1].split(", ")
    equal(len(places), 3)
    assert os.path.realpath(places[1]).startswith(directory), places
    os.makedirs(os.path.dirname(places[1]), exist_ok=True)
    shutil.copy(LIBRARY, places[1])
    equal(run("true", vprun=copy).returncode, 0)


@case
def a_library_that_cannot_be_named_is_refused(directory):
    inner = os.path.join(directory, "with blank")
    os.mkdir(inner)
    shutil.copy(LIBRARY, inner)
    refused(run("true", vprun=shutil.copy(VPRUN, inner)), 125, "with blank/libvp.so", "LD_PRELOAD")


@case
def a_symbolic_link_finds_the_library(directory):
    link = os.path.join(directory, "vprun")
    os.symlink(VPRUN, link)
    equal(run("true", vprun=link).returncode, 0)


# ---- the program ----


@case
def arguments_pass_exactly(_):
    arguments = ["", "--ram", "a b", "*", "$HOME", "\n", "--", "\udcff"]
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    for separator in ([], ["--"]):
        result = run(*separator, sys.executable, "-c", code, *arguments)
        equal(json.loads(result.stdout), arguments)


@case
def the_environment_passes_exactly(_):
    env = environment(EMPTY="", BLANKS=" a  b ", EQUALS="a=b=c", BYTES="\udcff\n")
    got = seen(env=env)
    got.pop("LD_PRELOAD")
    got.pop("VP_TREE")
    got.pop("_", None)
    env.pop("_", None)
    equal(got, env)


@case
def one_within_another_shares_its_budget_unless_it_has_its_own(_):
    script = 'echo $VP_TREE; for o in --lazy=0 --ram=512M; do "$0" $o sh -c "echo \\$VP_TREE"; done'
    outer, same, other = run("--ram=1G", "sh", "-c", script, VPRUN).stdout.split(b"\n")[:3]
    assert re.fullmatch(rb"\d+ \d+", outer), outer
    equal(same, outer)
    assert re.fullmatch(rb"\d+ \d+", other) and other != outer, other
    stale = seen(env=environment(VP_TREE="1000 1"))["VP_TREE"]
    assert stale != "1000 1", "nobody has that"


@case
def input_output_and_directory_pass(directory):
    result = run("sh", "-c", "pwd; cat; echo error >&2", cwd=directory, input=b"through\n")
    equal((result.stdout, result.stderr), (f"{directory}\nthrough\n".encode(), b"error\n"))


@case
def the_process_becomes_the_program(_):
    with subprocess.Popen([VPRUN, "sh", "-c", "echo $$"], env=environment(), stdout=subprocess.PIPE) as process:
        equal(int(process.stdout.read()), process.pid)


@case
def exit_status_and_signals_pass(_):
    for status in (0, 1, 42, 255):
        equal(run("sh", "-c", f"exit {status}").returncode, status)
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        equal(run("sh", "-c", f"kill -{int(number)} $$").returncode, -number)


@case
def not_found(directory):
    refused(run("no-such-program"), 127, "no-such-program: not found")
    refused(run(f"{directory}/none"), 127, f"{directory}/none: not found")
    refused(run(""), 127, "not found")
    refused(run("true", env=environment(PATH="")), 127, "true: not found")


@case
def not_executable(directory):
    path = executable(f"{directory}/plain", "#!/bin/sh\n", 0o644)
    refused(run(path), 126, path, "Permission denied")
    refused(run(directory), 126, directory, "Permission denied")
    refused(run("plain", env=environment(PATH=directory)), 126, "plain", "Permission denied")


@case
def path_is_searched_as_by_execvp(directory):
    os.mkdir(f"{directory}/a")
    os.mkdir(f"{directory}/b")
    executable(f"{directory}/a/tool", "#!/bin/sh\necho a\n", 0o644)
    executable(f"{directory}/b/tool", "#!/bin/sh\necho b\n")
    executable(f"{directory}/here", "#!/bin/sh\necho here\n")
    equal(run("tool", env=environment(PATH=f"/none:{directory}/a:{directory}/b")).stdout, b"b\n")
    equal(run("here", env=environment(PATH=""), cwd=directory).stdout, b"here\n")
    without_path = {k: v for k, v in environment().items() if k != "PATH"}
    equal(run("true", env=without_path).returncode, 0)


# ---- what cannot be shimmed ----


@case
def static_program(directory):
    program = compiled(directory, "victim", "-static")
    refused(run(program), 125, f"vprun: {program} is statically linked: it cannot be shimmed")


@case
def static_pie_program(directory):
    program = compiled(directory, "victim", "-static-pie")
    refused(run(program), 125, "is statically linked: it cannot be shimmed")


@case
def dynamic_program(directory):
    equal(run(compiled(directory, "victim", "-O1")).returncode, 3)


@case
def program_of_another_c_library(directory):
    with open(compiled(directory, "victim", "-O1"), "rb") as file:
        content = file.read()
    loader = re.search(rb"/lib[^\0]*/ld-linux[^\0]*\0", content)
    if not loader:
        raise Skip("the compiler does not make programs for the GNU C library")
    musl = b"/lib/ld-musl.so.1".ljust(len(loader[0]), b"\0")
    program = executable(f"{directory}/musl", content.replace(loader[0], musl))
    refused(run(program), 125, "is linked with musl", "it cannot be shimmed")


@case
def the_dynamic_loader_itself(_):
    with open("/proc/self/maps") as maps:
        loaders = re.findall(r"(/\S*/ld-linux\S*|/\S*/ld64\S*)", maps.read())
    if not loaders:
        raise Skip("no GNU loader in this process")
    equal(run(loaders[0], shutil.which("true")).returncode, 0)


@case
def program_of_another_word_size_or_machine(directory):
    with open(VPRUN, "rb") as file:
        own = bytearray(file.read(64))
    narrow = struct.pack("<4sBBBB8xHHIIIIIHHHHHH", b"\x7fELF", 1, 1, 1, 0, 2, 3, 1, 0, 0, 0, 0, 52, 0, 0, 0, 0, 0)
    refused(run(executable(f"{directory}/narrow", narrow)), 125, "narrow is a program of another word size",
            "it cannot be shimmed")
    own[18:20] = b"\xad\xde"
    refused(run(executable(f"{directory}/alien", bytes(own))), 125, "another kind of processor",
            "it cannot be shimmed")


@case
def scripts_run_by_their_interpreter(directory):
    script = executable(f"{directory}/script", "#! /bin/sh -e\necho \"$0 $1\"\n")
    equal(run(script, "x").stdout, f"{script} x\n".encode())
    equal(run(executable(f"{directory}/by-env", "#!/usr/bin/env sh\necho env\n")).stdout, b"env\n")
    equal(run(executable(f"{directory}/bare", "echo $1\n"), "y").stdout, b"y\n")


@case
def a_script_is_judged_by_its_interpreter(directory):
    program = compiled(directory, "victim", "-static")
    script = executable(f"{directory}/script", f"#!{program}\n")
    outer = executable(f"{directory}/outer", f"#!{script} -x\n")
    for path in (script, outer):
        refused(run(path), 125, f"{path} is run by {program}, which is statically linked: it cannot be shimmed")


@case
def a_missing_interpreter_is_told(directory):
    script = executable(f"{directory}/script", "#!/no/such/interpreter\n")
    refused(run(script), 127, script, "interpreter")


def for_nobody(directory):
    """Copies that uid 65534 can run, and how to become it."""
    if os.getuid() != 0:
        raise Skip("needs root")
    if not shutil.which("setpriv"):
        raise Skip("needs setpriv")
    if os.statvfs(directory).f_flag & os.ST_NOSUID:
        raise Skip("the temporary directory is on a nosuid file system")
    os.chmod(directory, 0o755)
    shutil.copy(LIBRARY, directory)
    program = shutil.copy(shutil.which("true"), f"{directory}/program")
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return shutil.copy(VPRUN, directory), program, prefix


@case
def setuid_program(directory):
    vprun, program, prefix = for_nobody(directory)
    equal(run(program, vprun=vprun, prefix=prefix).returncode, 0)
    for mode, word in ((0o4755, "setuid"), (0o2755, "setgid")):
        os.chmod(program, mode)
        refused(run(program, vprun=vprun, prefix=prefix), 125, f"{program} is {word}: it cannot be shimmed")
        equal(run(program, vprun=vprun).returncode, 0)
        equal(run(program, vprun=vprun, prefix=(*prefix, "--no-new-privs")).returncode, 0)


@case
def program_with_capabilities(directory):
    vprun, program, prefix = for_nobody(directory)
    if not shutil.which("setcap"):
        raise Skip("needs setcap")
    if subprocess.run(["setcap", "cap_net_raw+ep", program], stderr=subprocess.DEVNULL).returncode != 0:
        raise Skip("setcap does not work here")
    refused(run(program, vprun=vprun, prefix=prefix), 125, f"{program} has file capabilities: it cannot be shimmed")
    equal(run(program, vprun=vprun).returncode, 0)


def main():
    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    for function in CASES:
        with tempfile.TemporaryDirectory(prefix="hyperion-") as directory:
            verdict, reason = "ok", ""
            try:
                function(os.path.realpath(directory))
            except Skip as skip:
                verdict, reason = "skip", f": {skip}"
            except (AssertionError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
                verdict, reason = "FAIL", f": {type(error).__name__}: {error}"
        counts[verdict] += 1
        print(f"{verdict:4} {function.__name__}{reason}", flush=True)
    return 1 if counts["FAIL"] else 0 if counts["ok"] else 77


if __name__ == "__main__":
    sys.exit(main())
