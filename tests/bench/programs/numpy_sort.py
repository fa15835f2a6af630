"""Sorts BYTES of measured values (float64, two decimals) in place and prints what came out.

Usage: numpy_sort.py BYTES
"""
import sys
import zlib

import numpy

BLOCK = 1 << 20

values = numpy.empty(int(sys.argv[1]) // 8)
random = numpy.random.default_rng(1)
for start in range(0, len(values), BLOCK):
    block = values[start : start + BLOCK]
    block[:] = numpy.round(random.normal(20, 2, len(block)), 2)
values.sort()
digest = 0
for start in range(0, len(values), BLOCK):
    digest = zlib.crc32(values[start : start + BLOCK], digest)
print(digest)
