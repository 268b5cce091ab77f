"""The command line.

Commands only parse, call :class:`~flow_operator.client.FlowClient` and print. What takes long to
import (httpx, rich, jsonschema) is imported by the command that needs it, so that ``--help`` and
completion are immediate.
"""
