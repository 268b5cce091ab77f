"""The dashboard's files, and who is sent to it."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest

WEB = files("flow_operator").joinpath("web")


def test_the_page_needs_nobody_else_and_all_its_files(api: Any) -> None:
    """What it names is there, what is there is named, and its policy allows nothing more."""
    left, seen = ["index.html"], set()
    while left:
        name = left.pop()
        seen.add(name)
        answer = api.client.get(f"/ui/{name}" if name != "index.html" else "/ui/")
        assert answer.status == 200, name
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'; " in policy
        assert "unsafe" not in policy
        text = answer.read().decode()
        assert not re.search(r"(?:https?:)?//[a-z]+\.", text), f"{name} names another machine"
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        named = re.findall(r'(?:src|href)="([\w.]+)"|from "\./([\w.]+)"', text)
        left += [one for pair in named for one in pair if one and one not in seen]
    assert seen == {file.name for file in WEB.iterdir()}


@pytest.mark.parametrize("name", ["nothing.js", "..%2fflowd.py", "..%2f..%2fsetup.py", "%00.js"])
def test_nothing_else_is_served(api: Any, name: str) -> None:
    """Whatever is asked for."""
    assert api.client.get(f"/ui/{name}").json()["status"] == 404


@pytest.mark.parametrize("prefix", ["", "/base"])
def test_a_browser_is_sent_to_the_page_and_programs_are_not(make_api: Any, prefix: str) -> None:
    """From the address that flowd tells, which anybody would try first."""
    client = make_api(prefix=prefix).client
    browser = client.get(f"{prefix}/", HTTP_ACCEPT="text/html,application/xml;q=0.9,*/*;q=0.8")
    assert (browser.status, browser.headers["Location"]) == (303, f"{prefix}/ui/")
    assert browser.read() == b""
    assert browser.headers["Vary"] == "Accept"
    program = client.get(f"{prefix}/", HTTP_ACCEPT="*/*").json()
    assert program["name"] == "flow-operator"
    assert "/ui/" in program["links"]
    named = client.get(f"{prefix}/ui")
    assert (named.status, named.headers["Location"]) == (308, f"{prefix}/ui/")
    assert named.read() == b""
