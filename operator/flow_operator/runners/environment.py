"""The environment that a step is started with."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flow_operator.errors import TerminalError
from flow_operator.model.flow import Step

_PRIVATE = ("FLOWD_", "FLOWCTL_", "FLOW_")
"""Variables of the operator that are none of a step's business; ``FLOWCTL_TOKEN`` is a secret."""

_MAX_ENVIRONMENT_FILE = 128 * 1024
"""Bytes; the kernel takes no longer variable (execve(2), MAX_ARG_STRLEN)."""


def base_environment() -> dict[str, str]:
    """What every step inherits: the operator's own environment, without what is its own."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(_PRIVATE) and key.lower() != "app_url"
    }


def step_environment(step: Step, cwd: str) -> dict[str, str]:
    """``envFrom`` in order, then ``env``.

    Raises:
        TerminalError: a file cannot be read or has a line that is no ``NAME=value``.
    """
    env: dict[str, str] = {}
    for reference in step.env_from:
        for number, line in enumerate(_read(cwd, reference.file).splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, separator, value = line.strip().removeprefix("export ").partition("=")
            if not separator or not name:
                raise TerminalError(f"{reference.file}:{number}: write NAME=value")
            env[name.strip()] = _unquoted(value.strip())
    for variable in step.env:
        if variable.value_from is not None:
            env[variable.name] = _read(cwd, variable.value_from.file).rstrip("\n")
        else:
            env[variable.name] = variable.value or ""
    return env


def _read(cwd: str, name: str) -> str:
    try:
        # Not blocking, and only a file: a pipe or a device may never come to its end.
        descriptor = os.open(Path(cwd, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise TerminalError(f"cannot read {name} for the environment: it must be a file")
            text = file.read(_MAX_ENVIRONMENT_FILE + 1).decode("utf-8")
    except UnicodeDecodeError:
        # The error itself would tell what stands there.
        raise TerminalError(f"cannot read {name} for the environment: it must be UTF-8") from None
    except OSError as error:
        raise TerminalError(
            f"cannot read {name} for the environment: {error}; put it right, or name another"
        ) from None
    if len(text) > _MAX_ENVIRONMENT_FILE:
        raise TerminalError(f"{name} must not be larger than {_MAX_ENVIRONMENT_FILE} bytes")
    if "\0" in text:
        raise TerminalError(f"{name} must not hold a NUL character, which no environment can")
    return text


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value
