"""The API under TLS: the same answers, and no client that holds up others."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from serving import Peer, Tape, serving, streaming

from flow_operator.api import Certificates
from flow_operator.api.caps import Caps
from flow_operator.api.tls import TlsSocket
from flow_operator.errors import InvalidError
from flow_operator.settings import Address
from support import always_for, eventually

BODY = os.urandom(2**23)
AT = Address("127.0.0.1", 0, tls=True)


class Files:
    """A certificate on disk, and clients that trust who has issued it."""

    def __init__(self, root: Path) -> None:
        self.ca = trustme.CA()
        self.cert, self.key = root / "cert.pem", root / "key.pem"
        self.issue()
        self.context = ssl.create_default_context()
        self.ca.configure_trust(self.context)

    def issue(self, name: str = "localhost") -> None:
        """Put a new one in its place, as renewals do: first the one file, then the other."""
        issued = self.ca.issue_cert(name, "localhost")
        new = self.key.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(issued.private_key_pem.bytes())
        new.rename(self.key)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        self.cert.write_bytes(chain)

    def read(self) -> Certificates:
        return Certificates(self.cert, self.key)


@pytest.fixture
def files(root: Path) -> Files:
    return Files(root)


@pytest.fixture
def tapes() -> defaultdict[str, Tape]:
    return defaultdict(Tape)


def told(tapes: Any) -> Any:
    stream = streaming(tapes.__getitem__)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/large":
            start_response("200 OK", [("Content-Length", str(len(BODY)))])
            return [BODY]
        if environ["PATH_INFO"] == "/scheme":
            scheme = environ["wsgi.url_scheme"].encode()
            start_response("200 OK", [("Content-Length", str(len(scheme)))])
            return [scheme]
        return stream(environ, start_response)

    return app


@pytest.fixture
def server(files: Files, tapes: Any) -> Iterator[Any]:
    with serving(told(tapes), AT, tls=files.read()) as server:
        yield server


def test_what_is_answered(server: Any, files: Files) -> None:
    """As in clear text: over one connection, small and large, both ways; the URL says https."""
    assert server.address.url == f"https://127.0.0.1:{server.address.port}"
    url = server.address.url.replace("127.0.0.1", "localhost")
    with httpx.Client(base_url=url, verify=files.context, timeout=30) as client:
        for _ in range(3):
            assert client.get("/").content == b"hello"
            assert client.get("/large").content == BODY
            assert client.post("/", content=BODY).content == b"hello"
        assert client.get("/scheme").content == b"https"
    with Peer(server).secure(files.context) as peer:
        assert peer.socket.version() == "TLSv1.3"
        peer.send(b"GET / HTTP/1.1\r\n\r\n" * 3)
        assert [peer.answer() for _ in range(3)] == [(200, b"hello")] * 3
        peer.send(b"nonsense\r\n\r\n")
        assert peer.answer()[0] == 400
        assert peer.rest() == b""  # and not an error: it was told that nothing follows


def test_streams(server: Any, files: Files, tapes: Any) -> None:
    """They begin, go on, end, and notice who goes."""
    with Peer(server).secure(files.context).get("/stream/a") as peer:
        peer.head()
        tapes["a"].say(b"one")
        server.poke()
        peer.until(b"one\r\n")
        tapes["a"].say(None)
        server.poke()
        assert peer.rest() == b"0\r\n\r\n"
    with Peer(server).secure(files.context).get("/stream/b") as peer:
        peer.head()
    eventually(lambda: closed(tapes["b"]))


def closed(tape: Tape) -> None:
    assert tape.closed == 1


def nobody(server: Any) -> None:
    assert not server._server.active_channels


def test_slow_readers_do_not_hold_up_others(server: Any, files: Files, tapes: Any) -> None:
    """Of large answers and of streams; what they get is whole."""
    tapes["slow"].say(*[b"x" * 65536] * 100, None)
    with contextlib.ExitStack() as stack:

        def connect() -> Peer:
            peer = stack.enter_context(Peer(server, receive=4096))
            return peer.secure(files.context)

        large = [connect().get("/large") for _ in range(10)]
        slow = connect().get("/stream/slow", version="1.0")
        with Peer(server).secure(files.context).get("/") as other:
            assert other.answer() == (200, b"hello")
        assert all(peer.answer() == (200, BODY) for peer in large[:3])
        slow.head()
        assert len(slow.rest()) == 100 * 65536


def test_reading_and_sending_at_once(server: Any, files: Files) -> None:
    """Workers send while the loop reads the next requests of the same connections."""

    def talk() -> None:
        with Peer(server).secure(files.context) as peer:
            for _ in range(8):
                peer.send(b"GET /large HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
                assert peer.answer() == (200, BODY)
                assert peer.answer() == (200, b"hello")
            done.append(1)

    done: list[int] = []
    threads = [threading.Thread(target=talk) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == [1, 1, 1]


STRANGE = {
    "a request in clear text": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "rubbish": os.urandom(5000),
    "an empty record": b"\x16\x03\x01\x00\x00",
    "a record that never ends": b"\x16\x03\x01\x40\x00" + b"x" * 3000,
}


@pytest.mark.parametrize("sent", STRANGE.values(), ids=STRANGE)
def test_who_speaks_something_else_is_hung_up_on(
    files: Files, tapes: Any, sent: bytes, capfd: Any
) -> None:
    """At once, or when the handshake has taken too long; others are served, nothing is told."""
    limits = Caps(handshake=0.2)
    with serving(told(tapes), AT, tls=files.read(), caps=limits) as server:
        with Peer(server) as strange:
            with contextlib.suppress(OSError):
                strange.send(sent)
            with Peer(server).secure(files.context).get("/") as other:
                assert other.answer() == (200, b"hello")
            strange.rest()
        eventually(lambda: nobody(server))
    assert capfd.readouterr().err == ""


def test_handshakes_that_do_not_end(files: Files, tapes: Any) -> None:
    """They are ended, and hold up nobody; nor does who goes in the midst of one."""
    limits = Caps(handshake=0.5)
    with serving(told(tapes), AT, tls=files.read(), caps=limits) as server:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(Peer(server)) for _ in range(20)]
            for peer in silent[:10]:
                peer.socket.close()
            with Peer(server).secure(files.context).get("/") as other:
                assert other.answer() == (200, b"hello")
            assert [peer.rest() for peer in silent[10:]] == [b""] * 10
        eventually(lambda: nobody(server))


def test_a_request_in_many_small_records(server: Any, files: Files) -> None:
    """However the client cuts it."""
    with Peer(server).secure(files.context) as peer:
        for byte in b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc":
            peer.send(bytes([byte]))
        assert peer.answer() == (200, b"hello")


def test_a_record_that_comes_in_two_halves(server: Any, files: Files) -> None:
    """The first one is no reason to hang up."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = files.context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with Peer(server) as peer:

        def step(action: Any) -> bytes:
            """Do something of TLS, with what comes for it."""
            while True:
                try:
                    return bytes(action() or b"")
                except ssl.SSLWantReadError:
                    peer.send(outgoing.read())
                    incoming.write(peer.socket.recv(65536))

        step(tls.do_handshake)
        tls.write(b"GET / HTTP/1.1\r\n\r\n")
        record = outgoing.read()
        peer.send(record[:-20])
        [channel] = server._server.active_channels.values()
        always_for(0.2, lambda: connected(channel))
        peer.send(record[-20:])
        assert step(lambda: tls.read(100)).startswith(b"HTTP/1.1 200 OK")


def connected(channel: Any) -> None:
    assert channel.connected


def test_old_versions_are_refused(server: Any, files: Files) -> None:
    """TLS 1.2 is spoken, nothing before it."""
    files.context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Peer(server).secure(files.context).get("/") as peer:
        assert peer.answer() == (200, b"hello")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with Peer(server) as peer, pytest.raises((ssl.SSLError, ConnectionResetError)):
        peer.secure(old)


# --- exchanged while it runs -----------------------------------------------------------------


def names(server: Any, files: Files) -> set[str]:
    """Who the server says that it is."""
    with Peer(server).secure(files.context) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        told = peer.socket.getpeercert()
        assert told is not None
        return {value for _, value in told["subjectAltName"]}


def test_a_new_certificate_is_used_at_once(server: Any, files: Files) -> None:
    """By new connections; those that are open go on."""
    with Peer(server).secure(files.context) as before:
        files.issue("renewed.example")
        assert names(server, files) == {"renewed.example", "localhost"}
        assert before.get("/").answer() == (200, b"hello")


def test_a_bad_new_certificate_is_not_used(
    server: Any, files: Files, logged_events: list[Any]
) -> None:
    """The old one stays, and it is told once; the next good one is used."""
    good = files.cert.read_bytes()
    files.cert.write_bytes(b"half a certifica")
    for _ in range(3):
        assert names(server, files) == {"localhost"}
    [event] = logged_events
    assert (event["log_level"], event["event"]) == (
        "error",
        "the new certificate is not used, the old one stays",
    )
    files.cert.unlink()
    assert names(server, files) == {"localhost"}
    files.cert.write_bytes(good)
    files.issue("renewed.example")
    assert "renewed.example" in names(server, files)


def test_files_that_cannot_be_used(files: Files, root: Path) -> None:
    """Each is refused with what is wrong with it."""
    other = Files(root / "..")
    cases = [
        (root / "nothing", files.key, "nothing.* cannot be read .No such file"),
        (files.cert, root / "nothing", "nothing.* cannot be read .No such file"),
        (files.key, files.key, "must be a certificate and its key"),
        (files.cert, other.key, "KEY_VALUES_MISMATCH"),
    ]
    try:
        for cert, key, why in cases:
            with pytest.raises(InvalidError, match=why):
                Certificates(cert, key)
    finally:
        other.key.unlink()
        other.cert.unlink()


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o602])
def test_a_key_that_others_can_read_is_refused(files: Files, mode: int) -> None:
    """With what to do about it."""
    files.key.chmod(mode)
    with pytest.raises(InvalidError, match=f"chmod 600 {files.key}"):
        files.read()


def test_a_key_with_a_password_is_refused(files: Files, root: Path) -> None:
    """Nobody is asked for it at a terminal that nobody looks at."""
    made = root / "encrypted.pem"
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    made.write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"secret")))
    made.chmod(0o600)
    with pytest.raises(InvalidError, match="encrypted"):
        Certificates(files.cert, made)


def test_nothing_spins_in_a_handshake(files: Files, tapes: Any) -> None:
    """A client that waits in the midst of one costs nothing."""
    with serving(told(tapes), AT, tls=files.read()) as server, Peer(server) as silent:
        silent.send(b"\x16\x03\x01\x40\x00xxx")
        turns = [0]
        readable = server._server.readable

        def counting() -> bool:
            turns[0] += 1
            return bool(readable())

        server._server.readable = counting
        eventually(lambda: somebody(server))
        always_for(0.5, lambda: fewer(turns, 20))


def somebody(server: Any) -> None:
    assert server._server.active_channels


def fewer(turns: list[int], count: int) -> None:
    assert turns[0] < count


def test_a_client_that_resets_in_the_midst(server: Any, files: Files) -> None:
    """Its connection goes, and nothing else."""
    for path in ("/large", "/"):
        peer = Peer(server, receive=4096).secure(files.context).get(path)
        linger = b"\1\0\0\0\0\0\0\0"
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        peer.socket.close()
    eventually(lambda: nobody(server))
    with Peer(server).secure(files.context).get("/") as other:
        assert other.answer() == (200, b"hello")


def test_one_thread_at_a_time_is_within_the_library(files: Files) -> None:
    """Who sends waits for who reads: its objects break otherwise."""
    entered, leave, inside = threading.Event(), threading.Event(), []

    class Library:
        def recv(self, _size: int) -> bytes:
            inside.append("in")
            entered.set()
            leave.wait(20)
            inside.append("out")
            return b"x"

        def send(self, data: bytes) -> int:
            inside.append("sent")
            return len(data)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        secured = TlsSocket(ours, files.read().context())
        real, secured._tls = secured._tls, Library()
        reader = threading.Thread(target=secured.recv, args=(1,))
        sender = threading.Thread(target=secured.send, args=(b"x",))
        reader.start()
        assert entered.wait(10)
        sender.start()
        always_for(0.2, lambda: only(inside, "in"))
        leave.set()
        reader.join(10)
        sender.join(10)
        real.close()
    assert inside == ["in", "out", "sent"]


def only(inside: list[str], what: str) -> None:
    assert inside == [what]
