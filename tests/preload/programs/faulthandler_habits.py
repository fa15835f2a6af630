"""Python's crash reporter: it finds its own faults, and what is left of the program ends as it would have."""

import ctypes
import faulthandler
import os
import signal
import sys

data = bytearray(96 << 20)
for at in range(0, len(data), 4096):
    data[at] = at >> 12 & 255


def in_child(name, function):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.dup2(1, 2)
        faulthandler.enable(file=sys.stdout, all_threads=False)
        function()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(name, os.WIFSIGNALED(status) and signal.Signals(os.WTERMSIG(status)).name, flush=True)


in_child("null", lambda: ctypes.string_at(0))
in_child("segv", lambda: os.kill(os.getpid(), signal.SIGSEGV))
in_child("bus", lambda: os.kill(os.getpid(), signal.SIGBUS))
in_child("abort", os.abort)
in_child("none", lambda: print(sum(data[::4096])))
faulthandler.enable()
faulthandler.disable()
faulthandler.register(signal.SIGUSR1, file=sys.stdout, all_threads=False)
signal.raise_signal(signal.SIGUSR1)
print(sum(data[::4096]))
