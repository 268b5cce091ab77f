"""GET /metrics."""

from __future__ import annotations

import random
import re
import string
import threading
from collections.abc import Iterable

import pytest

from flow_operator.errors import RetryableError
from flow_operator.figures import Figures
from flow_operator.logs import Keeper
from flow_operator.metrics import patience
from flow_operator.runners.base import Usage
from scrapes import Scrape, make_status, publish
from support import FakeClock, eventually, make_document

OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
REQUESTS = "flow_operator_http_request_duration_seconds_count"


def scrape(api, accept=""):
    """What Prometheus sees."""
    answer = api.client.get("/metrics", HTTP_ACCEPT=accept)
    assert answer.status == 200
    return Scrape(answer.read().decode())


@pytest.mark.parametrize(
    ("accept", "kind", "last"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", "\n"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", "\n"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8", "\n"),
        (OPEN_METRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8", "# EOF\n"),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(api, accept, kind, last):
    """Both parse, and both tell the same series."""
    publish(api.board, "a")
    answer = api.client.get("/metrics", HTTP_ACCEPT=accept)
    text = answer.read().decode()
    assert answer.headers["Content-Type"].startswith(kind)
    assert text.endswith(last)
    assert Scrape(text).value("flow_operator_flow_ready", flow="a") == 1


def test_no_name_needs_to_be_escaped(api):
    """So names are told as they are also to a scraper that only reads the old letters."""
    publish(api.board, "a")
    accept = f"{OPEN_METRICS.partition(',')[0]};escaping=underscores"
    for name, labels in scrape(api, accept).series():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert all(re.fullmatch(r"[a-z]+", label) for label, _ in labels)


def test_an_accept_header_that_is_nonsense_is_none(api):
    """The library compares any version with its own, and repeats it in the content type."""
    for accept in (
        "application/openmetrics-text;version=x",
        "application/openmetrics-text;version=1.x",
        "text/plain;version=",
        "application/openmetrics-text;version=1.0.0.\x01",
        "application/openmetrics-text;version=1.0.0.\xff",
        ";;;,,,=",
    ):
        answer = api.client.get("/metrics", HTTP_ACCEPT=accept)
        assert answer.status == 200, accept
        assert answer.headers["Content-Type"].isascii()
        Scrape(answer.read().decode())


def test_query_parameters_are_refused(api):
    """As everywhere: a filter that is ignored would be taken for one that works."""
    answer = api.client.get("/metrics?name=x")
    answer.close()
    assert answer.status == 400


def test_every_status_is_told_also_that_no_flow_has(api):
    """A sum that misses a zero is no sum; a flow that nobody has looked at is pending."""
    publish(api.board, "a", "b")
    api.client.send("POST", "/flows", [make_document("c")]).close()
    told = scrape(api).by("flow_operator_flows", "status")
    assert len(told) == 10
    assert {key: value for key, value in told.items() if value} == {"running": 2, "pending": 1}
    wanted = scrape(api).by("flow_operator_flows_desired", "desired")
    assert wanted == {"running": 2, "paused": 0, "stopped": 0, "deleted": 0}


def test_the_series_of_a_deleted_flow_vanish(api):
    """Nothing is held for a flow that is gone."""
    before = scrape(api).series()
    publish(api.board, "a")
    assert any(("flow", "a") in labels for _, labels in scrape(api).series())
    api.board.remove("a")
    assert scrape(api).series() - before == {
        (name, labels) for name, labels in scrape(api).series() if ("route", "/metrics") in labels
    }


def test_requests_are_told_by_the_rule_of_their_route(api):
    """By method and class of status, and never by path."""
    for flow_id in "abc":
        api.client.get(f"/flows/{flow_id}").close()
    api.client.send("POST", "/flows", [make_document("a")]).close()
    api.client.get("/flows/a").close()
    told = scrape(api)
    assert told.value(REQUESTS, route="/flows/<flow_id>", method="GET", code="4xx") == 3
    assert told.value(REQUESTS, route="/flows/<flow_id>", method="GET", code="2xx") == 1
    assert told.value(REQUESTS, route="/flows", method="POST", code="2xx") == 1
    assert told.value("flow_operator_http_requests_in_flight") == 1


def test_what_takes_long_is_in_the_bucket_of_its_time(make_api):
    """The clock is read before and after the handler."""
    clock = FakeClock()

    def slow():
        clock.advance(0.3)
        return {"folder": None, "files": []}

    api = make_api(folder=slow, clock=clock)
    api.client.get("/manifests").close()
    labels = {"route": "/manifests", "method": "GET", "code": "2xx"}
    name = "flow_operator_http_request_duration_seconds"
    told = scrape(api)
    assert told.value(f"{name}_sum", **labels) == pytest.approx(0.3)
    assert told.value(f"{name}_bucket", **labels, le="0.25") == 0
    assert told.value(f"{name}_bucket", **labels, le="1.0") == 1


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_no_client_can_make_series(api):
    """500 paths, methods and headers that nobody has thought of are one or two series more."""
    chaos = random.Random(7)
    letters = string.ascii_letters + string.digits + "/<>_-%{}\"'\\"

    def word() -> str:
        return "".join(chaos.choices(letters, k=chaos.randrange(1, 40)))

    def ask(method: str, path: str) -> None:
        api.client.open(method, path, HTTP_ACCEPT=word(), HTTP_HOST=word()).close()
        api.client.open(method, path, HTTP_ACCEPT=word()).close()

    for method in ("GET", "POST", "BREW", "get"):
        ask(method, "/x")
        ask(method, "/flows/x")
    before = {name for name, labels in scrape(api).series()}
    known = scrape(api).series()
    for _ in range(500):
        method = chaos.choice(["GET", "POST", "PUT", "DELETE", "PATCH", word()[:8], "BREW"])
        ask(method, chaos.choice(["/", "/flows/", "/flows/status/", "/events/"]) + word())
    told = scrape(api)
    assert {name for name, labels in told.series()} == before
    requests = [dict(labels) for name, labels in told.series() if name == REQUESTS]
    assert {row["method"] for row in requests} <= {
        *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")
    }
    rules = {"none", "/", "/metrics", "/flows", "/flows/<flow_id>", "/flows/status/<flow_id>"}
    assert {row["route"] for row in requests} <= rules
    others = {key for key in told.series() - known if "http_request" not in key[0]}
    assert not others


def test_requests_that_are_refused_before_any_route_are_told(api):
    """Of a foreign host, or of none of our routes."""
    api.client.get("/flows", HTTP_HOST="evil.example").close()
    api.client.get("/nowhere").close()
    assert scrape(api).value(REQUESTS, route="none", method="GET", code="4xx") == 2


class _Away:
    """A runner whose backend is away."""

    def usage(self, flow_ids: Iterable[str]) -> dict:
        raise RetryableError("the shim is away")


def test_it_answers_while_the_runner_is_away(make_api):
    """With what is known, and that the shim is not there."""
    figures = Figures({"process": _Away()}, FakeClock(), lambda _flow_id: {})
    api = make_api(figures=figures, ready=lambda: False)
    publish(api.board, "a")
    api.shim.connected = False
    told = scrape(api)
    assert told.value("flow_operator_shim_connected") == 0
    assert told.value("flow_operator_ready") == 0
    assert told.value("flow_operator_flow_ready", flow="a") == 1
    assert told.value("flow_operator_flow_memory_bytes", flow="a") == 0


class _Hanging:
    """A runner that does not answer until it is let."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked = 0

    def usage(self, flow_ids: Iterable[str]) -> dict:
        self.asked += 1
        self.go_on.wait()
        return {"a-0-uid-1": (Usage(1.0, 4096, 0, 3),)}


def test_it_answers_while_the_runner_hangs(make_api, monkeypatch):
    """Without what flows use; and no scrape waits for what another one already waits for."""
    monkeypatch.setattr(patience, "PATIENCE", 0.05)
    runner = _Hanging()
    figures = Figures({"process": runner}, FakeClock(), lambda _flow_id: {})
    api = make_api(figures=figures)
    publish(api.board, "a")
    memory = "flow_operator_flow_memory_bytes"
    for _ in range(3):
        told = scrape(api)
        assert told.value("flow_operator_flow_ready", flow="a") == 1
        assert told.value("flow_operator_flows", status="running") == 1
        assert told.value(memory, flow="a") is None
    waiting = [thread for thread in threading.enumerate() if thread.name == "figures"]
    assert (runner.asked, len(waiting)) == (1, 1)
    runner.go_on.set()
    assert eventually(lambda: Scrape(_shown(api, memory))).value(memory, flow="a") == 4096


def _shown(api, name):
    text = scrape(api).text
    assert f"{name}{{" in text
    return text


def test_figures_that_fail_are_a_failure_of_the_scrape(make_api, monkeypatch):
    """What is raised is not swallowed on its way between threads."""
    monkeypatch.setattr(patience, "PATIENCE", 5)
    figures = Figures({"process": object()}, FakeClock(), lambda _flow_id: {})
    api = make_api(figures=figures)
    publish(api.board, "a")
    answer = api.client.get("/metrics")
    answer.read()
    assert answer.status == 500


def test_no_secret_is_told(api):
    """Nor anything else of a configuration but the name of its flow."""
    step = {"name": "s", "command": ["x-command"], "env": [{"name": "K", "value": "x-secret"}]}
    api.client.send("POST", "/flows", [make_document("a", step, description="x-words")]).close()
    publish(api.board, "a")
    api.board.publish(make_status("b", message="x-message"))
    assert "x-" not in scrape(api).text


def test_the_parts_are_told_as_they_are(api):
    """Asked for at each scrape."""
    api.queue.add("a")
    api.queue.hurry("b")
    api.queue.add_after("c", 10)
    api.shim.shims_replaced = 2
    told = scrape(api)
    assert told.by("flow_operator_workqueue_depth", "lane") == {"hurried": 1, "normal": 1}
    assert told.value("flow_operator_workqueue_delayed") == 1
    assert told.value("flow_operator_workqueue_adds_total") == 2
    assert told.value("flow_operator_shim_restarts_total") == 2
    assert told.value("flow_operator_adopted_runs") == 3
    assert told.value("flow_operator_http_streams") == 5
    assert told.value("flow_operator_manifest_files") == 4
    assert told.value("flow_operator_manifest_files_with_errors") == 1
    assert told.value("flow_operator_manifest_held_flows") == 2
    assert told.value("flow_operator_ready") == 1


def test_logs_are_told(make_api, root):
    """What the keeper has counted."""
    api = make_api()
    keeper: Keeper = api.services.logs
    keeper.rotations, keeper.lost = 3, 4096
    told = scrape(api)
    assert told.value("flow_operator_log_rotations_total") == 3
    assert told.value("flow_operator_log_dropped_bytes_total") == 4096


def test_the_operators_own_process_is_told(api):
    """As the library tells it for every program."""
    told = scrape(api)
    for name in ("process_cpu_seconds_total", "process_open_fds", "process_start_time_seconds"):
        assert told.value(name)
    assert told.value("python_gc_collections_total", generation="0") is not None


def test_two_operators_in_one_process_share_nothing(make_api):
    """Every exposition has a registry of its own."""
    from prometheus_client import REGISTRY  # noqa: PLC0415 - to see that it stays empty

    make_api()
    make_api()
    assert not [m for m in REGISTRY.collect() if m.name.startswith("flow_operator")]
