"""Fills a table in memory with BYTES of text, reads rows of it at random by their key and prints what came out.

Usage: sqlite_table.py BYTES
"""
import random
import sqlite3
import sys

ROW = 1000  # bytes
READS = 50000

random.seed(1)
words = "the of memory and page that which program in to is under large it number would first with between".split()
text = " ".join(random.choices(words, k=50000))
count = int(sys.argv[1]) // ROW
database = sqlite3.connect(":memory:")
database.execute("create table rows (id integer primary key, body text)")
rows = ((i, text[at : at + ROW - 20]) for i, at in ((i, random.randrange(len(text) - ROW)) for i in range(count)))
database.executemany("insert into rows values (?, ?)", rows)
read = "select body from rows where id = ?"
print(sum(len(database.execute(read, (random.randrange(count),)).fetchone()[0]) for _ in range(READS)))
print(database.execute("select count(*), sum(length(body)), min(substr(body, 100, 30)) from rows").fetchone())
