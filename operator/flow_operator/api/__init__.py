"""The REST API: edits of desired state in, observed state out."""

from flow_operator.api.app import Services, create_app
from flow_operator.api.server import Server

__all__ = ["Server", "Services", "create_app"]
