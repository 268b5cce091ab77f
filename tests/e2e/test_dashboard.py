"""The dashboard in a real browser, of a real operator."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from selenium.webdriver.common.keys import Keys

from e2e.browser import Browser, browser
from support import Flowd, always_for, eventually, make_document

COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"
MARKUP = "<img src=x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(window: Browser) -> Iterator[Browser]:
    """A browser that must find nothing wrong with what it shows."""
    window.faults()
    yield window
    assert window.faults() == []
    window.driver.get("about:blank")


def show(page: Browser, flowd: Flowd, place: str = "") -> None:
    """Open the dashboard."""
    page.open(f"{flowd.client.base_url}/ui/{place}")


def row(page: Browser, flow_id: str) -> list[str]:
    """What the table tells of a flow, by column."""
    cells = page.texts(f"tr[data-flow='{flow_id}'] td")
    assert cells, f"{flow_id} is not to be seen"
    return cells[1:]


def await_row(page: Browser, flow_id: str, **wanted: str) -> None:
    """Until the table tells that of a flow."""
    columns = ("name", "status", "ready", "restarts", "up", "cpu", "memory", "unread", "message")

    def told() -> None:
        seen = dict(zip(columns, row(page, flow_id), strict=True))
        assert {name: seen[name] for name in wanted} == wanted

    eventually(told)


def await_text(page: Browser, selector: str, part: str) -> None:
    eventually(lambda: _assert(any(part in text for text in page.texts(selector))))


def await_texts(page: Browser, selector: str, wanted: list[str]) -> None:
    """Until these are the texts of what is selected."""

    def told() -> None:
        assert page.texts(selector) == wanted

    eventually(told)


def _assert(condition: bool) -> None:
    assert condition


# --- all flows -------------------------------------------------------------------------------


def test_what_happens_to_flows_is_seen_when_it_happens(flowd: Flowd, page: Browser) -> None:
    """Nobody loads the page again."""
    show(page, flowd)
    await_text(page, ".empty", "There are no flows yet")
    restart = {"backoff": {"initial": "10ms"}}
    flowd.create(make_document("one", COUNT, "cat", restart=restart), make_document("two"))
    for name in ("one", "two"):
        await_row(page, name, name=name, status="running", ready="1/1", restarts="0")
    os.kill(flowd.pids("one")[1], signal.SIGKILL)
    await_row(page, "one", status="running", restarts="1")
    flowd.command("pause", "two")
    await_row(page, "two", status="paused")
    assert page.texts(".chips button") == ["all 2", "running 1", "paused 1"]
    flowd.client.delete("/flows/two")
    await_texts(page, "tr[data-flow] a", ["one"])


def test_figures_come_by_themselves(flowd: Flowd, page: Browser) -> None:
    """CPU as it is used now, and memory."""
    flowd.create(make_document("busy", "while :; do :; done"))
    show(page, flowd)

    def told() -> None:
        _, _, _, _, up, cpu, memory, _, _ = row(page, "busy")
        assert up.endswith("s")
        assert float(cpu.removesuffix(" %")) > 10, cpu
        assert memory.endswith("MiB")

    eventually(told)


def test_chosen_flows_are_commanded(flowd: Flowd, page: Browser) -> None:
    """What could do harm is asked for twice, and what is shown is what was observed."""
    flowd.create(*(make_document(name, COUNT, "cat >/dev/null") for name in ("a", "b", "c")))
    show(page, flowd)
    for name in ("a", "b"):
        await_row(page, name, status="running")
        page.click(f"[aria-label='choose {name}']")
    page.click(".tools button", "Stop")
    assert page.find("dialog p").text == "Stop 2 flows? a, b."
    page.click("dialog button", "Cancel")
    page.click("[aria-label='choose a']")
    page.click(".tools button", "Stop hard")
    assert page.find("dialog p").text == "Stop hard b? What is in flight is lost."
    page.click("dialog button", "Stop hard")
    await_row(page, "b", status="stopped")
    assert flowd.status("b")["conditions"][0]["reason"] == "Forced"
    page.click("[aria-label='choose all']")
    page.click(".tools button", "Start")
    await_row(page, "b", status="running")
    assert {name: status["status"] for name, status in flowd.statuses().items()} == dict.fromkeys(
        "abc", "running"
    )


def test_who_is_out_of_sight_is_not_commanded(flowd: Flowd, page: Browser) -> None:
    """A search leaves those chosen that it finds."""
    flowd.create(*(make_document(name) for name in ("near", "far")))
    show(page, flowd)
    await_row(page, "far", status="running")
    page.click("[aria-label='choose all']")
    page.type("[type=search]", "nea")
    await_texts(page, "tr[data-flow] a", ["near"])
    page.click(".tools button", "Stop")
    await_row(page, "near", status="stopped")
    assert flowd.status("far")["status"] == "running"


def test_flows_are_searched_and_sorted(flowd: Flowd, page: Browser) -> None:
    """By name or label, by status, and by any column."""
    documents = [make_document(name) for name in ("alpha", "beta", "gamma")]
    documents[1]["metadata"] = {"name": "beta", "labels": {"team": "payments"}}
    documents[2]["spec"]["state"] = "stopped"
    flowd.create(*documents)
    show(page, flowd)
    await_row(page, "gamma", status="stopped")
    await_row(page, "beta", status="running")
    names = "tr[data-flow] a"
    page.type("[type=search]", "team=PAY")
    await_texts(page, names, ["beta"])
    page.type("[type=search]", "a")
    page.click(".chips button", "stopped 1")
    await_texts(page, names, ["gamma"])
    page.click(".chips button", "stopped 1")
    page.click("th button", "Name")
    await_texts(page, names, ["gamma", "beta", "alpha"])
    page.click("th button", "Status")
    await_texts(page, names, ["alpha", "beta", "gamma"])


def test_rows_stay_where_somebody_is_about_to_choose(flowd: Flowd, page: Browser) -> None:
    """Whatever they are sorted by; the focus stays as well."""
    restart = {"backoff": {"initial": "10ms"}}
    flowd.create(*(make_document(name, restart=restart) for name in ("a", "b")))
    show(page, flowd)
    names = "tr[data-flow] a"
    page.click("th button", "Restarts")
    flowd.crash("a")
    await_row(page, "a", restarts="1")
    await_texts(page, names, ["a", "b"])
    page.run("""document.querySelector("[aria-label='choose b']").focus()""")
    for _ in range(2):
        flowd.crash("b")
    await_row(page, "b", restarts="2")
    assert page.texts(names) == ["a", "b"]
    assert page.driver.switch_to.active_element.accessible_name == "choose b"
    page.run("document.activeElement.blur()")
    await_texts(page, names, ["b", "a"])
    page.click("[aria-label='choose a']")
    page.click("tr[data-flow] a", "a")
    page.click(".bar a", "← all flows")
    await_text(page, ".tools", "0 chosen")


def test_all_rows_are_reached_by_keyboard(flowd: Flowd, page: Browser) -> None:
    """Those also that do not exist until they are to be seen."""
    flowd.create(*(make_document(f"k{n:03}", state="stopped") for n in range(100)))
    show(page, flowd)
    await_row(page, "k000", status="stopped")
    page.run("""document.querySelector("[aria-label='choose k000']").focus()""")
    for n in range(1, 60):
        page.driver.switch_to.active_element.send_keys(Keys.TAB, Keys.TAB)
        focus = page.driver.switch_to.active_element
        while focus.accessible_name != f"choose k{n:03}":
            assert focus.accessible_name == f"k{n - 1:03}"
            focus.send_keys(Keys.TAB)
            focus = page.driver.switch_to.active_element


def test_thousands_of_flows_are_a_few_rows(flowd: Flowd, page: Browser) -> None:
    """Only what is to be seen is made, and all of it can be reached."""
    flowd.create(*(make_document(f"flow-{n:04}", state="stopped") for n in range(3000)))
    show(page, flowd)
    await_row(page, "flow-0000", status="stopped")
    assert page.count("tr[data-flow]") < 60
    page.run("document.querySelector('.flows').scrollTop = 1e9")
    await_row(page, "flow-2999", status="stopped")
    assert page.count("tr[data-flow]") < 60
    last = page.run("""
        const box = document.querySelector('.flows').getBoundingClientRect();
        const row = document.querySelector("tr[data-flow='flow-2999']").getBoundingClientRect();
        return box.bottom - row.bottom;
    """)
    assert -1 < last < 34, "no more and no less is below it than there is"


def test_faults_of_manifests_are_shown_until_they_are_mended(flowd: Flowd, page: Browser) -> None:
    """With their place; what it ran before goes on."""
    file = flowd.manifests / "web.yaml"
    file.write_text(json.dumps(make_document("web")))
    flowd.await_status("web", "running")
    show(page, flowd)
    file.write_text("flow_id: web\nspec:\n  steps: []\n")
    await_text(page, ".notice", "web.yaml: 1 fault; web goes on as before")
    assert "line 3, column 10, /spec/steps: must not be empty" in page.find(".notice").text
    await_row(page, "web", status="running")
    file.write_text(json.dumps(make_document("web")))
    eventually(lambda: _assert(page.count(".notice") == 0))


def test_many_faults_leave_room_for_flows(flowd: Flowd, page: Browser) -> None:
    """However many files are broken."""
    flowd.create(make_document("web"))
    for n in range(40):
        (flowd.manifests / f"f{n:02}.yaml").write_text("spec: 1\n")
    show(page, flowd)
    await_text(page, ".notice", "and 35 more files with faults")
    assert page.find(".flows").size["height"] > 300


def test_held_flows_are_let_go_of(flowd: Flowd, page: Browser) -> None:
    """A folder that lost most of its files is no wish, until somebody says so, who knows of all."""
    files = [flowd.manifests / f"f{n}.yaml" for n in range(8)]
    for file in files:
        file.write_text(json.dumps(make_document(file.stem)))
    for file in files:
        flowd.await_status(file.stem, "running")
    show(page, flowd)
    for file in files[:5]:
        file.unlink()
    page.click(".notice button", "Remove 5 flows")
    for file in files[5:]:
        file.unlink()
    vanished = [file.stem for file in files]
    eventually(
        lambda: _assert(flowd.client.get("/manifests").json()["vanished"] == vanished), within=20
    )
    page.click("dialog button", "Remove")
    await_text(page, ".toast", "read /manifests again")
    assert len(flowd.statuses()) == 8
    page.click(".notice button", "Remove 8 flows")
    page.click("dialog button", "Remove")
    eventually(lambda: _assert(page.count("tr[data-flow]") == 0))


# --- one flow --------------------------------------------------------------------------------


def test_a_flow_is_drawn_as_what_is_observed(flowd: Flowd, page: Browser) -> None:
    """Its steps in their order, the processes that they are, and what waits between them."""
    flowd.create(make_document("orders", "exec yes", "exec sleep 1000"))
    flowd.await_status("orders", "running")
    show(page, flowd, "#/flows/orders")
    await_texts(page, ".step h3", ["s0 running", "s1 running"])
    pids = [str(pid) for pid in flowd.pids("orders")]
    await_texts(page, ".step dl div:first-child dd", pids)
    await_text(page, ".pipe", "64 KiB")
    page.click(".bar button", "Pause")
    await_texts(page, ".step h3", ["s0 frozen", "s1 frozen"])
    page.click(".bar button", "Resume")
    eventually(lambda: _assert(page.find("h1 + .status").text == "running"))


def test_logs_are_followed(flowd: Flowd, page: Browser) -> None:
    """Of all steps or of one; the end is in sight until somebody scrolls away from it."""
    flowd.create(make_document("talk", f"({COUNT}) >&2", "while :; do echo tick; sleep 0.1; done"))
    show(page, flowd, "#/flows/talk/logs")
    await_text(page, ".log", "tick")
    await_text(page, ".log .line", "50")
    page.click("select option", "s1")
    eventually(lambda: _assert(set(page.texts(".log .line")) == {"tick"}))
    page.click("select option", "s0")

    def at_the_end() -> None:
        assert page.count(".log .line") > 100
        assert page.run(
            "const log = document.querySelector('.log');"
            "return log.scrollTop > 0 && log.scrollHeight - log.scrollTop - log.clientHeight < 40"
        )

    eventually(at_the_end)
    page.run("document.querySelector('.log').scrollTop = 0")
    count = page.count(".log .line")
    eventually(lambda: _assert(page.count(".log .line") > count))
    assert page.run("return document.querySelector('.log').scrollTop") == 0
    flowd.command("stop", "talk", type=1)
    await_texts(page, "h1 + .status", ["stopped"])
    chosen = "return document.querySelector('[aria-label=step]').value"
    always_for(0.5, lambda: _assert(page.run(chosen) == "s0"))


def test_logs_of_several_are_in_the_order_of_time(flowd: Flowd, page: Browser) -> None:
    """Each replica can be read alone; a long line is cut; they go on behind a new operator."""
    long = "head -c 9000 /dev/zero | tr '\\0' x; echo"
    script = f"sleep $((FLOW_REPLICA + 1)); echo first; sleep 2; echo last; {long}; {COUNT}"
    flowd.create(make_document("talk", script, replicas=2))
    eventually(lambda: _assert(len(flowd.logs("talk", "s0").splitlines()) > 3))
    path = flowd.data / "logs" / "talk" / "1" / "s0.log"
    eventually(lambda: _assert(len(path.read_text().splitlines()) > 3))
    show(page, flowd, "#/flows/talk/logs")
    await_text(page, ".log .line", "… and 5,000 characters")
    told = zip(page.texts(".log .who"), page.texts(".log .line"), strict=False)
    assert [(who, line) for who, line in told if line in ("first", "last")] == [
        ("s0", "first"),
        ("s0/1", "first"),
        ("s0", "last"),
        ("s0/1", "last"),
    ]
    page.click("[aria-label=replica] option", "1")
    eventually(lambda: _assert(set(page.texts(".log .who")) == {"s0/1"}))


def test_what_was_cut_off_goes_on_behind_another_operator(
    make_flowd: Callable[..., Flowd], page: Browser
) -> None:
    """Logs and events alike; that they could not be asked for is no longer told."""
    flowd = make_flowd("--listen", f"127.0.0.1:{free_port()}").start()
    flowd.create(make_document("talk", "echo once; exec sleep 1000"))
    flowd.await_status("talk", "running")
    for part, shown in (("logs", ".log .line"), ("events", ".events tr")):
        show(page, flowd, f"#/flows/talk/{part}")
        eventually(lambda shown=shown: _assert(page.count(shown) > 0))
        told = page.texts(shown)
        flowd.kill()
        await_text(page, "main .note", "trying again")
        always_for(1, lambda shown=shown, told=told: _assert(page.texts(shown) == told))
        flowd.start()
        eventually(lambda: _assert(page.texts("main .note") == []))
        assert page.texts(shown)[-len(told) :] == told


def test_events_and_history_are_told_and_a_flow_goes_back(flowd: Flowd, page: Browser) -> None:
    """After a look at what that does to its processes."""
    flowd.create(make_document("web", "exec sleep 1000"))
    flowd.await_status("web", "running")
    changed = make_document("web", "exec sleep 2000")
    assert flowd.client.put("/flows/web", json=changed).json()["change"] == "restart"
    show(page, flowd, "#/flows/web/events")
    await_text(page, ".events tr", "Launching")
    page.click(".tabs a", "history")
    await_text(page, ".diff .added", "sleep 2000")
    page.click("article button", "Roll back to it")
    await_text(page, "dialog p", "processes are ended as it says, then started anew")
    page.click("dialog button", "Roll back")
    await_text(page, "article h3", "Generation 3 (now)")
    page.click(".tabs a", "configuration")
    await_text(page, ".configuration", "exec sleep 1000")


def test_a_roll_back_does_what_was_foreseen_or_nothing(flowd: Flowd, page: Browser) -> None:
    """The flow was changed while somebody thought about it."""
    flowd.create(make_document("web"))
    flowd.client.put("/flows/web", json=make_document("web", description="second"))
    before = flowd.await_status("web", "running")["steps"][0]["pid"]
    show(page, flowd, "#/flows/web/history")
    page.click("article button", "Roll back to it")
    await_text(page, "dialog p", "What runs goes on.")
    flowd.client.put("/flows/web", json=make_document("web", description="third"))
    page.click("dialog button", "Roll back")
    await_text(page, ".toast", "Roll back: ")
    assert flowd.client.get("/flows/web").json()["spec"]["description"] == "third"
    assert flowd.pids("web") == [before]
    page.click(".toast button")
    assert page.count(".toast") == 0


def test_another_flow_of_the_name_is_shown_as_another_one(flowd: Flowd, page: Browser) -> None:
    """Also where it came while nobody looked; while there is none, nothing is left to be seen."""
    flowd.create(make_document("web", "exec sleep 1111"))
    show(page, flowd, "#/flows/web/configuration")
    await_text(page, ".configuration", "sleep 1111")
    flowd.client.delete("/flows/web?type=1")
    await_text(page, ".empty", "no longer")
    assert page.texts(".rest") == []
    assert not page.find(".bar button", "Start").is_enabled()
    flowd.await_gone("web")
    first = page.driver.current_window_handle
    flowd.create(make_document("web", "exec sleep 2222"))
    await_text(page, ".configuration", "sleep 2222")
    page.driver.switch_to.new_window("tab")
    flowd.client.delete("/flows/web?type=1")
    flowd.await_gone("web")
    flowd.create(make_document("web", "exec sleep 3333"))
    page.driver.close()
    page.driver.switch_to.window(first)
    await_text(page, ".configuration", "sleep 3333")


def test_a_flow_that_is_not_there_is_told(flowd: Flowd, page: Browser) -> None:
    """And shown once it is; also where its name is none."""
    show(page, flowd, "#/flows/50%")
    await_text(page, ".empty", "There is no such flow")
    show(page, flowd, "#/flows/later")
    await_text(page, ".empty", "There is no such flow")
    flowd.create(make_document("later"))
    await_texts(page, ".step h3", ["s0 running"])


def test_what_flows_say_is_text(flowd: Flowd, page: Browser) -> None:
    """Never markup, wherever it stands: in logs, labels, messages, events, or configurations."""
    missing = {"name": "s1", "command": [f"/{MARKUP}"]}
    script = f'echo "{MARKUP}" >&2; exec sleep 1000'
    document = make_document("evil", script, missing, description=MARKUP)
    document["metadata"] = {"name": "evil", "annotations": {"x": MARKUP}}
    flowd.create(document)
    (flowd.manifests / "evil.yaml").write_text(json.dumps({"flow_id": "x", MARKUP: 1}))
    for place, where in (
        ("", ".notice"),
        ("", "td.message"),
        ("#/flows/evil/logs", ".log .line"),
        ("#/flows/evil/events", ".events tr"),
        ("#/flows/evil/configuration", ".configuration"),
        ("#/flows/evil/history", ".diff .added"),
        (f"#/flows/{quote(MARKUP)}", "h1"),
    ):
        show(page, flowd, place)
        await_text(page, where, MARKUP)
        assert page.count("img") == 0
        assert page.driver.title != "taken"


def free_port() -> int:
    """For an operator that is found again when it is started again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


# --- the operator ----------------------------------------------------------------------------


def test_an_operator_that_is_away_is_told_and_taken_up_again(
    make_flowd: Callable[..., Flowd], page: Browser
) -> None:
    """What it saw last is not shown as if it were so now."""
    flowd = make_flowd("--listen", f"127.0.0.1:{free_port()}").start()
    flowd.create(make_document("on", restart={"backoff": {"initial": "10ms"}}))
    show(page, flowd)
    await_row(page, "on", status="running", restarts="0")
    pid = flowd.pids("on")[0]
    flowd.kill()
    await_text(page, ".notice", "The operator is away")
    assert "flows run on without it" in page.find(".notice").text
    assert float(page.find("main").value_of_css_property("opacity")) < 1
    os.kill(pid, signal.SIGKILL)
    flowd.start()
    await_row(page, "on", status="running", restarts="1")
    eventually(lambda: _assert(page.count(".notice") == 0))
    assert page.find(".live").text == "live"


def test_a_token_is_asked_for_and_its_role_holds(
    make_flowd: Callable[..., Flowd], root: Path, page: Browser
) -> None:
    """It is kept for the tab, and nothing is shown without it."""
    tokens = root / "tokens.yaml"
    tokens.touch(mode=0o600)
    entries = [
        {"name": role, "role": role, "token": f"{role}-" + "x" * 30}
        for role in ("viewer", "operator", "admin")
    ]
    tokens.write_text(json.dumps({"tokens": entries}))
    flowd = make_flowd("--tokens", str(tokens)).start()
    flowd.client.headers["Authorization"] = f"Bearer {entries[2]['token']}"
    flowd.create(make_document("secret"))
    flowd.await_status("secret", "running")
    page.open(str(flowd.client.base_url))
    for wrong in ("tök" * 9, "two words", " "):
        page.submit("#token", wrong)
        assert page.run("return document.querySelector('#token').validity.valid") is False
    page.submit("#token", "wrong-" + "x" * 30)
    await_text(page, ".notice", "the token is not known here")
    assert "flow" not in page.find("main").text, "not even that there is none"
    page.submit("#token", entries[0]["token"])
    await_row(page, "secret", status="running")
    page.click("[aria-label='choose secret']")
    page.click(".tools button", "Stop")
    await_text(page, ".toast", "needs a token with the role operator")
    page.driver.refresh()
    await_row(page, "secret", status="running")
    assert entries[0]["token"] not in page.driver.current_url
    tokens.write_text(json.dumps({"tokens": entries[1:]}))
    await_text(page, ".notice", "the token is not known here")
    assert "flow" not in page.find("main").text
    page.submit("#token", entries[1]["token"])
    await_row(page, "secret", status="running")
    page.click("header button", "forget the token")
    await_text(page, ".notice", "flowd --tokens asks for one")


def test_a_page_that_nobody_sees_holds_no_connection(flowd: Flowd, page: Browser) -> None:
    """A browser has six for all pages of an operator; what has happened meanwhile is caught up."""
    flowd.create(make_document("seen", COUNT))
    show(page, flowd, "#/flows/seen/logs")

    def streams(count: int) -> None:
        assert scraped(flowd)["flow_operator_http_streams"] == count

    eventually(lambda: streams(2))
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    eventually(lambda: streams(0))
    flowd.command("stop", "seen", type=1)
    page.driver.close()
    page.driver.switch_to.window(first)
    eventually(lambda: streams(2))
    eventually(lambda: _assert(page.find("h1 + .status").text == "stopped"))
    for _ in range(8):
        page.driver.get(f"{flowd.client.base_url}/docs")
        page.driver.get(f"{flowd.client.base_url}/ui/#/flows/seen/logs")
    eventually(lambda: streams(2))


def scraped(flowd: Flowd) -> dict[str, float]:
    """The metrics without labels."""
    lines = flowd.client.get("/metrics").text.splitlines()
    pairs = (line.split() for line in lines if line[0] != "#" and "{" not in line)
    return {name: float(value) for name, value, *_ in pairs}
