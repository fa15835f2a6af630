"""SIGINT, SIGTERM and SIGHUP end the benchmark in order: the programs it runs are killed at once, and the next call of
check() raises Interrupted. Nothing is raised in between, so whatever is being set up or cleaned up is completed."""
import os
import signal

_received = 0
_groups = set()


class Interrupted(Exception):
    """Carries the number of the signal."""


def install():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _note)


def _note(number, _frame):
    global _received
    _received = number
    for group in _groups:
        kill(group)


def check():
    if _received:
        raise Interrupted(_received)


def kill(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def started(group):
    """A process group that is to be killed; also if the signal came just before."""
    _groups.add(group)
    if _received:
        kill(group)


def ended(group):
    _groups.discard(group)
