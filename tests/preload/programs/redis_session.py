"""redis_session.py KEYS: a redis-server that is filled, asked at random, saved while it changes, stopped, and loaded again.

Values tell their keys; what the server answers is compared with what it was given. Prints the same whenever it runs.
"""
import os
import random
import socket
import subprocess
import sys
import time

KEYS = int(sys.argv[1])
CHANGED = KEYS // 10
BATCH = 500


def value(key, generation):
    return (b"%d.%d-" % (key, generation)) * 40


class Server:
    def __init__(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", os.path.abspath("socket"), "--save", "", "--dir", os.getcwd(),
             "--daemonize", "no", "--logfile", "redis.log"])
        self.socket = socket.socket(socket.AF_UNIX)
        for _ in range(600):
            try:
                self.socket.connect("socket")
                break
            except OSError:
                time.sleep(0.1)
        self.answers = self.socket.makefile("rb")
        while self.ask(b"PING") != b"PONG":  # it may still be loading
            time.sleep(0.1)

    def send(self, *words):
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def answer(self):
        line = self.answers.readline().rstrip()
        if line[:1] != b"$":
            return line[1:]
        return self.answers.read(int(line[1:]) + 2)[:-2]

    def ask(self, *words):
        self.send(*words)
        return self.answer()

    def fill(self, keys, generation):
        for start in range(0, len(keys), BATCH):
            batch = keys[start:start + BATCH]
            for key in batch:
                self.send(b"SET", b"key%d" % key, value(key, generation))
            for _ in batch:
                assert self.answer() == b"OK"

    def check(self, keys, generation):
        for key in keys:
            got = self.ask(b"GET", b"key%d" % key)
            assert got == value(key, generation(key)), (key, got[:60])

    def save(self, meanwhile):
        assert self.ask(b"BGSAVE").startswith(b"Background saving started")
        meanwhile()
        while b"rdb_bgsave_in_progress:1" in self.ask(b"INFO", b"persistence"):
            time.sleep(0.1)
        assert b"rdb_last_bgsave_status:ok" in self.ask(b"INFO", b"persistence")

    def stop(self):
        self.send(b"SHUTDOWN", b"NOSAVE")
        assert self.process.wait() == 0


pick = random.Random(1)
server = Server()
server.fill(range(KEYS), 0)
server.check(pick.sample(range(KEYS), KEYS // 20), lambda key: 0)
print("filled and asked")
server.save(lambda: server.fill(range(CHANGED), 1))
server.check(pick.sample(range(KEYS), KEYS // 20), lambda key: 1 if key < CHANGED else 0)
print("saved while it changed")
server.stop()
server = Server()
server.check(pick.sample(range(KEYS), KEYS // 20), lambda key: 0)
print("loaded as it was when the save began")
server.stop()
os.remove("dump.rdb")
os.remove("redis.log")
