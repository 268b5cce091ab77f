"""An operator that serves https."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from support import Flowd, make_document


@pytest.fixture
def served(make_flowd: Any, root: Path) -> tuple[Flowd, Path]:
    """An operator with a certificate, and the file of who has issued it."""
    ca = trustme.CA()
    issued = ca.issue_cert("localhost", "127.0.0.1")
    cert, key, trusted = root / "cert.pem", root / "key.pem", root / "ca.pem"
    issued.cert_chain_pems[0].write_to_path(cert)
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(key)
    ca.cert_pem.write_to_path(trusted)
    flowd = make_flowd("--tls-cert", str(cert), "--tls-key", str(key)).start()
    url = flowd.client.base_url
    flowd.client.close()
    context = ssl.create_default_context(cafile=trusted)
    flowd.client = httpx.Client(base_url=url, verify=context, timeout=60)
    return flowd, trusted


def test_https(served: Any) -> None:
    """The welcome says so; the API and flowctl work, who does not know the issuer is not served."""
    flowd, trusted = served
    assert str(flowd.client.base_url).startswith("https://127.0.0.1:")
    flowd.create(make_document("demo"))
    flowd.await_status("demo", "running")
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(flowd.client.base_url)
    command = [sys.executable, "-m", "flow_operator.flowctl.main", "--url"]
    told = subprocess.run(
        [*command, str(flowd.client.base_url), "--ca", str(trusted), "status"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "demo" in told.stdout


def test_a_key_that_everybody_can_read(make_flowd: Any, root: Path) -> None:
    """It ends at its start and says what to do."""
    (root / "k").touch(mode=0o644)
    (root / "k").chmod(0o644)
    flowd = make_flowd("--tls-cert", str(root / "k"), "--tls-key", str(root / "k"))
    with pytest.raises(AssertionError, match="chmod 600"):
        flowd.start()
    assert flowd.wait() == 1
