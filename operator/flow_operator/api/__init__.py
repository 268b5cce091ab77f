"""The REST API: edits of desired state in, observed state out."""

from flow_operator.api.app import Services, create_app
from flow_operator.api.hosts import LOOPBACK, Hosts
from flow_operator.api.server import Server
from flow_operator.api.tls import Certificates
from flow_operator.api.tokens import Tokens
from flow_operator.api.unix_socket import Access

__all__ = [
    "LOOPBACK",
    "Access",
    "Certificates",
    "Hosts",
    "Server",
    "Services",
    "Tokens",
    "create_app",
]
