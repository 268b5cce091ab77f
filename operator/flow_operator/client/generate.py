"""Writes ``sync/`` from ``aio/``: the same calls without ``async``.

``python -m flow_operator.client.generate``, or ``make client``. The sources are changed word by
word, so whatever stands in ``aio/`` must be right in both forms: names that differ begin with
``Async`` or ``async_``, or stand in the table below.
"""

from __future__ import annotations

import re
from pathlib import Path

AIO = Path(__file__).with_name("aio")
SYNC = Path(__file__).with_name("sync")

_WORDS = {
    **{f"a{name}": name for name in ("close", "closing", "iter_bytes", "iter_lines", "read")},
    "aio": "sync",
    "anext": "next",
    "asynccontextmanager": "contextmanager",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}

_RULES = (
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAwaitable\[([^\[\]]+(?:\[[^\[\]]*\])?)\]", r"\1"),
    (r"\bAwaitable, |, Awaitable\b", ""),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\basync_(?=[a-z])", ""),
)

_HEAD = "# Generated from {source} by `make client`: edit that one.\n"


def synchronous(text: str, name: str) -> str:
    """A source file of ``aio/`` without ``async``.

    Args:
        text: of the file.
        name: of the file.
    """
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"\w+", lambda found: _WORDS.get(found[0], found[0]), text)
    return _HEAD.format(source=f"{AIO.name}/{name}") + text


def generated() -> dict[Path, str]:
    """What every file of ``sync/`` must be."""
    return {
        SYNC / source.name: synchronous(source.read_text(encoding="utf-8"), source.name)
        for source in sorted(AIO.glob("*.py"))
    }


def main() -> None:
    """Write them all."""
    SYNC.mkdir(exist_ok=True)
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
