"""Multiplies a matrix of BYTES (float64, two decimals) with a vector, five times over, and prints the last result's sum.

Usage: numpy_matvec.py BYTES
"""
import sys

import numpy

COLUMNS = 8192

matrix = numpy.empty((int(sys.argv[1]) // 8 // COLUMNS, COLUMNS))
random = numpy.random.default_rng(1)
for row in matrix:
    row[:] = numpy.round(random.normal(20, 2, COLUMNS), 2)
vector = numpy.full(COLUMNS, 0.25)
for _ in range(5):
    product = matrix @ vector
    vector[: len(product)] = product[:COLUMNS] / product.max()
print(f"{product.sum():.6g}")
