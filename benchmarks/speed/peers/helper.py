"""A program of a peer's own world (its Python, its node) that is told one thing after the other."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speed.contender import Load, clean_environment
from speed.figures import percentile

PATIENCE = 120.0
"""Seconds after which a helper that has not answered is killed."""


class Helper:
    """Takes a line of JSON, answers with a line of JSON; ends at the end of its input."""

    def __init__(self, command: Sequence[str], directory: Path, **environment: str) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(directory / "helper.log").open("ab"),
            text=True,
            env=clean_environment(**environment),
        )

    def ask(self, verb: str, *arguments: Any) -> Any:
        """The answer.

        Raises:
            RuntimeError: the helper failed, or ended, or took too long.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self._process.stdin.flush()
        limit = threading.Timer(PATIENCE, self._process.kill)
        limit.start()
        try:
            line = self._process.stdout.readline()
        finally:
            limit.cancel()
        answer = json.loads(line) if line else {"error": "the helper has ended"}
        if "error" in answer:
            raise RuntimeError(f"{verb}: {answer['error']}")
        return answer["result"]

    def load(self, clients: int, seconds: float) -> Load:
        """Have it ask for all statuses, from so many clients for so long."""
        told = self.ask("load", clients, seconds)
        took = sorted(told["took"])
        p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
        return Load(p50, p99, len(took) / seconds, told["size"])

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
