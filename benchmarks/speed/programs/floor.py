"""What Python needs to start COUNT workers, and to start anew those that end. As ``floor.c``.

Usage: floor.py WORKER REGISTER COUNT. SIGUSR1 adds one; SIGTERM ends all of them, and then itself.
"""

import os
import select
import signal
import sys


class Loop:
    """The processes by their descriptors."""

    def __init__(self, worker: str, register: str) -> None:
        self._command = (worker, register)
        self._watch = select.epoll()
        self._by_descriptor: dict[int, tuple[int, int]] = {}

    def start(self, number: int) -> None:
        """Start one flow's worker."""
        worker, register = self._command
        pid = os.posix_spawn(
            worker, [worker, register, str(number)], os.environ, setsid=True, setsigmask=()
        )
        descriptor = os.pidfd_open(pid)
        self._by_descriptor[descriptor] = number, pid
        self._watch.register(descriptor, select.EPOLLIN)

    def run(self, count: int) -> None:
        """Until SIGTERM."""
        wanted = {signal.SIGTERM, signal.SIGUSR1}
        woken, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        for number in wanted:
            signal.signal(number, lambda *_: None)
        self._watch.register(woken, select.EPOLLIN)
        for number in range(count):
            self.start(number)
        while True:
            for descriptor, _ in self._watch.poll():
                if descriptor != woken:
                    self._replace(descriptor)
                elif signal.SIGTERM in (told := os.read(woken, 64)):
                    return self._end()
                else:
                    for _ in told:
                        self.start(count)
                        count += 1

    def _replace(self, descriptor: int) -> None:
        number, pid = self._by_descriptor.pop(descriptor)
        os.close(descriptor)
        os.waitpid(pid, 0)
        self.start(number)

    def _end(self) -> None:
        pids = [pid for _, pid in self._by_descriptor.values()]
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        for pid in pids:
            os.waitpid(pid, 0)


if __name__ == "__main__":
    Loop(sys.argv[1], sys.argv[2]).run(int(sys.argv[3]))
