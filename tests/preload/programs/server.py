"""A server that forks its workers beforehand: they answer from memory that they share with it, and one of them is killed
and replaced."""

import hashlib
import os
import signal
import socket

WORKERS = 4
data = bytearray(80 << 20)
for at in range(0, len(data), 4096):
    data[at:at + 8] = (at * 2654435761 % 2**64).to_bytes(8, "little")


def answer(number):
    size = len(data) // 64
    return hashlib.sha256(memoryview(data)[number * size:(number + 1) * size]).hexdigest()


def work(listener):
    served = 0
    while True:
        client, _ = listener.accept()
        with client:
            number = int.from_bytes(client.recv(1), "little")
            client.sendall(answer(number).encode())
            served += 1
            own = bytearray(b"x") * (3 << 20)  # of this worker alone
            own[served] = 1


def start(listener):
    child = os.fork()
    if child == 0:
        try:
            work(listener)
        finally:
            os._exit(1)
    return child


def ask(path, number):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(bytes([number]))
        text = b""
        while len(text) < 64:
            piece = client.recv(64)
            if not piece:
                return None
            text += piece
        return text.decode()


path = "socket"
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(64)
workers = [start(listener) for _ in range(WORKERS)]
right = 0
for request in range(200):
    if request % 20 == 10:
        os.kill(workers[0], signal.SIGKILL)
        os.waitpid(workers.pop(0), 0)
        workers.append(start(listener))
    number = request * 7 % 64
    right += ask(path, number) == answer(number)
print("right answers:", right)
for worker in workers:
    os.kill(worker, signal.SIGTERM)
    os.waitpid(worker, 0)
os.unlink(path)
