#!/usr/bin/env python3
"""What was built for macOS is what dyld, the kernel and the promises of the shim expect.

Usage: artefacts.py libvp.dylib vprun hooks.def vp.h ARCHITECTURE      (arm64, x86_64)

Needs LLVM's llvm-objdump and llvm-nm; without them it is skipped (77).
"""
import re
import shutil
import subprocess
import sys

MINIMUM_OS = "11.0"

# What the headers hang on a name for a later version of the function: the list has the name alone.
VARIANTS = re.compile(r"\$(INODE64|DARWIN_EXTSN|1050|UNIX2003)")

failures = []


def expect(what, condition, found=""):
    if not condition:
        failures.append(f"{what}{': ' if found else ''}{found}")


def tool(name, *arguments):
    return subprocess.run([f"llvm-{name}", *arguments], check=True, capture_output=True, text=True).stdout


def commands(path):
    """The load commands' text, a list a command."""
    text = tool("objdump", "--macho", "--private-headers", path)
    return text, re.split(r"\nLoad command \d+\n", text)[1:]


def sections(path):
    return set(re.findall(r"sectname (\S+)", tool("objdump", "--macho", "--private-headers", path)))


def listed_hooks(path):
    text = open(path).read()
    plain = re.findall(r"^HOOK\([^,]*, (\w+),", text, re.M)
    named = re.findall(r'^HOOK_AS\([^,]*, \w+, "([^"]+)",', text, re.M)
    return ["_" + name for name in plain] + named


def check_image(path, architecture):
    """What holds for the library and for the launcher."""
    text, loads = commands(path)
    header = next(line for line in text.splitlines() if line.lstrip().startswith("MH_MAGIC_64"))
    expect("the processor", architecture.upper() in header, header)
    expect("a two-level namespace", "TWOLEVEL" in header, header)
    libraries = [re.search(r"name (\S+)", load).group(1) for load in loads if re.search(r"cmd LC_LOAD\w*_DYLIB", load)]
    expect("only libSystem as a dynamic dependency", libraries == ["/usr/lib/libSystem.B.dylib"], str(libraries))
    expect("a code signature", any("cmd LC_CODE_SIGNATURE" in load for load in loads))
    version = next((load for load in loads if "cmd LC_BUILD_VERSION" in load), "")
    expect("the minimum OS", re.search(rf"minos {re.escape(MINIMUM_OS)}$", version, re.M), version)
    expect("the platform", re.search(r"platform macos$", version, re.M | re.I), version)


def check_no_thread_variables(path):
    found = [name for name in sections(path) if name.startswith("__thread")]
    expect("no thread variables", not found and "__tlv_bootstrap" not in tool("nm", "-u", path), str(found))


def check_interpose(path, hooks):
    """Each entry is two pointers: ours, which is rebased, and the original, which is bound from libSystem."""
    expect("a section __DATA,__interpose", "__interpose" in sections(path))
    rows = [row.split() for row in tool("objdump", "--macho", "--bind", path).splitlines() if "__interpose" in row]
    bound = [VARIANTS.sub("", row[-1]) for row in rows]
    wanted = listed_hooks(hooks)
    expect("hooks.def is not empty", len(wanted) > 50, str(len(wanted)))
    expect("exactly the hooks of the list", sorted(bound) == sorted(wanted), str(sorted(set(bound) ^ set(wanted))))
    expect("all originals come from libSystem", all(row[-2] == "libSystem" for row in rows))
    ours = [row for row in tool("objdump", "--macho", "--rebase", path).splitlines() if "__interpose" in row]
    expect("a replacement for each", len(ours) == len(wanted), f"{len(ours)} of {len(wanted)}")


def check_exports(path, header):
    wanted = {"_" + name for name in re.findall(r"[ *](vp_[a-z_]*)\(.*\);$", open(header).read(), re.M)}
    found = {line.split()[-1] for line in tool("nm", "-g", "--defined-only", path).splitlines() if line.strip()}
    expect("exports of vp.h alone", found == wanted, str(found ^ wanted))


def check_originals(path):
    undefined = tool("nm", "-u", path).split()
    expect("originals called directly", "_dlsym" not in undefined)


def main(library, launcher, hooks, header, architecture):
    check_image(library, architecture)
    check_image(launcher, architecture)
    check_no_thread_variables(library)
    check_interpose(library, hooks)
    check_exports(library, header)
    check_originals(library)
    expect("a constructor", "__mod_init_func" in sections(library) or "__init_offsets" in sections(library))
    for failure in failures:
        print("not as it must be:", failure)
    sys.exit(1 if failures else 0)


if not shutil.which("llvm-objdump") or not shutil.which("llvm-nm"):
    print("llvm-objdump or llvm-nm is missing")
    sys.exit(77)
main(*sys.argv[1:])
