"""dictionary.py COUNT: a dictionary of that many strings, walked and asked."""
import sys

count = int(sys.argv[1])
words = {i: str(i) * 3 for i in range(count)}
total = 0
for i in range(0, count, 3):
    total = (total * 31 + len(words[i]) + i) % 1000003
    assert words[i] == str(i) * 3
print(len(words), total)
