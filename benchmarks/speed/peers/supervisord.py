"""supervisord, from PyPI; asked by XML-RPC over a Unix socket."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from speed.clients import HttpClient
from speed.contender import Launched, Load, Work, flow_name
from speed.peers.install import from_pypi

VERSION = "4.3.0"

_CONFIGURATION = """\
[unix_http_server]
file={root}/socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisord]
nodaemon=true
logfile={root}/supervisord.log
pidfile={root}/pid
loglevel=error
[include]
files={root}/programs/*.conf
"""
_PROGRAM = """\
[program:{name}]
command={command}
stdout_logfile={root}/{name}.out
stderr_logfile={root}/{name}.err
"""


class Supervisord(Launched):
    """supervisord with a log file for each program, which are its defaults."""

    name = "supervisord"

    def __init__(self, root: Path, work: Work, client: Path) -> None:
        super().__init__(root, work)
        self._bin = from_pypi("supervisord", f"supervisor=={VERSION}", "setuptools<81")
        self._client = client

    def prepare(self, count: int) -> None:
        """One file for each program."""
        (self.root / "programs").mkdir()
        configuration = _CONFIGURATION.format(root=self.root)
        (self.root / "supervisord.conf").write_text(configuration)
        for number in range(count):
            self._write(number)

    def _write(self, number: int) -> None:
        name, command = flow_name(number), " ".join(self.work.command(number))
        text = _PROGRAM.format(name=name, command=command, root=self.root)
        (self.root / f"programs/{name}.conf").write_text(text)

    def start(self) -> None:
        """Launch it; programs start by themselves."""
        self.launch([str(self._bin / "supervisord"), "-c", str(self.root / "supervisord.conf")])

    def adds(self) -> Mapping[str, Callable[[int], None]]:
        """What ``supervisorctl update`` does for one new program."""

        def add(number: int) -> None:
            self._write(number)
            server = self._server()
            server.supervisor.reloadConfig()
            server.supervisor.addProcessGroup(flow_name(number))

        return {"add": add}

    def load(self, clients: int, seconds: float) -> Load:
        """What ``supervisorctl status`` asks."""
        body = xmlrpc.client.dumps((), "supervisor.getAllProcessInfo").encode()
        head = (
            "POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        client = HttpClient(self._client, str(self.root / "socket"), head.encode() + body)
        return client.load(clients, seconds)

    def stop_all(self) -> None:
        """What ``supervisorctl stop all`` does."""
        self._server().supervisor.stopAllProcesses()

    def _server(self) -> Any:
        transport = _UnixTransport(str(self.root / "socket"))
        return xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport)


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """A connection to the socket, whatever the host."""
        connection = http.client.HTTPConnection(host, timeout=120)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(120)
        connection.sock.connect(self._path)
        return connection
