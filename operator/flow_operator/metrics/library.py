"""Prometheus' library without its own servers and clients: 1.5 MB that flowd does not need.

They are there afterwards, but cannot be used. To be imported before anything that imports it.
"""

from __future__ import annotations

from flow_operator.lean import Bare, without

_UNUSED = ("ssl", "http.server", "socketserver", "urllib.request", "wsgiref.simple_server")

with without({name: Bare(name) for name in _UNUSED}):
    import prometheus_client  # noqa: F401
