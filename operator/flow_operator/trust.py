"""Whether what is read here could have been written by somebody else.

A manifest starts commands, and a token lets its holder start some, so whoever may write one may run
anything as us. As sudo and cron do, we refuse files and folders that others may write.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def distrust(path: Path) -> str | None:
    """Why a file or folder must not be trusted, looking at all its parents too; None if it may be.

    If it is a link, both its own parents and those of what it leads to count.
    """
    target = Path(os.path.realpath(path, strict=True))
    for current in dict.fromkeys((path, target, *path.parents, *target.parents)):
        info = os.stat(current)
        reason = distrust_entry(info)
        # In a sticky directory like /tmp others may add names, but not replace ours.
        sticky = current not in (path, target) and info.st_mode & stat.S_ISVTX
        if reason and not sticky:
            return f"{current} {reason}"
    return None


def distrust_group(path: Path) -> str | None:
    """Why a file whose writers are to be few must not be trusted: its group may write it.

    Or its folder, and so replace it. Further up, groups like Debian's ``staff`` are root's equals.
    """
    target = Path(os.path.realpath(path, strict=True))
    for current in dict.fromkeys((target, path.parent, target.parent)):
        mode = os.stat(current).st_mode
        sticky = current != target and mode & stat.S_ISVTX
        if mode & stat.S_IWGRP and not sticky:
            return f"{current} may be written by its group: chmod g-w"
    return None


def distrust_entry(info: os.stat_result) -> str | None:
    """Why one file or folder must not be trusted."""
    if info.st_mode & stat.S_IWOTH:
        return "may be written by everybody: chmod o-w"
    if info.st_uid not in (0, os.geteuid()):
        return (
            f"belongs to user {info.st_uid}, who is neither root nor the operator's user: chown "
            f"it, or run flowd as that user (docker run --user {info.st_uid})"
        )
    return None
