"""What a flow may be called. Imports nothing, as the command line asks before all else."""

from __future__ import annotations

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$(?!\n)"
"""A DNS label of at most 52 characters, so that it can also name a Kubernetes workload.

The look-ahead keeps Python's ``$`` from matching before a final newline.
"""

RESERVED_NAMES = frozenset({"status", "commands"})
"""Routes of the REST API, which a flow of that name would hide."""
