"""What flowd and its shim do not import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support import ROOT

LEFT_OUT = {
    *("rich", "asyncio", "ssl", "_ssl", "_hashlib"),
    *("http.server", "socketserver", "urllib.request", "wsgiref.simple_server"),
}


def _said(program: str, *options: str) -> str:
    return subprocess.run(
        [sys.executable, *options, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def test_flowd_imports_nothing_large_that_it_does_not_use():
    """rich and asyncio would take 5 MB of it, OpenSSL 3; nobody serves https here."""
    listed = set(_said("import flow_operator.flowd, sys; print(*sys.modules)").split())
    assert listed >= {"structlog", "prometheus_client", "bottle"}
    assert not listed & LEFT_OUT


def test_the_shim_imports_nothing_large():
    """There is one beside each operator, for as long as flows run."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'operator')!r}); "
        "import flow_operator.shim.server; print(*sys.modules)"
    )
    listed = set(_said(program, "-I", "-S").split())
    assert "flow_operator.shim.runs" in listed
    large = {"typing", "pathlib", "hashlib", "_hashlib", "shutil", "subprocess", "ssl"}
    assert not listed & large


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_others_can_import_them_after_it(name):
    """Only those libraries are kept from them."""
    said = f"import flow_operator.flowd, importlib; print(importlib.import_module({name!r}))"
    assert f"<module '{name}' from" in _said(said)


@pytest.mark.parametrize("name", ["rich", "asyncio", "ssl", "http.server"])
def test_whoever_has_them_keeps_them(name):
    """A process that uses them already is not disturbed."""
    said = f"import {name}, flow_operator.flowd, sys; print(sys.modules[{name!r}] is {name})"
    assert _said(said) == "True\n"


def test_digests_are_the_same_without_openssl():
    """What one operator has written, another one knows."""
    program = "import hashlib; print(hashlib.sha256(b'x').hexdigest(), hashlib.blake2b(b'x').name)"
    assert _said(f"import flow_operator.lean; {program}") == _said(program)


REFUSES = "import _hashlib; sha256 = _hashlib.openssl_sha256; blake2b = _hashlib.new"
HAS_NONE = """
import contextlib
with contextlib.suppress(ImportError):
    from _hashlib import openssl_sha256 as sha256, new as blake2b
"""


@pytest.mark.parametrize("patched", [REFUSES, HAS_NONE], ids=["refuses", "has none"])
def test_where_only_openssl_has_digests_it_is_imported(tmp_path, patched):
    """As some distributions have it."""
    (tmp_path / "hashlib.py").write_text(patched)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import flow_operator.lean; "
        "import hashlib, hmac; print(hashlib.sha256(b'').hexdigest()[:8], hashlib.__file__)"
    )
    assert _said(program).split() == ["e3b0c442", str(tmp_path / "hashlib.py")]


def test_structlog_finds_asyncio_when_it_needs_it():
    """Whoever logs from a coroutine."""
    program = """
import flow_operator.lean, asyncio, structlog
structlog.configure(wrapper_class=structlog.stdlib.BoundLogger)
structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
async def tell():
    await structlog.get_logger().awarning("told")
import logging; logging.basicConfig(stream=__import__("sys").stdout)
asyncio.run(tell())
"""
    assert "told" in _said(program)
