"""multiprocessing by fork, by forkserver, and by spawn, on memory that the parent has filled."""

import hashlib
import multiprocessing
import sys

data = None


def part(i):
    size = len(data) // 16
    return hashlib.sha256(memoryview(data)[i * size:(i + 1) * size]).hexdigest()


def own(i):
    mine = bytearray(bytes([i]) * (8 << 20))
    mine[i] = 255
    return sum(mine[::4096]) + mine.count(255)


def main():
    global data
    data = bytearray(96 << 20)
    for at in range(0, len(data), 4096):
        data[at:at + 8] = (at * 2654435761 % 2**64).to_bytes(8, "little")
    expected = [part(i) for i in range(16)]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        print("fork", pool.map(part, range(16), chunksize=1) == expected)
        for at in range(0, len(data), 8192):
            data[at] ^= 1
        print("the parent's own", pool.map(part, range(16)) == expected, [part(i) for i in range(16)] == expected)
    for method in ("forkserver", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, pool.map(own, range(8)))
    for at in range(0, len(data), 8192):
        data[at] ^= 1
    print("at the end", [part(i) for i in range(16)] == expected)


if __name__ == "__main__":
    sys.exit(main())
