"""An operator of canned answers on a real socket, which remembers what it was asked."""

from __future__ import annotations

import json
import queue
import re
import socketserver
import ssl
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

STARTED = "2024-05-01T10:00:00Z"


def manifest(name, **spec):
    """A configuration as the API returns it."""
    return {
        "apiVersion": "flow-operator.dev/v1",
        "kind": "Flow",
        "metadata": {"name": name},
        "spec": {"steps": [{"name": "read", "command": ["cat"]}, {"name": "write", "script": "wc"}]}
        | spec,
    }


def status(name, state="running", **fields):
    """A status as the API returns it."""
    running = state == "running"
    return {
        "flow_id": name,
        "status": state,
        "desired": "running",
        "generation": 1,
        "observedGeneration": 1,
        "restarts": 0,
        "replicas": 1,
        "readyReplicas": int(running),
        "startedAt": STARTED if running else None,
        "message": "",
        "source": {"kind": "api", "file": None},
        "conditions": [],
        "steps": [],
    } | fields


class StubOperator:
    """State that tests set up and look at.

    Attributes:
        flows: configurations by name.
        statuses: by name; a flow without one is shown running.
        after: what a command makes of a flow's status, by command.
        logs: the pieces that ``/logs`` sends.
        log_gate: an event that holds the end of what ``/logs`` sends, if there is one.
        command_gate: likewise, the answer to a command.
        requests: (method, path, query, body) of everything that was asked, in order.
        tokens: the Authorization headers of these, in order.
        versions: the number in a flow's ETag, by name, where it is not 1.
        changes: what a watch of statuses tells after what is there: (type, status); None ends it.
        answers: canned (status, body) that go before all else, by ``METHOD path``.
    """

    def __init__(self):
        self.flows = {}
        self.statuses = {}
        self.after = {
            "start": "running",
            "resume": "running",
            "restart": "running",
            "stop": "stopped",
            "pause": "paused",
        }
        self.logs = [b"one\n", b"two\n"]
        self.log_gate = None
        self.command_gate = None
        self.events = []
        self.folder = {"folder": None, "held": None, "files": []}
        self.pruned = []
        self.requests = []
        self.tokens = []
        self.answers = {}
        self.versions = {}
        self.changes = queue.Queue()
        self.looked = threading.Event()

    def add(self, name, state="running", labels=None, **fields):
        """A flow and its status."""
        self.flows[name] = manifest(name)
        if labels:
            self.flows[name]["metadata"]["labels"] = labels
        self.statuses[name] = status(name, state, **fields)

    def asked(self, method):
        """The requests of a method, as (path, query, body)."""
        return [rest for verb, *rest in self.requests if verb == method]

    def answer(self, method, path, query, body):
        """(HTTP status, body) for one request."""
        if canned := self.answers.get(f"{method} {path}"):
            return canned
        for (verb, pattern), handler in self._routes().items():
            if verb == method and (match := re.fullmatch(pattern, path)):
                return handler(*match.groups(), query=query, body=body)
        return self.problem(404, "there is no such route")

    def problem(self, code, detail, errors=()):
        """An RFC 9457 body."""
        return code, {"title": "x", "status": code, "detail": detail, "errors": list(errors)}

    def _routes(self):
        return {
            ("GET", "/"): lambda **_: (200, {"version": "9.9.9"}),
            ("GET", "/readyz"): lambda **_: (200, {"status": "ok"}),
            ("GET", "/flows"): self._list,
            ("POST", "/flows"): self._create,
            ("GET", "/flows/status"): self._statuses,
            ("GET", "/flows/status/([^/]+)"): self._status,
            ("PATCH", "/flows/commands"): self._command,
            ("GET", "/flows/([^/]+)"): self._get,
            ("PUT", "/flows/([^/]+)"): self._replace,
            ("DELETE", "/flows/([^/]+)"): self._delete,
            ("GET", "/events"): lambda **_: (200, {"events": self.events}),
            ("GET", "/flows/([^/]+)/events"): lambda _, **__: (200, {"events": self.events}),
            ("GET", "/manifests"): lambda **_: (200, self.folder),
            ("POST", "/manifests/prune"): lambda **_: (200, {"flows": self.pruned}),
        }

    def _list(self, query, **_):
        return 200, [
            {"flow_id": name} | flow
            for name, flow in sorted(self.flows.items())
            if self._chosen(name, query)
        ]

    def _chosen(self, name, query):
        """Of selectors only KEY=VALUE."""
        metadata = self.flows.get(name, {}).get("metadata", {})
        sides = {
            "labelSelector": metadata.get("labels", {}),
            "fieldSelector": self.statuses.get(name, {}),
        }
        wanted = [(sides[key], *query[key].split("=")) for key in sides if key in query]
        return all(side.get(key) == value for side, key, value in wanted)

    def _get(self, name, **_):
        if name not in self.flows:
            return self._unknown(404, name)
        return 200, {"flow_id": name} | self.flows[name]

    def _create(self, body, query, **_):
        if query.get("dryRun"):
            return 201, self._dry([flow["metadata"]["name"] for flow in body], "start")
        self.flows |= {flow["metadata"]["name"]: flow for flow in body}
        details = [{"flow_id": flow["metadata"]["name"], "status": "pending"} for flow in body]
        return 201, {"status": "Flows created", "details": details}

    def change(self, name, kind="MODIFIED", **fields):
        """Change a status, and tell those who watch."""
        self.statuses[name] = self.statuses[name] | fields
        self.changes.put((kind, self.statuses[name]))

    def _dry(self, names, change):
        return {"details": [{"flow_id": name, "change": change} for name in names]}

    def _replace(self, name, body, query, **_):
        if query.get("dryRun"):
            return 200, self._dry([name], "restart")
        self.flows[name] = body
        return 200, {"flow_id": name, "change": "restart", "generation": 2}

    def _delete(self, name, query, **_):
        if query.get("dryRun") and name in self.flows:
            return 200, self._dry([name], "stop")
        if self.flows.pop(name, None) is None:
            return self._unknown(400, name)
        return 200, {"status": "Flow deleted", "flow_id": name}

    def _statuses(self, query, **_):
        self.looked.set()
        names = {*self.flows, *self.statuses}
        return 200, {name: self._status(name)[1] for name in names if self._chosen(name, query)}

    def _status(self, name, **_):
        if name in self.statuses:
            return 200, self.statuses[name]
        return (200, status(name)) if name in self.flows else self._unknown(404, name)

    def _command(self, body, query, **_):
        everything = sorted(name for name in self.flows if self._chosen(name, query))
        names = body.get("flow_ids", everything)
        if self.command_gate is not None:
            self.command_gate.wait(30)
        if unknown := [name for name in names if name not in self.flows]:
            return self._unknown(400, unknown[0])
        after = self.after[body["command"]]
        details = [{"flow_id": name, "status": after} for name in names]
        for name in names:
            self.statuses.setdefault(name, status(name, after))
        return 200, {"status": "done", "details": details}

    def _unknown(self, code, name):
        said = f"There is no flow '{name}'. GET /flows lists those that exist."
        return self.problem(code, said)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self):
        stub = self.server.stub
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(raw) if raw else None
        stub.requests.append((self.command, url.path, query, body))
        stub.tokens.append(self.headers.get("Authorization"))
        if query.get("watch") and url.path.startswith("/flows/status"):
            self._watch(stub, url.path.removeprefix("/flows/status").strip("/"))
            return
        if url.path.endswith("/logs") and f"GET {url.path}" not in stub.answers:
            self._stream(stub)
            return
        name = url.path.rpartition("/")[2]
        version = f'"{stub.versions.get(name, 1)}"'
        if self.headers.get("If-Match", version) != version:
            code, answer = stub.problem(412, f"flow '{name}' has changed since")
        else:
            code, answer = stub.answer(self.command, url.path, query, body)
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("ETag", version)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _watch(self, stub, name):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        there = [one for one in stub.statuses.values() if name in ("", one["flow_id"])]
        for status_ in there:
            self._message("ADDED", status_)
        self._message("BOOKMARK", {})
        while (told := stub.changes.get(timeout=30)) is not None:
            self._message(*told)

    def _message(self, kind, value):
        told = {"type": kind, "resourceVersion": "1", "object": value}
        line = json.dumps(told).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def _stream(self, stub):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in stub.logs:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if stub.log_gate is not None:
            stub.log_gate.wait(30)
        self.wfile.write(b"0\r\n\r\n")

    def handle(self):
        with suppress(ConnectionError):  # The client may go whenever it likes.
            super().handle()

    def log_message(self, *_):
        pass

    def address_string(self):
        return "client"


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass


class _TlsServer(ThreadingHTTPServer):
    def handle_error(self, *_):
        pass  # Who does not trust us hangs up.


@contextmanager
def serving(stub: StubOperator, socket: Path | None = None, tls: ssl.SSLContext | None = None):
    """Serve until the block ends; yields the URL."""
    if tls is not None:
        server = _TlsServer(("127.0.0.1", 0), _Handler)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        url = f"https://127.0.0.1:{server.server_port}"
    elif socket is None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        url = f"http://127.0.0.1:{server.server_port}"
    else:
        server = _UnixServer(str(socket), _Handler)
        url = f"unix:{socket}"
    server.daemon_threads = False
    server.block_on_close = True
    server.stub = stub
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield url
    finally:
        stub.changes.put(None)
        for gate in (stub.log_gate, stub.command_gate):
            if gate is not None:
                gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
