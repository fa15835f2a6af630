"""A client that fills a redis server with text-like values, then reads and replaces some at random, and verifies every
byte of the answers."""
import random
import socket
import time

VALUE = 1000  # bytes
VALUE_IN_MEMORY = 1200  # with its key and what redis keeps about it
PIPELINE = 32  # requests on their way at a time
WORDS = "the of memory and page that which program in to is under large it number would first with between".split()


class Client:
    def __init__(self, path, data_bytes, seed):
        self.random = random.Random(seed)
        self.text = " ".join(self.random.choices(WORDS, k=100000)).encode()
        self.versions = bytearray(data_bytes // VALUE_IN_MEMORY)  # how often the value of a key was replaced
        self.socket = self._connect(path)

    @staticmethod
    def _connect(path):
        deadline = time.monotonic() + 20
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(120)
            try:
                client.connect(path)
                return client
            except OSError:
                client.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def fill(self):
        for start in range(0, len(self.versions), PIPELINE):
            self._talk([self._set(key) for key in range(start, min(start + PIPELINE, len(self.versions)))])

    def mix(self, seconds):
        """Requests a second, half of them GET, half SET."""
        count, begun = 0, time.monotonic()
        while time.monotonic() - begun < seconds:
            self._talk([self._any() for _ in range(PIPELINE)])
            count += PIPELINE
        return count / (time.monotonic() - begun)

    def _any(self):
        key = self.random.randrange(len(self.versions))
        if self.random.random() < 0.5:
            return self._get(key)
        self.versions[key] = (self.versions[key] + 1) % 256
        return self._set(key)

    def _value(self, key):
        start = (key * 2654435761 + self.versions[key] * 40503) % (len(self.text) - VALUE)
        return self.text[start : start + VALUE]

    def _get(self, key):
        name = b"%010d" % key
        return b"*2\r\n$3\r\nGET\r\n$10\r\n%b\r\n" % name, b"$%d\r\n%b\r\n" % (VALUE, self._value(key))

    def _set(self, key):
        name = b"%010d" % key
        return b"*3\r\n$3\r\nSET\r\n$10\r\n%b\r\n$%d\r\n%b\r\n" % (name, VALUE, self._value(key)), b"+OK\r\n"

    def _talk(self, exchanges):
        """Requests and the answers that they must have."""
        self.socket.sendall(b"".join(request for request, _ in exchanges))
        expected = b"".join(answer for _, answer in exchanges)
        got = bytearray()
        while len(got) < len(expected):
            chunk = self.socket.recv(1 << 18)
            if not chunk:
                raise ConnectionError("the server is gone")
            got += chunk
        if got != expected:
            raise ValueError("WRONG DATA: redis answered something else than it was given")
