"""Lists: selectors, parts, status beside configurations, and ETags."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace

from flow_operator.api.statuses import status_of
from support import make_document

LISTS = ("/flows", "/flows/status")
TEAMS = {"a": "red", "b": "blue", "c": "red", "d": None}


@pytest.fixture
def teams(api: Any) -> Any:
    """Four flows; a and c of one team, b of another, d of none. b was seen to be running."""
    documents = []
    for name, team in TEAMS.items():
        document = make_document(name, state="stopped")
        document["metadata"] = {"labels": {"team": team} if team else {}}
        documents.append(document)
    assert api.client.send("POST", "/flows", documents).read()
    _publish(api, "b", status="running")
    return api


def _publish(api: Any, flow_id: str, **changes: Any) -> None:
    api.board.publish(replace(status_of(api.services, flow_id), **changes))


def _ids(told: Any) -> list[str]:
    return list(told) if isinstance(told, dict) else [flow["flow_id"] for flow in told]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("labelSelector=team%3Dred", ["a", "c"]),
        ("labelSelector=team%20notin%20(red)", ["b", "d"]),
        ("labelSelector=!team", ["d"]),
        ("labelSelector=team", ["a", "b", "c"]),
        ("fieldSelector=status%3Drunning", ["b"]),
        ("fieldSelector=status!=running", ["a", "c", "d"]),
        ("fieldSelector=status=pending&labelSelector=team=red", ["a", "c"]),
        ("labelSelector=team=green", []),
        ("continue=b", ["c", "d"]),
        ("limit=2", ["a", "b"]),
        ("limit=2&labelSelector=team", ["a", "b"]),
        ("limit=4", ["a", "b", "c", "d"]),
    ],
)
def test_what_is_listed(teams: Any, path: str, query: str, wanted: list[str]) -> None:
    """Configurations and statuses are chosen by the same selectors."""
    assert _ids(teams.client.get(f"{path}?{query}").json()) == wanted


@pytest.mark.parametrize("path", LISTS)
def test_parts_add_up(teams: Any, path: str) -> None:
    """Following Link gives each flow once, whatever comes and goes meanwhile."""
    url, seen = f"{path}?limit=1&labelSelector=team", []
    while url:
        answer = teams.client.get(url)
        link = answer.headers.get("Link", "")
        seen += _ids(answer.json())
        found = re.fullmatch(r"<([^>]+)>; rel=next", link)
        url = found[1] if found else ""
        if seen == ["a"]:
            teams.client.open("DELETE", "/flows/a").read()
            teams.client.send("POST", "/flows", [make_document("aa", state="stopped")]).read()
    assert seen == ["a", "b", "c"]


def test_the_next_part_lies_under_the_prefix(make_api: Any) -> None:
    """Link leads to where everything is served."""
    api = make_api(prefix="/base")
    documents = [make_document(name, state="stopped") for name in ("a", "b")]
    api.client.send("POST", "/base/flows", documents).read()
    answer = api.client.get("/base/flows?limit=1")
    assert answer.headers["Link"] == "</base/flows?limit=1&continue=a>; rel=next"
    answer.read()


def test_status_beside_the_configuration(teams: Any) -> None:
    """expand=status adds what /flows/status says, and nothing else."""
    statuses = teams.client.get("/flows/status").json()
    plain = teams.client.get("/flows").json()
    expanded = teams.client.get("/flows?expand=status").json()
    assert expanded == [{**flow, "status": statuses[flow["flow_id"]]} for flow in plain]
    [only] = teams.client.get("/flows?expand=status&fieldSelector=status=running").json()
    assert (only["flow_id"], only["status"]["status"]) == ("b", "running")


@pytest.mark.parametrize(
    "query",
    [
        *("labelSelector=", "labelSelector==", "fieldSelector=pid=1", "fieldSelector=status"),
        *("limit=0", "limit=-1", "limit=x", "limit=1.5", "limit=1&limit=2", "limit="),
        *("limit=1_0", "limit=%C2%B2", "expand=spec", "continue="),
    ],
)
def test_what_cannot_be_listed(teams: Any, query: str) -> None:
    """400; a list that is not the one that was meant would be worse."""
    assert teams.client.get(f"/flows?{query}").json()["status"] == 400


@pytest.mark.parametrize(
    "path", [*LISTS, "/flows/a", "/flows/status/a", "/flows?labelSelector=team", "/openapi.json"]
)
def test_nothing_is_sent_twice(teams: Any, path: str) -> None:
    """304 without a body as long as nothing has changed; also for one of several, or a weak one."""
    answer = teams.client.get(path)
    body, etag = answer.read(), answer.headers["Etag"]
    assert body
    for known in (etag, f'"other", W/{etag}', "*"):
        again = teams.client.get(path, HTTP_IF_NONE_MATCH=known)
        assert (again.read(), again.status, again.headers["Etag"]) == (b"", 304, etag)
    other = teams.client.get(path, HTTP_IF_NONE_MATCH='"other"')
    assert (other.status, other.read()) == (200, body)


@pytest.mark.parametrize("path", [*LISTS, "/flows/a", "/flows/status/a"])
def test_what_has_changed_is_sent(teams: Any, path: str) -> None:
    """An edit makes a new ETag of all that shows it."""
    etags = set()
    for state in ("paused", "running", "stopped"):
        answer = teams.client.get(path)
        answer.read()
        etags.add(answer.headers["Etag"])
        body = make_document("a", state=state)
        assert teams.client.send("PUT", "/flows/a", body).read()
        _publish(teams, "a", desired=state)
    assert len(etags) == 3


def test_a_status_that_changes_alone_leaves_the_others_as_they_were_encoded(teams: Any) -> None:
    """Only what has changed is encoded again; and it is, at once."""
    before = teams.client.get("/flows/status").json()
    added: list[str] = []
    real = teams.services.figures.added

    def counted(statuses: Any) -> Any:
        listed = list(statuses)
        added.extend(status.flow_id for status in listed)
        return real(listed)

    teams.services.figures.added = counted
    _publish(teams, "c", status="failed")
    after = teams.client.get("/flows/status").json()
    assert added == ["c"]
    assert after == {**before, "c": {**before["c"], "status": "failed"}}


def test_what_is_asked_for_as_it_stands_is_not_listed_again(
    teams: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as nothing has changed, all configurations are sent as they were joined before."""
    before = teams.client.get("/flows").read()
    monkeypatch.setattr(teams.store, "flows", None)
    assert teams.client.get("/flows").read() == before


def test_a_selector_that_chooses_all_chooses_none_that_come_meanwhile(
    teams: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is chosen is what is answered, also where that was everything a moment ago."""
    real = teams.store.flows

    def flows() -> Any:
        monkeypatch.setattr(teams.store, "flows", real)
        listed = real()
        teams.client.send("POST", "/flows", [make_document("late", state="paused")]).read()
        return listed

    monkeypatch.setattr(teams.store, "flows", flows)
    assert _ids(teams.client.get("/flows?fieldSelector=desired=stopped").json()) == list(TEAMS)


def test_figures_are_taken_anew_after_two_seconds(teams: Any) -> None:
    """Also where no status has changed."""
    teams.client.get("/flows/status").read()
    real, taken = teams.services.figures.added, []

    def counted(statuses: Any) -> Any:
        listed = list(statuses)
        taken.append(len(listed))
        return real(listed)

    teams.services.figures.added = counted
    teams.services.clock.advance(1.9)
    teams.client.get("/flows/status").read()
    assert taken == []
    teams.services.clock.advance(0.2)
    teams.client.get("/flows/status").read()
    assert taken == [4]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/flows/status?labelSelector=team=red", ["a", "c"]),
        ("/flows/status?fieldSelector=status=running", ["b"]),
        ("/flows/status?limit=1&continue=b", ["c"]),
        ("/flows?labelSelector=team=red&expand=status", ["a", "c"]),
        ("/flows?fieldSelector=status=running", []),
    ],
)
def test_figures_are_taken_of_no_other_flows_than_are_asked_for(
    teams: Any, path: str, wanted: list[str]
) -> None:
    """What somebody asks of one flow must not cost more, the more others there are."""
    real, taken = teams.services.figures.added, []

    def counted(statuses: Any) -> Any:
        listed = list(statuses)
        taken.extend(status.flow_id for status in listed)
        return real(listed)

    teams.services.figures.added = counted
    assert teams.client.get(path).read()
    assert taken == wanted
    taken.clear()
    teams.client.get("/flows/status").read()
    taken.clear()
    assert teams.client.get(path).read()
    assert taken == []
    teams.services.clock.advance(2.1)
    assert teams.client.get(path).read()
    assert taken == wanted


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("labelSelector=team=red", ["a", "c"]),
        ("fieldSelector=status=running", ["b"]),
        ("labelSelector=team=green", []),
    ],
)
def test_commands_by_selector(teams: Any, query: str, wanted: list[str]) -> None:
    """Those that are chosen are commanded, and no other; none is no error and no wildcard."""
    answer = teams.client.send("PATCH", f"/flows/commands?timeout=0&{query}", {"command": "pause"})
    assert [row["flow_id"] for row in answer.json()["details"]] == wanted
    paused = [r.flow_id for r in teams.store.flows() if r.flow.spec.state == "paused"]
    assert paused == wanted


def test_a_dry_run_by_selector(teams: Any) -> None:
    """Tells of those that would be commanded, and commands none."""
    url = "/flows/commands?labelSelector=team=red&dryRun=All"
    answer = teams.client.send("PATCH", url, {"command": "start"})
    assert [row["flow_id"] for row in answer.json()["details"]] == ["a", "c"]
    assert {record.flow.spec.state for record in teams.store.flows()} == {"stopped"}


def test_a_command_names_flows_in_one_way(teams: Any) -> None:
    """flow_ids and a selector at once are refused: nobody knows which was meant."""
    body = {"command": "start", "flow_ids": ["a"]}
    answer = teams.client.send("PATCH", "/flows/commands?labelSelector=team=red", body)
    assert answer.json()["status"] == 400
    assert {record.flow.spec.state for record in teams.store.flows()} == {"stopped"}
