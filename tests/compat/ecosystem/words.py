"""What Words.java must have counted: `word count`, or `word@minute count`, sorted.

Usage: words.py totals|minutes BEGIN LINES
"""

import sys
from collections import Counter


def main():
    which, begin, lines = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    counts = Counter()
    for i in range(lines):
        time = begin + 50 * i
        for word in (f"w{i % 97}", f"x{i % 1009}", f"y{i % 7}"):
            counts[word if which == "totals" else f"{word}@{time - time % 60000}"] += 1
    print("\n".join(sorted(f"{word} {count}" for word, count in counts.items())))


main()
