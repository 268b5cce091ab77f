"""What was imported from other programs runs as it ran there.

The same command, directory, variables, restarts and signals.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flow_operator.flowctl.main import cli
from support import PROGRAMS, Flowd, always_for, eventually, require

WITNESS = f"{sys.executable} {PROGRAMS / 'witness.py'}"


class Site:
    """A folder with another program's file, and what witnesses have written there."""

    def __init__(self, folder: Path, flowd: Flowd) -> None:
        self.folder = folder
        self.flowd = flowd
        folder.mkdir()

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    def apply(self, *files: str) -> list[str]:
        """Import the files and have the operator hold them; returns the flows' names."""
        made = CliRunner().invoke(cli, ["import", *files])
        assert made.exit_code == 0, made.stderr
        url = str(self.flowd.client.base_url)
        done = CliRunner().invoke(cli, ["--url", url, "apply", "-f", "-"], input=made.stdout)
        assert done.exit_code == 0, done.stderr
        return [line.split()[0].removeprefix("flow/") for line in done.stdout.splitlines()]

    def told(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def first(self, name: str) -> dict[str, Any]:
        """How a witness was started."""

        def check() -> dict[str, Any]:
            return self.told(name)[0]

        return eventually(check)

    def starts(self, name: str) -> int:
        return sum(line["what"] == "start" for line in self.told(name))

    def last(self, name: str) -> str:
        return str(self.told(name)[-1]["what"])


@pytest.fixture
def site(flowd: Flowd, root: Path) -> Site:
    return Site(root / "site", flowd)


def test_supervisord(site: Site) -> None:
    """Processes with numbers, a stop signal, unexpected exits, and what is not started."""
    (site.folder / "sub").mkdir()
    conf = f"""\
[supervisord]
environment=ALL="a,b"
[program:web]
command={WITNESS} {site.folder}/web%(process_num)d "x y" ; comment
process_name=%(program_name)s-%(process_num)d
numprocs=2
directory=sub
environment=N="%(process_num)d"
stopsignal=QUIT
umask=027
[program:failing]
command={WITNESS} {site.folder}/failing 3 2
startsecs=0
[program:expected]
command={WITNESS} {site.folder}/expected 2
exitcodes=0,2
[program:hopeless]
command={WITNESS} {site.folder}/hopeless 1
startretries=1
[program:off]
command={WITNESS} {site.folder}/off
autostart=false
"""
    names = site.apply(site.write("supervisord.conf", conf))
    assert names == ["web-0", "web-1", "failing", "expected", "hopeless", "off"]
    for number in ("0", "1"):
        began = site.first(f"web{number}")
        assert began["argv"] == [f"{site.folder}/web{number}", "x y"]
        assert began["cwd"] == f"{site.folder}/sub"
        assert (began["env"]["ALL"], began["env"]["N"], began["umask"]) == ("a,b", number, 0o27)
    site.flowd.await_status("expected", "completed")
    site.flowd.await_status("hopeless", "failed")
    assert site.starts("hopeless") == 2
    eventually(lambda: _is(site.starts("failing"), 3))
    site.flowd.await_status("failing", "running")
    assert site.flowd.status("off")["status"] == "stopped"
    assert not site.told("off")
    site.flowd.command("stop", "web-0")
    assert site.last("web0") == "SIGQUIT"
    assert site.starts("web1") == 1


def test_a_procfile(site: Site) -> None:
    """By sh, in the folder of the file, with .env and ports."""
    site.write(".env", "GREETING=hello\nPORT=7000\n")
    procfile = f'one: exec {WITNESS} $PWD/one $PORT 99\ntwo: {WITNESS} two "$GREETING"&& true\n'
    procfile = procfile.replace("$PORT 99", "0 0 $PORT")
    names = site.apply(site.write("Procfile", procfile))
    assert names == ["one", "two"]
    one, two = site.first("one"), site.first("two")
    assert one["argv"] == [f"{site.folder}/one", "0", "0", "7000"]
    assert (one["env"]["GREETING"], one["env"]["PORT"], two["env"]["PORT"]) == (
        *("hello", "7000", "7100"),
    )
    assert two["argv"][1] == "hello"


def test_process_compose(site: Site) -> None:
    """Dependencies wait for a printed line, for readiness and for completion."""
    text = f"""\
vars: {{WHO: world}}
environment: [ALL=1]
processes:
  last:
    command: {WITNESS} $$PWD/last 0 0 "{{{{.WHO}}}} $$OWN"
    working_dir: sub
    environment: ["OWN=a b"]
    shutdown: {{signal: 2}}
    depends_on:
      ready: {{condition: process_log_ready}}
      checked: {{condition: process_healthy}}
      once: {{condition: process_completed_successfully}}
  ready:
    command: {WITNESS} {site.folder}/ready
    ready_log_line: witness is rea.y
  checked:
    command: {WITNESS} {site.folder}/checked
    readiness_probe:
      exec: {{command: "[ -e gate ]"}}
      period_seconds: 1
  once: {{entrypoint: [{WITNESS.replace(" ", ", ")}, {site.folder}/once, "0"]}}
  again:
    command: {WITNESS} {site.folder}/again 1
    availability: {{restart: on_failure, max_restarts: 2, backoff_seconds: 1}}
"""
    (site.folder / "sub").mkdir()
    site.apply(site.write("process-compose.yaml", text))
    site.flowd.await_status("once", "completed")
    site.first("ready")
    always_for(0.5, lambda: _is(site.told("sub/last"), []))
    (site.folder / "gate").touch()
    began = site.first("sub/last")
    assert began["argv"][-1] == "world a b"
    assert (began["cwd"], began["env"]["ALL"]) == (f"{site.folder}/sub", "1")
    site.flowd.await_status("last", "running")
    site.flowd.command("stop", "last")
    assert site.last("sub/last") == "SIGINT"
    site.flowd.await_status("again", "failed")
    assert site.starts("again") == 3


def test_pm2(site: Site) -> None:
    """Instances that count, restarts that are used up, SIGINT, and another environment."""
    apps = [
        {
            "name": "api",
            "script": str(PROGRAMS / "witness.py"),
            "interpreter": sys.executable,
            "args": f"{site.folder}/api 0 0 'x y'",
            "instances": 2,
            "increment_var": "PORT",
            "env": {"PORT": 3000, "FLAG": True},
        },
        {
            "name": "short",
            "script": str(PROGRAMS / "witness.py"),
            "interpreter": sys.executable,
            "args": [f"{site.folder}/short", "1"],
            "max_restarts": 3,
        },
    ]
    names = site.apply(site.write("ecosystem.json", json.dumps({"apps": apps})))
    assert names == ["api-0", "api-1", "short"]
    eventually(lambda: _is(site.starts("api"), 2))
    told = site.told("api")
    assert sorted(one["env"]["PORT"] for one in told) == ["3000", "3001"]
    assert sorted(one["env"]["NODE_APP_INSTANCE"] for one in told) == ["0", "1"]
    assert {one["argv"][-1] for one in told} == {"x y"}
    assert {one["cwd"] for one in told} == {str(site.folder)}
    assert told[0]["env"]["FLAG"] == "true"
    site.flowd.await_status("short", "failed")
    assert site.starts("short") == 3
    site.flowd.command("stop", "api-0")
    assert site.last("api") == "SIGINT"


def test_systemd(site: Site) -> None:
    """Variables in the command line, what comes before it, a start limit, an instance."""
    site.write("vars", "FILE=from file\n")
    unit = f"""\
[Service]
Environment="ONE=a b" TWO=c\\x20d
EnvironmentFile={site.folder}/vars
ExecStartPre=/bin/touch {site.folder}/before-%i
ExecStart={WITNESS} {site.folder}/web-%i 0 0 "${{ONE}}" $TWO x$ONE $$
KillSignal=SIGHUP
WorkingDirectory={site.folder}
LimitNOFILE=333
"""
    limited = f"""\
[Unit]
StartLimitBurst=3
[Service]
Restart=on-failure
ExecStart={WITNESS} {site.folder}/limited 7
"""
    site.write("web@.service", unit)
    names = site.apply(
        str(site.folder / "web@8080.service"), site.write("limited.service", limited)
    )
    assert names == ["web-8080", "limited"]
    began = site.first("web-8080")
    assert began["argv"][3:] == ["a b", "c", "d", "x$ONE", "$"]
    assert (began["env"]["ONE"], began["env"]["FILE"]) == ("a b", "from file")
    assert began["cwd"] == str(site.folder)
    assert (site.folder / "before-8080").exists()
    site.flowd.await_status("limited", "failed")
    assert site.starts("limited") == 3
    site.flowd.command("stop", "web-8080")
    assert site.last("web-8080") == "SIGHUP"


def test_the_watched_folder_takes_what_was_written(site: Site) -> None:
    """-o writes one file for each flow, and a running flowd starts them."""
    file = site.write("Procfile", f"one: exec {WITNESS} one\ntwo: exec {WITNESS} two\n")
    done = CliRunner().invoke(cli, ["import", file, "-o", str(site.flowd.manifests)])
    assert done.exit_code == 0, done.stderr
    for name in ("one", "two"):
        assert site.first(name)["cwd"] == str(site.folder)


# --- against the originals -------------------------------------------------------------------

ADDED = (
    "SUPERVISOR_",
    "FLOW_",
    "HONCHO_",
    "PYTEST_",
    "APP_URL",
    "COLUMNS",
    "LINES",
    "PYTHONUNBUFFERED",
    "_",
)
"""Beginnings of the variables that each adds for itself, or that differ from call to call."""


def _as_there(told: dict[str, Any]) -> dict[str, Any]:
    env = {
        k: v
        for k, v in told["env"].items()
        if not k.startswith(ADDED) and k not in ("_", "LC_CTYPE")
    }
    return {**told, "env": env}


def _differences(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    """In what two accounts differ, short enough to be read."""
    if [one["what"] for one in ours] != [one["what"] for one in theirs]:
        return [f"{[one['what'] for one in ours]} {[one['what'] for one in theirs]}"]
    flat = [
        ({**one, **one["env"], "env": 0}, {**other, **other["env"], "env": 0})
        for one, other in zip(ours, theirs, strict=True)
    ]
    return [
        f"{key}: {one.get(key)!r} {other.get(key)!r}"
        for one, other in flat
        for key in one.keys() | other.keys()
        if one.get(key) != other.get(key)
    ]


def _run_original(command: list[str], site: Site, files: list[str], number: signal.Signals) -> Any:
    """What witnesses tell of the original program, by file; then their files are gone."""
    process = subprocess.Popen(
        command, cwd=site.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for file in files:
            site.first(file)
        process.send_signal(number)
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    told = {file: list(map(_as_there, site.told(file))) for file in files}
    for file in files:
        (site.folder / file).unlink()
    return told


def _installed(module: str) -> str | None:
    found = subprocess.run(
        [sys.executable, "-c", f"import {module}"], check=False, capture_output=True
    )
    return f"{module} is not installed" if found.returncode else None


def test_the_same_as_under_supervisord(site: Site) -> None:
    """Argv, directory, variables, umask and the signal at the end."""
    require(_installed("supervisor"))
    conf = f"""\
[supervisord]
logfile={site.folder}/log
pidfile={site.folder}/pid
environment=ALL="a,b",OVER=1
[program:web]
command={WITNESS} {site.folder}/web%(process_num)02d "x y" '%%' %(here)s
  more ; comment
process_name=%(program_name)s%(process_num)02d
numprocs=2
numprocs_start=7
directory=%(here)s/sub
environment=N="%(process_num)d",OVER='2;3'
stopsignal=INT
umask=027
[program:plain]
command=/usr/bin/env -u NOTHING {WITNESS} {site.folder}/plain "%(ENV_HOME)s" %(host_node_name)s
directory=/tmp
"""
    (site.folder / "sub").mkdir()
    path = site.write("supervisord.conf", conf)
    files = ["web07", "web08", "plain"]
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", path]
    theirs = _run_original(command, site, files, signal.SIGTERM)
    site.apply(path)
    for file in files:
        site.first(file)
        site.flowd.await_status(file, "running")
    site.flowd.command("stop")
    for file in files:
        assert _differences(list(map(_as_there, site.told(file))), theirs[file]) == []


def test_the_same_as_under_honcho(site: Site) -> None:
    """Argv, directory and variables."""
    require(_installed("honcho"))
    site.write(".env", "GREETING=hello\n")
    lines = (f'{name}: exec {WITNESS} {name} "$GREETING" $((PORT + 1)) | cat' for name in "ab")
    path = site.write("Procfile", "# comment\n" + "\n".join(lines) + "\n")
    command = [sys.executable, "-m", "honcho", "-f", path, "start"]
    theirs = _run_original(command, site, ["a", "b"], signal.SIGTERM)
    site.apply(path)
    for name in "ab":
        site.first(name)
        assert _differences([_as_there(site.first(name))], theirs[name][:1]) == []


def _is(found: Any, wanted: Any) -> None:
    assert found == wanted
