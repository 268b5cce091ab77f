"""Logs that are followed as objects, over connections that break and an operator that dies."""

from __future__ import annotations

import json

from support import Flowd, make_document

STEP = "i=0; while :; do i=$((i+1)); echo $i; echo err $i >&2; sleep 0.002; done"


def test_a_broken_connection_loses_and_doubles_no_line(flowd: Flowd) -> None:
    """Gone on from the last id again and again, over rotations and kills of the operator."""
    document = make_document("prints", STEP, "sed -u s/^/out/", logs={"maxSize": "4Ki"})
    flowd.create(document)
    flowd.await_status("prints", "running")
    seen: dict[str, list[str]] = {"s0": [], "s1": []}
    last = ""
    for turn in range(60):
        if turn in (20, 40):
            flowd.kill()
            flowd.start()
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        with flowd.client.stream("GET", "/flows/prints/logs?follow=1", headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            count = 0
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    last = value
                elif name == "data":
                    told = json.loads(value)
                    assert told["id"] == last
                    seen[told["step"]].append(told["line"])
                    count += 1
                    if count > 29:
                        break
    for step, before in (("s0", "err "), ("s1", "out")):
        numbers = [int(line.removeprefix(before)) for line in seen[step]]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 100
