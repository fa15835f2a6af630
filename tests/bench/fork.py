"""What fork() takes with 4 GiB live of which 3 GiB are away, beside a plain fork of as much memory as is left there, and
one of all 4 GiB. A fork must bring no page in.

Usage: fork.py VPRUN PROGRAM [MIB]
"""
import os
import subprocess
import sys


def measure(name, mib, *prefix):
    """Prints and returns what the program says of a fork with so many MiB written."""
    command = [*prefix, program, str(mib)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    parent, child, parent_faults, child_faults, resident = map(int, out.split())
    print(f"{name:34} {parent:8} us in the parent, {child:8} us until the child runs; "
          f"page faults of the shim: {parent_faults} and {child_faults}"
          + (f"; {resident} MiB resident" if prefix else ""), flush=True)
    return parent_faults + child_faults


vprun, program = map(os.path.abspath, sys.argv[1:3])
live = int(sys.argv[3]) if len(sys.argv) > 3 else 4096
measure(f"plain, {live // 4} MiB", live // 4)
measure(f"plain, {live} MiB", live)
faults = measure(f"paged, {live} MiB, {live // 4} in memory", live, vprun, "--ram", f"{live // 4}M", "--")
sys.exit("a fork has brought pages in" if faults else 0)
