#!/usr/bin/env python3
"""The cases of the preload suite, in one table: CASES says what each runs, in which modes, and what must be seen.

    cases.py SUITE    prints one line a test of SUITE (ci or soak): CASE MODE BACKEND USER TIMEOUT   (for meson.build)
"""

import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional


# ---- modes ----

@dataclass(frozen=True)
class Mode:
    options: tuple = ()
    budget: Optional[int] = None  # MiB, the --ram among the options
    lazy: bool = False


MODES = {
    "default": Mode(),
    "lazy": Mode(("--lazy",), lazy=True),
    "floor": Mode(("--ram", "32M"), 32),  # the smallest --ram there is
    "ram64": Mode(("--ram", "64M"), 64),
    "ram128": Mode(("--ram", "128M"), 128),
    "ram160": Mode(("--ram", "160M"), 160),
    "ram256": Mode(("--ram", "256M"), 256),
    "ram512": Mode(("--ram", "512M"), 512),
    "lazy64": Mode(("--ram", "64M", "--lazy"), 64, lazy=True),
}


# ---- what a case is ----

@dataclass(frozen=True)
class Case:
    """`ci` and `soak` list where it runs: MODE, MODE:BACKEND, with @nobody for an unprivileged user, or @cgroup for
    a memory cgroup hardly larger than the budget.

    A case without `expect` is compared with an unshimmed run; `expect` is for what needs the shim, or more memory than
    a small machine has: the exact stdout, with exit status 0.
    """

    command: Callable  # of the context: the argument vector
    ci: str = ""
    soak: str = ""
    prepare: Optional[Callable] = None  # makes input in context.directory, which programs know as $INPUT
    expect: Optional[Callable] = None
    files: bool = True  # compare the files it leaves
    stderr: bool = True  # its stderr is the same each time
    says: tuple = (0, 0, "")  # lines that the shim writes to stderr: least, most, pattern
    touched: Any = 0  # MiB of arena memory that it uses, at least; a number or a function of the context
    outside: int = 4  # MiB of its other memory, about
    huge: bool = False  # its blocks exceed the default budget too: paging arms in any mode
    above_cap: bool = False  # may exceed the budget
    not_on: tuple = ()  # backends that cannot do it; the README says so
    spilled: Optional[int] = None  # MiB of spill file that each process sees, at most
    options: tuple = ()  # further options for vprun
    wrapper: tuple = ()  # what starts vprun
    environment: dict = field(default_factory=dict)
    needs: tuple = ()  # programs
    libraries: tuple = ()  # that the loader has to find
    timeout: int = 60  # seconds, of one run


PROGRAMS = Path(__file__).resolve().parent / "programs"


def python_program(name):
    return lambda context: [context.python(), str(PROGRAMS / name)]


def java_class(context):
    subprocess.run(["javac", "-d", context.directory, PROGRAMS / "Habits.java"], check=True)


def go_program(context):
    environment = {**os.environ, "GOCACHE": str(context.directory / "go"), "CGO_ENABLED": "1", "GOFLAGS": "", "GO111MODULE": "off"}
    subprocess.run(["go", "build", "-o", context.directory / "habits", PROGRAMS / "habits.go"], check=True, env=environment)


def cpp_map(context):
    subprocess.run(["g++", "-O2", PROGRAMS / "map.cpp", "-o", context.directory / "map"], check=True)


def image_policy(context):
    """Debian's keeps large images in files."""
    limits = "".join(f'<policy domain="resource" name="{name}" value="8GiB"/>' for name in ("memory", "map", "area"))
    (context.directory / "policy.xml").write_text(f"<policymap>{limits}</policymap>")


def shell(script):
    return lambda context: ["bash", "-euo", "pipefail", "-c", script]


def victim(name, *arguments):
    return lambda context: context.victim(name, *arguments)


def says(text):
    return lambda context: text


# ---- input ----

def text_lines(context, count, width=63):
    """A file of random lines: hexadecimal digits, so that they compress a little."""
    generator = random.Random(count)
    with open(context.directory / "text", "w") as file:
        for _ in range(count // 1000):
            digits = generator.randbytes(1000 * width // 2 + 1).hex()
            file.write("".join(digits[i * width:(i + 1) * width] + "\n" for i in range(1000)))


def source_tree(context, files=400, large=30 << 20):
    """Many small files that resemble each other, and a large one."""
    generator = random.Random(1)
    words = [generator.randbytes(4).hex() for _ in range(3000)]
    for i in range(files):
        directory = context.directory / "tree" / f"d{i % 20}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{i}").write_text("\n".join(generator.choices(words, k=300 + i)))
    with open(context.directory / "tree" / "large", "wb") as file:
        for _ in range(large >> 20):
            file.write(generator.randbytes(1 << 20))


def c_source(context, functions=450):
    generator = random.Random(2)
    with open(context.directory / "large.c", "w") as file:
        for i in range(functions):
            file.write(f"unsigned f{i}(unsigned a, unsigned b)\n{{\n    for (unsigned i = 0; i < b; i++) {{\n")
            for _ in range(12):
                left, right, operator = generator.choice("ab"), generator.randrange(1 << 16), generator.choice("+*^|-")
                file.write(f"        {left} = (a {operator} {right}u) ^ (b >> {right % 31}) ^ i;\n")
            file.write(f"    }}\n    return a ^ b{f' ^ f{i - 1}(b, a & 7)' if i else ''};\n}}\n")


NUMPY = """
import hashlib, sys
import numpy as np
n = int(sys.argv[1])
print(np.ones(n).sum())
a = np.random.default_rng(1).random(n // 2)
a.sort()
print(a[0], a[-1], a.sum(), hashlib.sha256(a).hexdigest())
a.tofile("a.bin")
b = np.fromfile("a.bin")
print(len(b), np.array_equal(a, b))
c = np.arange(n, dtype=np.int64).reshape(100, -1).T.copy()
print(c.sum(), c[3, 5], hashlib.sha256(c).hexdigest())
"""

NUMPY_SORT = """
import hashlib
import numpy as np
a = np.random.default_rng(1).random(200_000_000)
a.sort()
print(len(a), a[0], a[-1], hashlib.sha256(a).hexdigest())
"""

PIPELINE = """
seq 1 300000 | awk '{ print $1 * 7919 % 1000003, $1 }' | sort -n -S 64M | tr ' ' ',' | cut -d, -f1,2 | sed 's/,/ /' |
    grep -v 77 | rev | tee all.txt | uniq -c -w 3 | tail -n 20000 | sha256sum
"""

GIT = """
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_CONFIG_NOSYSTEM=1
git -c init.defaultBranch=main init -q .
git config pack.threads 1
git config gc.auto 0
git config core.compression 1
cp -r "$INPUT/tree/." .
git add .
git commit -qm first
for i in 1 2 3; do sed -i s/a/b/ d$i/*; done
git commit -qam second
git repack -qadf --window=50
git fsck --full --strict
git rev-parse HEAD 'HEAD^{tree}'
git cat-file --batch-all-objects --batch-check | sha256sum
ls .git/objects/pack
git status --short
"""

# As much the shell's own children as those that become programs.
SHELL = """
for i in $(seq 400); do /bin/true; done
for i in $(seq 300); do x=$(echo $i); [ "$x" = $i ] || echo wrong; done
y=0
for i in $(seq 300); do (exit $((i % 7))) || y=$((y + $?)); done
echo $x $y
"""

XZ = 'xz -6 -c "$INPUT/text" > text.xz && xz -dc text.xz | cmp - "$INPUT/text" && xz -lv text.xz | grep -c CRC64'
ZSTD = 'zstd -q -3 --long=27 -c "$INPUT/text" > text.zst && zstd -qdc --long=27 text.zst | cmp - "$INPUT/text"'
TAR = 'tar -cf - -C "$INPUT" tree | zstd -q | zstd -dq | tar -xf - && diff -r "$INPUT/tree" tree && rm -r tree && echo same'


JAVA = f'javac -d . {PROGRAMS}/Big.java; java -Xmx%s -XX:+Use%sGC -cp . Big %d; rm *.class'
SQLITE = """
sqlite3 :memory: "
CREATE TABLE t(a INTEGER, b TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
    INSERT INTO t SELECT i * 7919 %% 1000003, 'row ' || i || ' of many' FROM n;
CREATE INDEX x ON t(a);
CREATE INDEX y ON t(b);
SELECT count(*), sum(a), max(b) FROM t;
SELECT sum(length(b)) FROM t WHERE a BETWEEN 1000 AND 500000;
SELECT * FROM t ORDER BY a LIMIT 3;
PRAGMA integrity_check;"
"""


SQLITE_LARGE = """
sqlite3 :memory: "
CREATE TABLE t(a INTEGER, b TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000000)
    INSERT INTO t SELECT i * 7919 % 1000003, 'row ' || i || ' of many' FROM n;
CREATE INDEX x ON t(a);
SELECT count(*), sum(a), max(b) FROM t;
SELECT sum(length(b)) FROM t WHERE a BETWEEN 1000 AND 5000;
SELECT * FROM t ORDER BY a LIMIT 3;"
"""
CONVERT = """
export MAGICK_CONFIGURE_PATH="$INPUT"
convert-im6.q16 -size %s gradient:red-blue -rotate 90 -negate -flip -resize 120%% -depth 8 rgb:- | sha256sum
"""


# ---- torture ----

def torture(threads, seconds, *further, times=8, **fields):
    """Over eight times the budget, where there is one."""
    def size(context):
        return context.scaled(times, 256)

    return Case(
        command=lambda context: context.victim("torture", "--threads", threads, "--size", f"{size(context)}M",
                                               "--seconds", seconds, "--seed", threads, "--rate", *further),
        expect=lambda context: f"torture: {threads} threads, {size(context)} MiB, seed {threads}: all data right\n",
        touched=size, stderr=False, timeout=3 * seconds + 60, **fields)


def matrix(way, *further, **fields):
    """Every kind of system call. What the kernel cannot have served is left out where that is how calls are served."""
    def command(context):
        served = ["--kernel-faults"] if context.trap == "uffd-thread" else []
        return context.victim("syscall_matrix", way, "--ballast", context.scaled(2, 0), *served, *further)

    return Case(command, expect=says("all rows alike\n"), stderr=False, touched=lambda context: context.scaled(2, 8),
                outside=12, **fields)


def blocked(seconds, *further, **fields):
    return Case(victim("blocked_recv", seconds, *further), expect=says("every message received\n"), touched=160,
                timeout=seconds + 60, **fields)


def direct_race(seconds, **fields):
    return Case(victim("direct_race", seconds), expect=says("every byte right\n"), touched=98, timeout=seconds + 60,
                **fields)


IN_CGROUP = "{0}:uffd-signal@cgroup {0}:uffd-thread@cgroup {0}:mprotect@cgroup"
EVERY_BACKEND = "{0}:uffd-signal {0}:uffd-thread {0}:mprotect {0}:uffd-signal@nobody {0}:mprotect@nobody"
BACKENDS = "{0}:uffd-signal {0}:uffd-thread {0}:mprotect"

MATRIX_CI = ("lazy:uffd-signal ram64:uffd-signal lazy:uffd-signal@nobody ram64:uffd-signal@nobody ram64:mprotect "
             "ram64:uffd-thread")
MATRIX_SOAK = "default " + " ".join(EVERY_BACKEND.format(mode) for mode in ("lazy", "ram64", "lazy64"))


def holds(calls, **fields):
    return Case(victim(f"holds_{calls}"), touched=96, files=False, outside=40 if calls == "exec" else 10, **fields)


def tree(what, seconds, text, times=2, **fields):
    """Processes that share the budget. `times` that much is touched by those that write statistics."""
    return Case(
        lambda context: context.victim("tree", what, context.budget, seconds), expect=says(text + "\n"), stderr=False,
        touched=lambda context: context.scaled(times, 0), timeout=6 * seconds + 60, **fields)


# ---- the table ----

CASES = {
    # Real programs.
    "sort": Case(
        lambda context: ["sort", "-S", "300M", "--parallel=2", "-o", "sorted", "../text"],
        prepare=lambda context: text_lines(context, 700_000), touched=70, outside=6,
        ci="default lazy ram64:uffd-signal ram64:mprotect ram64@nobody", soak=BACKENDS.format("floor")),
    "numpy": Case(
        lambda context: [context.python_with_numpy(), "-c", NUMPY, "16000000"],
        environment={"OPENBLAS_NUM_THREADS": "1"}, touched=300, outside=36,
        ci="default lazy ram256:uffd-signal ram256:mprotect", soak=BACKENDS.format("ram64")),
    "gcc": Case(
        lambda context: ["gcc", "-O1", "-c", "../large.c", "-o", "large.o"], prepare=c_source, needs=("gcc",),
        outside=400, ci="default lazy ram256", soak="ram64"),
    "pipeline": Case(shell(PIPELINE), outside=400, ci="default lazy ram64", soak="floor ram64:mprotect lazy@nobody"),
    "git": Case(
        shell(GIT), prepare=source_tree, needs=("git",), files=False, outside=400,
        ci="default lazy ram64", soak="floor ram64:mprotect ram64@nobody"),
    "xz": Case(
        shell(XZ), prepare=lambda context: text_lines(context, 20_000), needs=("xz",), outside=400,
        ci="lazy ram64", soak="default floor ram64:mprotect"),
    "zstd": Case(
        shell(ZSTD), prepare=lambda context: text_lines(context, 100_000), needs=("zstd",), outside=400, timeout=300,
        ci="lazy ram256", soak="default ram64 ram64:mprotect"),
    "tar": Case(
        shell(TAR), prepare=source_tree, needs=("tar", "zstd"), outside=400, ci="lazy", soak="default ram64"),

    # Those that map their memory themselves, with data of at least three times the budget.
    "java_serial": Case(
        shell(JAVA % ("800m", "Serial", 400_000)), needs=("java", "javac"), outside=600, timeout=200, stderr=False,
        above_cap=True, ci="ram128@nobody", soak="lazy ram128:uffd-thread"),
    "java_g1": Case(
        shell(JAVA % ("800m", "G1", 400_000)), needs=("java", "javac"), outside=600, timeout=200, stderr=False, above_cap=True,
        ci="ram128", soak="lazy ram128@nobody"),
    # Its heap is shared memory at addresses that it insists on: not paged.
    "java_z": Case(
        shell(JAVA % ("800m", "Z", 100_000)), needs=("java", "javac"), outside=1000, timeout=200, stderr=False, above_cap=True,
        ci="lazy:uffd-signal@nobody", soak="default lazy ram128"),
    "redis": Case(
        lambda context: ["python3", str(PROGRAMS / "redis_session.py"), "90000"], needs=("redis-server",),
        outside=600, timeout=200, stderr=False, above_cap=True, ci="lazy floor", soak="ram64 floor@nobody"),
    "dictionary": Case(
        lambda context: ["python3", str(PROGRAMS / "dictionary.py"), "900000"], outside=600, timeout=200,
        above_cap=True, ci="ram64@nobody", soak="lazy floor"),
    "dictionary_small": Case(
        lambda context: ["python3", str(PROGRAMS / "dictionary.py"), "900000"], outside=600, timeout=200,
        above_cap=True, options=("--small",), libraries=("libmimalloc.so.2",), ci="ram64", soak="lazy floor"),
    "sqlite_small": Case(
        shell(SQLITE % 400_000), needs=("sqlite3",), outside=600, timeout=200, options=("--small",),
        libraries=("libmimalloc.so.2",), above_cap=True, ci="floor", soak="lazy floor@nobody"),
    **{f"small_tree_{name}": Case(
        victim("small_tree", 1500000), outside=600, timeout=300, above_cap=True, options=("--small",),
        environment={"LD_PRELOAD": library}, libraries=(library,), ci="lazy", soak="ram64")
       for name, library in (("mimalloc", "libmimalloc.so.2"), ("jemalloc", "libjemalloc.so.2"))},
    # Programs with a life of their own: signals, stacks, children.
    "java": Case(
        lambda context: ["java", "-XX:+UseSerialGC", "-Xmx64m", "-Xss512k", "-XX:MaxDirectMemorySize=200m", "-cp", "..", "Habits"],
        prepare=java_class, needs=("java", "javac"), touched=96, outside=400, timeout=120,
        ci="lazy ram64:uffd-signal", soak="default ram64:mprotect ram64@nobody"),
    "node": Case(
        lambda context: ["node", str(PROGRAMS / "habits.js")], needs=("node",), touched=96, outside=400, timeout=120,
        ci="lazy ram64:uffd-signal ram64:mprotect", soak="default ram64@nobody"),
    "go": Case(
        lambda context: ["../habits"], prepare=go_program, needs=("go", "gcc"), touched=96, outside=40, timeout=120,
        ci="lazy ram64:uffd-signal ram64:mprotect", soak="default ram64@nobody"),
    "faulthandler": Case(
        python_program("faulthandler_habits.py"), needs=("python3",), files=False, touched=96, outside=20, above_cap=True,
        ci="lazy ram64:uffd-signal ram64:mprotect", soak="default ram64@nobody"),
    "multiprocessing": Case(
        python_program("pools.py"), needs=("python3",), touched=96, outside=400, timeout=120, ci="lazy ram64:uffd-signal ram64:mprotect",
        soak="default ram64@nobody"),
    "server": Case(
        python_program("server.py"), needs=("python3",), touched=80, outside=400, timeout=120, ci="lazy ram64:uffd-signal ram64:mprotect",
        soak="default ram64@nobody"),
    "shell_bash": Case(shell(SHELL), outside=400, timeout=120, ci="lazy ram64", soak="default ram64:mprotect"),
    "shell_dash": Case(
        lambda context: ["dash", "-ec", SHELL], needs=("dash",), outside=400, timeout=120, ci="lazy",
        soak="default ram64:mprotect"),

    # Allocation.
    "alloc_semantics": Case(
        victim("alloc_semantics"), timeout=120, outside=20,
        ci="default lazy ram64 floor:uffd-signal floor:mprotect",
        soak=EVERY_BACKEND.format("floor") + " " + BACKENDS.format("lazy64")),
    "free_misuse": Case(
        victim("free_misuse"), expect=says("realloc of a foreign pointer: NULL\nsurvived\n"),
        says=(4, 4, r"free|foreign|not .*allocated|double|realloc"), stderr=False, ci="default lazy ram64"),
    "sparse_touch": Case(
        victim("sparse_touch", 16), expect=says("262144 pages of 16 GiB, few mappings\n"), touched=1024, outside=10, huge=True,
        timeout=180, ci="lazy:uffd-signal lazy:mprotect",
        soak=EVERY_BACKEND.format("lazy") + " " + BACKENDS.format("ram256") + " default"),
    "sparse_touch_2g": Case(
        victim("sparse_touch", 2), expect=says("32768 pages of 2 GiB, few mappings\n"), touched=128, outside=10, huge=True,
        ci="ram64:mprotect", soak=EVERY_BACKEND.format("floor")),
    "concurrent_touch": Case(
        victim("concurrent_touch"), touched=96, timeout=120,
        ci="default lazy:uffd-signal lazy:mprotect ram64:uffd-signal ram64:mprotect ram64:uffd-thread",
        soak=EVERY_BACKEND.format("lazy") + " " + EVERY_BACKEND.format("floor")),
    "huge_sizes": Case(
        victim("huge_sizes"), expect=says("ends ok\nrealloc ok\ncalloc ok\n"), huge=True,
        ci="default lazy ram64:uffd-signal ram64:mprotect", soak=EVERY_BACKEND.format("floor")),
    "many_ranges": Case(
        victim("many_ranges", 20000), expect=says("20000 blocks\n"), huge=True, outside=8,
        ci="default lazy ram64:uffd-signal ram64:mprotect", soak=BACKENDS.format("lazy64")),
    "many_ranges_100k": Case(
        victim("many_ranges", 100000), expect=says("100000 blocks\n"), huge=True, outside=16, timeout=180,
        soak="default lazy ram256:uffd-signal ram256:mprotect"),
    "early_calls": Case(victim("early_calls"), ci="default lazy floor", soak=EVERY_BACKEND.format("lazy64")),
    "dlopen_calls": Case(victim("dlopen_calls"), ci="default lazy floor", soak=EVERY_BACKEND.format("lazy64")),

    # A guest in somebody else's process.
    "errno_kept": Case(
        victim("errno_kept"), touched=96, ci="default lazy:uffd-signal lazy:mprotect ram64:uffd-signal ram64:mprotect",
        soak=EVERY_BACKEND.format("floor")),
    "fork_basic": Case(
        victim("fork_basic"), touched=96, above_cap=True,
        ci="default lazy ram64:uffd-signal ram64:mprotect", soak=EVERY_BACKEND.format("ram64")),
    # Its memory twice (one child lasts), a part for the child of the moment, what is dead in segments, growth by 64 MiB. Six
    # generations of children, never given back, are far more.
    "fork_spill": Case(
        victim("fork_spill", 128), expect=says("data intact\n"), touched=128, above_cap=True, spilled=512, timeout=120,
        ci="ram64:uffd-signal ram64:mprotect", soak=EVERY_BACKEND.format("ram64")),
    "map_fuzz": Case(
        victim("map_fuzz", 10000), expect=says("10000 steps alike\n"), not_on=("mprotect",), touched=24, timeout=120,
        ci="default lazy:uffd-signal lazy:uffd-signal@nobody floor:uffd-signal floor:uffd-thread"),
    "map_fuzz_million": Case(
        victim("map_fuzz", 1000000, 2), expect=says("1000000 steps alike\n"), not_on=("mprotect",), touched=24, timeout=1800,
        soak="floor:uffd-signal lazy:uffd-signal"),
    **{f"map_{mode}": Case(
        victim("map_threads", mode), not_on=("mprotect",), outside=16, timeout=120,
        ci="default lazy:uffd-signal floor:uffd-signal lazy:uffd-thread", soak="floor:uffd-thread lazy64:uffd-signal@nobody")
       for mode in ("grow", "replace", "close", "hints", "marks")},
    "map_wipe": Case(
        victim("map_threads", "wipe"), not_on=("mprotect",), outside=16, above_cap=True, timeout=120,
        ci="default lazy:uffd-signal floor:uffd-signal ram64:uffd-thread", soak="ram64:uffd-signal@nobody"),
    "map_vast": Case(
        victim("map_threads", "vast"), not_on=("mprotect",), outside=16, huge=True, timeout=120,
        ci="default lazy:uffd-signal ram64:uffd-signal ram64:uffd-thread", soak="ram64:uffd-signal@nobody"),
    "map_advise": Case(
        victim("map_threads", "advise"), not_on=("uffd-thread",), outside=16, ci="default lazy:uffd-signal floor:uffd-signal", soak="floor@nobody"),
    # Behind the filters of one ancestor, and of two.
    "leftovers": Case(
        lambda context: ["bash", "-c", '("$0"; "$0"); bash -c \'("$0"; "$0")\' "$0"', *context.victim("leftovers")],
        ci="default lazy:uffd-signal lazy:mprotect lazy:uffd-signal@nobody"),
    **{f"signal_{mode}": Case(
        victim("signal_own_segv", mode), touched=96, ci="default lazy ram64:uffd-signal ram64:mprotect",
        soak=EVERY_BACKEND.format("ram64")) for mode in ("handler", "bus", "null", "raise", "default", "signal")},
    **{f"manners_{what}": Case(
        victim("manners", what), ci="default lazy:uffd-signal lazy:mprotect lazy:uffd-signal@nobody",
        soak=EVERY_BACKEND.format("lazy")) for what in ("masks", "nested", "stacks")},
    "manners_advice": Case(
        victim("manners", "advice"), ci="lazy:uffd-signal floor:uffd-signal floor:mprotect", soak=EVERY_BACKEND.format("floor")),
    **{f"manners_{what}": Case(
        victim("manners", what), above_cap=True, ci="lazy:uffd-signal floor:uffd-signal floor:mprotect floor:uffd-thread",
        soak=EVERY_BACKEND.format("floor")) for what in ("forks", "strangers")},
    # As where the kernel cannot merge pages. "before" takes a second for each 64 GiB of the arena.
    **{f"manners_merging{'_before' if before else ''}": Case(
        lambda context, before=before: context.victim(
            "manners", "merging", before + ("" if context.trap == "uffd-thread" else " raw")),
        expect=lambda context: "watched and merged: 0\n" + "prctl EINVAL\nsyscall EINVAL\nmadvise EINVAL\nsyscall EINVAL\n" +
        ("" if context.trap == "uffd-thread" else "instruction EINVAL\n" * 2) + "watched and merged: 0\n",
        not_on=("mprotect",) if before else (), options=("--arena", "4G"), ci=ci, soak=soak)
       for before, ci, soak in (("", "lazy:uffd-signal floor:uffd-signal lazy:mprotect lazy:uffd-signal@nobody", EVERY_BACKEND.format("floor")),
                                ("before", "floor:uffd-signal floor:uffd-signal@nobody", "floor:uffd-thread"))},
    **{f"signals_{mode}": Case(
        victim("signals", mode), files=False, ci="default lazy:uffd-signal lazy:mprotect lazy:uffd-signal@nobody",
        soak=EVERY_BACKEND.format("lazy64")) for mode in ("exact", "interfaces", "sent", "waits", "deaths")},
    **{f"signal_stacks_{mode}": Case(
        victim("signal_stacks", mode), files=False, touched=96 if mode == "threads" else 0, timeout=120,
        above_cap=mode == "threads", ci="default lazy:uffd-signal ram64:uffd-signal ram64:mprotect ram64:uffd-signal@nobody",
        soak=EVERY_BACKEND.format("lazy64"))
       for mode in ("where", "state", "masks", "overflow", "arena", "threads")},
    # 3 KiB of the program's stack are enough for a page that is on the disk.
    "signal_stacks_small": Case(
        victim("signal_stacks", "small"), files=False, touched=96, timeout=120,
        ci="default ram64:uffd-signal ram64:mprotect ram64:uffd-signal@nobody", soak=EVERY_BACKEND.format("ram64")),
    # Memory near the budget, but below it: what is in memory is looked at again and again.
    "descriptors_lowest": Case(
        victim("descriptors", "lowest"), touched=96, ci="default ram256:uffd-signal ram256:mprotect", soak="lazy"),
    "descriptors_loops": Case(
        victim("descriptors", "loops"), touched=96, above_cap=True, files=False, outside=20,
        ci="default lazy ram64:uffd-signal ram64:mprotect", soak=EVERY_BACKEND.format("ram64")),
    **{f"habits_{mode}": Case(
        victim("habits", mode), touched=0 if mode == "barrier" else 96, outside=16, files=False,
        ci="default lazy ram64:uffd-signal ram64:mprotect", soak=EVERY_BACKEND.format("ram64"))
       for mode in ("barrier", "probe", "crash")},
    # Protections that the program sets are honoured where memory traps by other means.
    "habits_barrier_large": Case(
        victim("habits", "barrier_large"), not_on=("mprotect",), touched=96, outside=16, ci="default lazy ram64:uffd-signal ram64:uffd-thread",
        soak="ram64:uffd-signal@nobody"),
    **{f"families_{mode}": Case(
        victim("families", mode), above_cap=True, touched=16, outside=2000, timeout=120,
        ci="lazy:uffd-signal floor:uffd-signal floor:mprotect", soak="default " + EVERY_BACKEND.format("floor"))
       for mode in ("chain", "threads", "started")},
    "families_many": Case(
        victim("families", "many"), expect=says("all data right\n"), above_cap=True, touched=40, outside=2000, timeout=120,
        ci="floor:uffd-signal floor:mprotect", soak=EVERY_BACKEND.format("floor")),
    # Of what the killed had stored nothing may stay: 50 of them had up to 32 MiB each.
    "families_killed": Case(
        victim("families", "killed"), above_cap=True, spilled=384, touched=32, timeout=120,
        ci="floor:uffd-signal floor:mprotect", soak="lazy " + EVERY_BACKEND.format("floor")),
    "exits": Case(
        victim("exits"), files=False, above_cap=True, touched=96, timeout=120,
        ci="default lazy ram64:uffd-signal ram64:mprotect ram64:uffd-thread", soak=EVERY_BACKEND.format("ram64")),
    "threads_many": Case(
        victim("threads", "many"), touched=96, outside=16, ci="lazy ram64:uffd-signal ram64:uffd-thread ram64:mprotect",
        soak="ram64:uffd-signal@nobody ram64:mprotect@nobody lazy64:uffd-signal lazy64:mprotect"),
    "threads_cancelled": Case(
        victim("threads", "cancelled"), touched=96, outside=16, ci="lazy ram64:uffd-signal ram64:mprotect",
        soak=EVERY_BACKEND.format("ram64")),
    # One budget for several processes. Eight that page need 64 MiB for that alone.
    "tree_cap": tree("cap", 8, "within the budget together",
                     ci="ram256:uffd-signal ram256:mprotect ram256:uffd-signal@nobody ram256:mprotect@nobody",
                     soak=EVERY_BACKEND.format("ram512")),
    "tree_forks": tree("forks", 12, "within the budget together", above_cap=True, ci="ram64:uffd-signal ram64:mprotect",
                       soak=EVERY_BACKEND.format("ram256")),
    # How much leaves depends on who is faster, reading or paging: not where machines are busy.
    "tree_readers": tree("readers", 1, "counted once", times=0,
                         soak="ram256:uffd-signal ram256:mprotect " + EVERY_BACKEND.format("ram512")),
    "tree_death": tree("death", 1, "the share is back", times=0,
                       ci="ram64:uffd-signal ram64:mprotect ram64:uffd-signal@nobody ram64:mprotect@nobody",
                       soak=EVERY_BACKEND.format("ram256")),
    "tree_hostile": tree("hostile", 6, "all data right", times=0, above_cap=True,
                         ci="ram64:uffd-signal ram64:mprotect ram64:uffd-signal@nobody ram64:mprotect@nobody",
                         soak=EVERY_BACKEND.format("ram64") + " " + EVERY_BACKEND.format("ram256")),
    "tree_arm": tree("arm", 1, "armed", ci="ram64:uffd-signal ram64:mprotect ram64:uffd-signal@nobody",
                     soak=BACKENDS.format("ram256")),
    "tree_join": Case(victim("tree", "join"), expect=says("2 share\n"), ci="default ram64:uffd-signal@nobody"),

    "threads_exit": Case(
        victim("threads_exit"), touched=80, ci="default lazy ram64:uffd-signal ram64:mprotect",
        soak=EVERY_BACKEND.format("ram64")),
    "stderr_closed": Case(
        victim("stderr_closed"), touched=96, options=("--summary", "--verbose"), says=(0, 1000, ""), stderr=False,
        ci="default lazy ram64"),

    # Paging.
    "bigio": Case(
        victim("bigio", 64, "plain", "positioned", "vectors", "streams"), touched=128,
        ci="default lazy ram64:uffd-signal ram64:mprotect ram64@nobody", soak=EVERY_BACKEND.format("floor")),
    "bigio_channels": Case(
        victim("bigio", 48, "pipe", "socket"), touched=96, ci="default lazy ram64:uffd-signal ram64:mprotect",
        soak=EVERY_BACKEND.format("floor")),
    "bigio_pvectors": Case(
        victim("bigio", 48, "pvectors"), touched=96, ci="lazy ram64", soak=EVERY_BACKEND.format("floor")),
    # Small things in absent memory that calls are given: names, structures, vectors, stacks. By the stand-ins alone, and
    # with the net under them.
    **{f"holds_{calls}": holds(calls, options=("--no-filter",), ci="lazy:uffd-signal ram64:uffd-signal ram64:mprotect",
                               soak=EVERY_BACKEND.format("lazy64"))
       for calls in ("exec", "files", "sockets", "streams", "waits")},
    **{f"holds_{calls}_net": holds(calls, ci="ram64:uffd-signal", soak=EVERY_BACKEND.format("lazy64"))
       for calls in ("exec", "files", "sockets", "streams", "waits")},
    "page_out": Case(
        victim("page_out", 300), expect=says("0 pages wrong\n"), touched=300,
        ci="ram64:uffd-signal ram64:mprotect ram256@nobody",
        soak=EVERY_BACKEND.format("floor") + " " + EVERY_BACKEND.format("ram256")),
    "spill_grep": Case(
        lambda context: context.victim("spill_grep", context.scaled(4, 256)),
        expect=says("spill file: used\nplaintext: not found\ndata intact\n"), stderr=False,
        touched=lambda context: context.scaled(4, 256), ci="ram64:uffd-signal ram64:mprotect",
        soak=EVERY_BACKEND.format("floor")),
    "spill_full": Case(
        victim("spill_full", 256), expect=says("nothing lost\n"), options=("--spill-max", "32M"), says=(0, 1, "spill"),
        stderr=False, touched=96, above_cap=True, ci="ram64:uffd-signal ram64:mprotect",
        soak=EVERY_BACKEND.format("ram64")),
    # The file system, or here the limit on the size of files, ends before --spill-max does.
    "spill_refused": Case(
        victim("spill_full", 256), expect=says("nothing lost\n"), wrapper=("prlimit", f"--fsize={32 << 20}"),
        needs=("prlimit",), says=(0, 1, "spill"), stderr=False, touched=96, above_cap=True,
        ci="ram64:uffd-signal ram64:mprotect", soak=EVERY_BACKEND.format("ram64")),
    "spill_none": Case(
        victim("spill_full", 256), expect=says("nothing lost\n"), options=("--spill-max", "0"), says=(0, 1, "spill"),
        stderr=False, touched=64, above_cap=True, ci="ram64", soak=BACKENDS.format("floor")),

    # System calls. VP_GUARD=trap is the net as it is where there can be no listener; without a net, only what stand-ins
    # for libc's functions see to.
    **{f"matrix_{way}": matrix(way, ci=MATRIX_CI, soak=MATRIX_SOAK) for way in ("libc", "syscall", "asm")},
    **{f"matrix_trap_{way}": matrix(way, environment={"VP_GUARD": "trap"}, ci="ram64:uffd-signal@nobody",
                                    soak=MATRIX_SOAK) for way in ("libc", "syscall", "asm")},
    "matrix_no_filter": matrix("libc", "--subset", options=("--no-filter",), ci="lazy ram64:uffd-signal ram64:mprotect@nobody",
                               soak=MATRIX_SOAK),
    "blocked_recv": blocked(3, ci="ram64:uffd-signal ram64:mprotect ram64:uffd-thread ram64:uffd-signal@nobody"),
    "blocked_trap": blocked(3, environment={"VP_GUARD": "trap"}, ci="ram64:uffd-signal@nobody"),
    "blocked_no_filter": blocked(3, "--subset", options=("--no-filter",), ci="ram64:uffd-signal"),
    "soak_blocked": blocked(30, soak=EVERY_BACKEND.format("ram64")),
    "direct_race": direct_race(3, ci=BACKENDS.format("ram64")),
    "soak_direct": direct_race(10, soak=EVERY_BACKEND.format("floor") + " " + EVERY_BACKEND.format("ram64")),

    # Torture. ci: ten seconds; soak: a minute for each backend and number of threads, at the floor too.
    "torture_2": torture(2, 10, ci=BACKENDS.format("ram64")),
    "torture_8": torture(
        8, 10, ci="lazy floor:uffd-signal floor:mprotect ram64@nobody ram64:uffd-signal@cgroup ram64:mprotect@cgroup"),
    "torture_calls": torture(4, 10, "--syscalls", ci="ram64:uffd-signal ram64:mprotect"),
    "torture_fork": torture(2, 10, "--fork", times=3, above_cap=True, ci="ram64:uffd-signal ram64:mprotect"),
    **{f"soak_{threads}": torture(
        threads, 60, soak=" ".join((EVERY_BACKEND.format("ram256"), EVERY_BACKEND.format("floor"),
                                    IN_CGROUP.format("ram256"), IN_CGROUP.format("ram64"))))
       for threads in (1, 2, 8)},
    "soak_calls": torture(8, 60, "--syscalls", soak=BACKENDS.format("ram64")),
    "soak_fork": torture(4, 60, "--fork", times=3, above_cap=True, soak=BACKENDS.format("ram64")),

    # Large runs of known programs.
    "convert": Case(
        shell(CONVERT % "6000x5000"), prepare=image_policy, needs=("convert-im6.q16",), outside=600, above_cap=True, timeout=400,
        soak="ram256:uffd-signal@nobody ram256:mprotect"),
    "redis_million": Case(
        lambda context: ["python3", str(PROGRAMS / "redis_session.py"), "1000000"], needs=("redis-server",), outside=600,
        timeout=1200, stderr=False, above_cap=True, soak="ram160@nobody"),
    "sqlite_large": Case(
        shell(SQLITE_LARGE), needs=("sqlite3",), outside=600, timeout=1200, options=("--small",),
        libraries=("libmimalloc.so.2",), above_cap=True, soak="ram128@nobody"),
    **{f"map_{name}": Case(
        lambda context: ["../map", "30000000"], prepare=cpp_map, needs=("g++",), outside=600, timeout=900, above_cap=True,
        options=("--small",), environment={"LD_PRELOAD": library}, libraries=(library,), soak="ram512@nobody")
       for name, library in (("mimalloc", "libmimalloc.so.2"), ("jemalloc", "libjemalloc.so.2"))},
    **{f"java_{name.lower()}_2g": Case(
        shell(JAVA % ("3g", name, 2_000_000)), needs=("java", "javac"), outside=600, timeout=900, stderr=False, above_cap=True,
        soak="ram512@nobody")
       for name in ("Serial", "G1")},
    **{f"dictionary_large{suffix}": Case(
        lambda context: ["python3", str(PROGRAMS / "dictionary.py"), "20000000"], outside=600, timeout=900, above_cap=True,
        options=options, libraries=libraries, soak="ram512@nobody")
       for suffix, options, libraries in (("", (), ()), ("_small", ("--small",), ("libmimalloc.so.2",)))},
    "memcached": Case(
        lambda context: ["python3", str(PROGRAMS / "memcached_session.py"), "800000"], needs=("memcached",),
        expect=says(2 * "200000 answers right\n"), outside=600, timeout=900, stderr=False, above_cap=True, soak="ram256@nobody"),
    "sort_1g": Case(
        lambda context: ["sort", "-S", "1500M", "--parallel=2", "-o", "sorted", "../text"],
        prepare=lambda context: text_lines(context, 1_000_000, 999), touched=1000, outside=6, timeout=600,
        soak=BACKENDS.format("ram256")),
    "numpy_sort": Case(
        lambda context: [context.python_with_numpy(), "-c", NUMPY_SORT], environment={"OPENBLAS_NUM_THREADS": "1"},
        touched=1525, outside=36, timeout=600, soak=BACKENDS.format("ram512")),
    # Without the right to lock memory it tests unlocked; the mask leaves out what takes an hour.
    "memtester": Case(
        shell("ulimit -l 0; memtester 1G 1 | tr -d '\\b' | grep -c 'ok *$'"), expect=says("9\n"),
        environment={"MEMTESTER_TEST_MASK": "255"}, needs=("memtester",), stderr=False, touched=1024, timeout=600,
        soak="ram256:uffd-signal@nobody ram256:mprotect@nobody"),
    "stress_ng": Case(
        lambda context: ["stress-ng", "--vm", "1", "--vm-bytes", "1g", "--vm-method", "all", "--verify", "-t", "60",
                         "--temp-path", ".", "-q"], expect=says(""), needs=("stress-ng",), stderr=False, outside=2000,
        huge=True, timeout=200, soak="ram256"),
    **{f"stress_ng_{name}": Case(
        shell(f"stress-ng --{name} 1 {size} --verify -t 30 --temp-path . -q"), expect=says(""), needs=("stress-ng",),
        stderr=False, outside=2000, huge=True, above_cap=True, timeout=200, soak="ram256@nobody")
       for name, size in (("mmap", "--mmap-bytes 1g"), ("mremap", "--mremap-bytes 1g"), ("malloc", "--malloc-bytes 64m"),
                          ("brk", "--brk-ops 100000"))},
}


def schedule(suite):
    """(case, mode, backend or "auto", "self", "nobody" or "cgroup", timeout in s) for every test of the suite."""
    for name, case in CASES.items():
        for entry in getattr(case, suite).split():
            where, _, user = entry.partition("@")
            mode, _, backend = where.partition(":")
            runs = 1 if case.expect else 2
            yield name, mode, backend or "auto", user or "self", runs * case.timeout + 60


if __name__ == "__main__":
    for row in schedule(sys.argv[1]):
        print(*row)
