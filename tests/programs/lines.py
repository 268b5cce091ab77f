"""Prints numbered lines as fast as it can, each in a write of its own or a few in one."""

import os
import sys

count = int(sys.argv[1])
at_once = int(sys.argv[2]) if len(sys.argv) > 2 else 7
for start in range(0, count, at_once):
    numbers = range(start, min(start + at_once, count))
    os.write(1, b"".join(b"%d\n" % number for number in numbers))
