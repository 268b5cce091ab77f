"""A program that writes to a store until it is killed, one fork for each line on its stdin.

Each line is the number to begin with. Every acknowledged transaction is told on stdout; what a
transaction writes follows from its number.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def plan_of(number: int) -> list[str]:
    """The flows that a transaction writes: one, or several at once."""
    if number % 3:
        return [f"flow-{number % 5}"]
    return [f"flow-{n}" for n in range(number % 2, 5)]


def main() -> None:
    """Serve until stdin ends."""
    root = Path(sys.argv[1])
    from unit.store_support import opened, put  # noqa: PLC0415 - importers want plan_of alone

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            store = opened(root)
            number = int(line)
            while True:
                with store.transaction() as transaction:
                    put(transaction, *plan_of(number), script=str(number))
                os.write(1, b"%d\n" % number)
                number += 1
        os.write(1, b"pid %d\n" % pid)
        os.waitpid(pid, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main()
