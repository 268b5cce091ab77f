"""``posix_spawn`` into a cgroup, which Python cannot: the GNU C library can, from 2.39 on.

The child is born in the group as by a fork into it (``shim/fork.py``), without a copy of what this
process has in its memory. Its documentation: the section "Creating a Process" of the manual, and
``<spawn.h>``, of which the constants below are.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Mapping, Sequence

_SETSIGDEF, _SETSIGMASK, _SETSID, _SETCGROUP = 0x04, 0x08, 0x80, 0x100

_ROOM = 512
"""Bytes for any of the library's structures; on no machine does one take 400."""

_libc = ctypes.PyDLL(None)

SPAWNS_INTO = hasattr(_libc, "posix_spawnattr_setcgroup_np")
"""Whether the C library can."""


def spawn_into(
    group: int,
    program: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    stdio: Sequence[int],
    defaults: tuple[int, ...],
) -> int:
    """Start a process in a cgroup, as the leader of a session, with no signal blocked.

    Args:
        group: a descriptor of the cgroup's directory.
        program: its file.
        argv: its arguments, itself first.
        env: its whole environment.
        stdio: what becomes descriptors 0, 1 and 2.
        defaults: the signals that it is not to ignore.

    Raises:
        OSError: it is not started. Whether the program or the group was refused is not told.
        ValueError: an argument that no program can be given.
    """
    arguments, variables = _array(argv), _array([f"{name}={value}" for name, value in env.items()])
    attributes = _attributes(defaults)
    actions = ctypes.create_string_buffer(_ROOM)
    _require(_libc.posix_spawnattr_setcgroup_np(attributes, group))
    _require(_libc.posix_spawn_file_actions_init(actions))
    try:
        for number, descriptor in enumerate(stdio):
            _require(_libc.posix_spawn_file_actions_adddup2(actions, descriptor, number))
        pid = ctypes.c_int()
        _require(
            _libc.posix_spawn(
                ctypes.byref(pid), _text(program), actions, attributes, arguments, variables
            )
        )
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)
    return pid.value


@functools.cache
def _attributes(defaults: tuple[int, ...]) -> ctypes.Array[ctypes.c_char]:
    """What all spawns share: a posix_spawnattr_t, in which only the group is still to be set."""
    attributes = ctypes.create_string_buffer(_ROOM)
    signals = ctypes.create_string_buffer(_ROOM)
    _require(_libc.posix_spawnattr_init(attributes))
    _require(_libc.sigemptyset(signals))
    _require(_libc.posix_spawnattr_setsigmask(attributes, signals))
    for number in defaults:
        _require(_libc.sigaddset(signals, number))
    _require(_libc.posix_spawnattr_setsigdefault(attributes, signals))
    flags = _SETSIGDEF | _SETSIGMASK | _SETSID | _SETCGROUP
    _require(_libc.posix_spawnattr_setflags(attributes, ctypes.c_short(flags)))
    return attributes


def _array(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(texts) + 1))(*map(_text, texts), None)


def _text(text: str) -> bytes:
    """As the C library takes it, which would end it at a null byte."""
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        raise ValueError("an argument or a variable has a null byte in it; take it out")
    return encoded


def _require(number: int) -> None:
    if number:
        raise OSError(number, os.strerror(number))
