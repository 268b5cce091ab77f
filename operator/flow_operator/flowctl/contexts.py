"""Several operators by name: ``~/.config/flowctl/config.yaml``.

::

    currentContext: prod
    contexts:
      prod: {url: "https://flows.example:8710", tokenFile: /home/me/token, ca: /home/me/ca.pem}
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow_operator.errors import Fault, InvalidError

_KEYS = {"url": "url", "tokenFile": "token_file", "ca": "ca"}


@dataclass(frozen=True, slots=True)
class Context:
    """Where one operator is, and what it asks for; what is None is as without a context."""

    url: str
    token_file: str | None = None
    ca: str | None = None

    def told(self) -> dict[str, str]:
        """As it stands in the file."""
        values = {key: getattr(self, name) for key, name in _KEYS.items()}
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Contexts:
    """What the file says; nothing if there is none."""

    current: str | None = None
    by_name: Mapping[str, Context] = field(default_factory=dict)

    def get(self, name: str) -> Context:
        """One of them.

        Raises:
            InvalidError: there is none of that name.
        """
        if name not in self.by_name:
            import difflib  # noqa: PLC0415 - help must not wait for it

            near = difflib.get_close_matches(name, self.by_name, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            said = f"there is no context '{name}'; {hint}flowctl config get-contexts lists them"
            raise InvalidError(said)
        return self.by_name[name]

    def told(self) -> dict[str, Any]:
        """As it stands in the file."""
        listed = {name: context.told() for name, context in self.by_name.items()}
        return {"currentContext": self.current, "contexts": listed}


def config_path() -> Path:
    """``FLOWCTL_CONFIG``, else within ``XDG_CONFIG_HOME``, which is ``~/.config`` by default."""
    if given := os.environ.get("FLOWCTL_CONFIG"):
        return Path(given)
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "flowctl" / "config.yaml"


def load(path: Path) -> Contexts:
    """What a file says; nothing if there is none.

    Raises:
        InvalidError: it cannot be read, or says something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Contexts()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise InvalidError(
            f"cannot read {path}: {why}; put it right, or name another file: FLOWCTL_CONFIG"
        ) from None
    from flow_operator.manifest import SourceText, parse_yaml  # noqa: PLC0415 - imports yaml

    documents = parse_yaml(SourceText(text, str(path)))
    data = documents[0].data if documents else {}
    try:
        return _read(data)
    except (TypeError, ValueError, AttributeError) as error:
        said = f"{error}; flowctl config set-context NAME --url URL writes it as it must be"
        raise InvalidError([Fault(said, file=str(path))]) from None


def _read(data: Any) -> Contexts:
    """Raises ValueError, TypeError or AttributeError if the data is something else."""
    by_name: dict[str, Context] = {}
    for name, told in (data.get("contexts") or {}).items():
        if not isinstance(told, dict) or not set(told) <= set(_KEYS) or "url" not in told:
            raise ValueError(f"the context '{name}' must have url, and may have tokenFile and ca")
        by_name[name] = Context(**{_KEYS[key]: _text(key, value) for key, value in told.items()})
    current = data.get("currentContext")
    return Contexts(None if current is None else _text("currentContext", current), by_name)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be text")
    return value


def save(path: Path, contexts: Contexts) -> None:
    """Write the file anew, readable by its user alone.

    Raises:
        InvalidError: it cannot be written.
    """
    from tempfile import mkstemp  # noqa: PLC0415 - help must not wait for it

    from flow_operator.manifest import dump_yaml  # noqa: PLC0415 - imports yaml

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, made = mkstemp(prefix=".config-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(dump_yaml([contexts.told()]))
            Path(made).replace(path)
        except OSError:
            Path(made).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidError(
            f"cannot write {path}: {error.strerror}; name another file: FLOWCTL_CONFIG"
        ) from None
