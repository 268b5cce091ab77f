"""The simple half of what process-compose puts into texts: variables and ``{{.NAME}}``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flow_operator.flowctl.importing.source import Place, Source

_VARIABLE = re.compile(r"\$(?:(\$)|\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*)|([*#@!?0-9-]))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ACTION = re.compile(
    r"\{\{-?\s*(?:\.([A-Za-z_][A-Za-z0-9_]*)|\"((?:[^\"\\]|\\.)*)\"|`([^`]*)`)\s*-?\}\}"
)


class Expander:
    """Replaces ``$NAME`` and ``${NAME}`` as Go's os.ExpandEnv does; ``$$`` is one ``$``."""

    def __init__(self, source: Source, local: Mapping[str, str]) -> None:
        """``local`` is what ``.env`` sets; the environment goes before it."""
        self._source = source
        self._known = {**local, **source.environ}
        self._told: set[str] = set()

    def __call__(self, text: str, place: Place) -> str:
        """The text as process-compose reads it."""

        def one(match: re.Match[str]) -> str:
            if match[1]:
                return "$"
            name: str = match[2] or match[3] or match[4] or ""
            value = self._known.get(name, "")
            if name not in self._told:
                self._told.add(name)
                self._tell(name, place, known=name in self._known)
            return value

        return _VARIABLE.sub(one, text)

    def _tell(self, name: str, place: Place, *, known: bool) -> None:
        if known:
            said = f"${{{name}}} is fixed at its present value"
        elif _NAME.fullmatch(name):
            said = f"${{{name}}} is not set, and empty as process-compose has it; set it here"
        else:
            said = (
                f"${{{name}}} is empty, as process-compose has it; a $ that is meant is written $$"
            )
        self._source.remarks.add(place, said)


def render(text: str, variables: Mapping[str, str]) -> tuple[str, str | None]:
    """Replace ``{{.NAME}}`` and ``{{"text"}}``.

    Returns:
        The text, and what of it is a template that is not understood.
    """
    unknown: list[str] = []
    literals: list[str] = []

    def one(match: re.Match[str]) -> str:
        if match[1] is not None:
            if match[1] not in variables:
                unknown.append(match[0])
            return variables.get(match[1], match[0])
        literals.append(re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3])
        return f"\0{len(literals) - 1}\0"

    made = _ACTION.sub(one, text)
    left = re.search(r"\{\{.*?(\}\}|\Z)", made, re.DOTALL)
    made = re.sub("\0([0-9]+)\0", lambda match: literals[int(match[1])], made)
    return made, unknown[0] if unknown else left[0] if left else None
