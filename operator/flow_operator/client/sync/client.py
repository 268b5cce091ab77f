# Generated from aio/client.py by `make client`: edit that one.
"""All calls in one class."""

from __future__ import annotations

from flow_operator.client.sync.flows import Flows
from flow_operator.client.sync.operator import Operator
from flow_operator.client.sync.said import Said
from flow_operator.client.sync.statuses import Statuses


class FlowClient(Flows, Statuses, Said, Operator):
    """A connection to one operator, a context manager.

    Every method raises :class:`ApiError` where the operator answers no (the kind is named where it
    tells something), and :class:`UnreachableError` where there is no answer. Methods that take a
    ``flow_id`` raise :class:`~flow_operator.errors.InvalidError` before anything is sent if it
    cannot be one.

    Args:
        url: base URL: ``http://HOST:PORT/PREFIX``, ``https://...`` or ``unix:PATH``.
        timeout: seconds that the operator may stay silent.
        retry_for: seconds, from the beginning of a call, within which it may be repeated where
            twice is the same as once, or nothing was done: see :mod:`flow_operator.client.repeat`.
            0 repeats nothing.
        token: who we are; sent with each request.
        ca: a file of certificates (PEM) that are trusted instead of the machine's.
        transport: stands in for the network in tests.
        sleep: waits between two tries.

    Raises:
        InvalidError: ``url`` is none of the above, or ``token`` or ``ca`` cannot be used.
    """
