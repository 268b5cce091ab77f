"""What several threads read at once for the first time."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from support import ROOT

SOURCES = sorted((ROOT / "operator" / "flow_operator").rglob("*.py"))

SCRIPT = """
import sys, threading
from flow_operator.model.flow import convert

document = {
    "metadata": {"name": "a"},
    "spec": {"steps": [{"name": "s", "script": "x", "readinessProbe": {"tcpSocket": {"port": 1}}}]},
}
sys.setswitchinterval(1e-6)
together = threading.Barrier(8)

def read():
    together.wait()
    convert(document)

threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("read")
"""


@pytest.mark.parametrize("number", range(6))
def test_threads_that_read_the_first_flows_at_once_all_read_them(number: int) -> None:
    """Unprepared, nine of ten such processes end by SIGSEGV."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "read\n"), done.stderr


def test_every_struct_that_is_read_from_data_is_prepared() -> None:
    """Whoever reads another one must say so where it is defined."""
    text = "\n".join(path.read_text() for path in SOURCES)
    read = set(re.findall(r"msgspec\.convert\(.*?, ([A-Z_]\w+)\b", text))
    read |= set(re.findall(r"body_as\(([A-Z_]\w+)\b", text))
    read |= set(re.findall(r"decode\(.*?type=([A-Z_]\w+)\b", text))
    assert read >= {"Flow", "Exit", "FlowMemory", "CommandRequest", "_Header"}
    prepared = set(re.findall(r"@prepared\nclass (\w+)\(", text))
    assert read <= prepared
