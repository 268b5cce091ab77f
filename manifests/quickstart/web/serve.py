"""A small threaded web server: ``/`` tells how busy this machine is, ``/healthz`` that it serves.

SIGTERM ends it promptly: no new requests, and those being answered are finished.
"""

import json
import os
import signal
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = ("127.0.0.1", int(os.environ.get("PORT", "8711")))
STOP = {signal.SIGTERM, signal.SIGINT}


class Handler(BaseHTTPRequestHandler):
    """Answers GET with JSON."""

    timeout = 2  # seconds for a client to send its request

    def do_GET(self) -> None:
        """Answer ``/`` and ``/healthz``."""
        match self.path:
            case "/":
                self.reply(HTTPStatus.OK, machine())
            case "/healthz":
                self.reply(HTTPStatus.OK, {"status": "ok"})
            case _:
                self.reply(HTTPStatus.NOT_FOUND, {"status": "not found"})

    def reply(self, status: HTTPStatus, content: dict[str, object]) -> None:
        """Send ``content`` as JSON."""
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log what people ask, not what the probe does each second."""
        if self.path != "/healthz":
            super().log_request(code, size)


class Server(ThreadingHTTPServer):
    """A server whose closing waits for the requests that are being answered."""

    daemon_threads = False


def machine() -> dict[str, object]:
    """The load averages over 1, 5 and 15 minutes, and the CPUs that share the load."""
    return {"at": time.time(), "load": os.getloadavg(), "cpus": os.cpu_count()}


def main() -> None:
    """Serve until told to stop."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # before the threads, which inherit it
    try:
        server = Server(ADDRESS, Handler)
    except OSError as error:
        sys.exit(f"cannot listen on {ADDRESS[0]}:{ADDRESS[1]}: {error.strerror}")
    with server:
        print(f"serving on http://{ADDRESS[0]}:{server.server_port}", flush=True)
        threading.Thread(target=server.serve_forever).start()
        signal.sigwait(STOP)
        server.shutdown()


if __name__ == "__main__":
    main()
