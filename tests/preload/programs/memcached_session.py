"""memcached_session.py ITEMS: a memcached that is filled with items of 1000 bytes, asked at random, changed and asked again.

Values tell their keys; what the server answers is compared with what it was given. Prints the same whenever it runs.
"""
import os
import random
import socket
import subprocess
import sys
import time

ITEMS = int(sys.argv[1])
BATCH = 500
ASKED = 200_000


def value(item, generation):
    return (b"%d.%d-" % (item, generation) * 300)[:1000]


def connect(path):
    for _ in range(600):
        try:
            end = socket.socket(socket.AF_UNIX)
            end.connect(path)
            return end
        except OSError:
            end.close()
            time.sleep(0.1)
    raise SystemExit("memcached does not listen")


def fill(end, answers, items, generation):
    for start in range(0, len(items), BATCH):
        batch = items[start:start + BATCH]
        end.sendall(b"".join(b"set item%d 0 0 1000\r\n%s\r\n" % (item, value(item, generation)) for item in batch))
        for item in batch:
            assert answers.readline() == b"STORED\r\n", item


def check(end, answers, generation_of):
    items = random.Random(1).choices(range(ITEMS), k=ASKED)
    for start in range(0, ASKED, BATCH):
        batch = items[start:start + BATCH]
        end.sendall(b"".join(b"get item%d\r\n" % item for item in batch))
        for item in batch:
            assert answers.readline() == b"VALUE item%d 0 1000\r\n" % item, item
            assert answers.read(1002) == value(item, generation_of(item)) + b"\r\n", item
            assert answers.readline() == b"END\r\n", item
    print(f"{ASKED} answers right")


path = os.path.abspath("socket")
user = ["-u", "root"] if os.geteuid() == 0 else []
server = subprocess.Popen(["memcached", "-s", path, "-m", "4096", "-t", "2", *user])
try:
    end = connect(path)
    answers = end.makefile("rb")
    fill(end, answers, range(ITEMS), 0)
    check(end, answers, lambda item: 0)
    fill(end, answers, range(0, ITEMS, 3), 1)
    check(end, answers, lambda item: 1 if item % 3 == 0 else 0)
finally:
    server.terminate()
    server.wait()
    if os.path.exists(path):
        os.remove(path)
