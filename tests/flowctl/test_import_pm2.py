"""PM2's ecosystem files become flows."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from import_support import environment_of, forgotten

from flow_operator.flowctl.importing.pm2_app import ALIASES
from support import require

NAME = "ecosystem.json"


def app(**keys):
    return json.dumps({"apps": [{"name": "api", "script": "./api.js", **keys}]})


def test_an_ecosystem(imported, tmp_path):
    """The shape of the manual's example, with values of our own."""
    text = """\
{
  "apps": [{
    "name": "api",
    "script": "./api.js",
    "cwd": "srv",
    "args": "--port 80 'a b'",
    "interpreter_args": ["--harmony", "--max-old-space-size=100"],
    "env": {"NODE_ENV": "dev", "PORT": 3000, "FLAG": true, "RATE": 1.5},
    "env_production": {"NODE_ENV": "production"},
    "min_uptime": "5s",
    "max_restarts": 7,
    "restart_delay": 4000,
    "kill_timeout": 3000,
    "namespace": "site",
    "max_memory_restart": "300M"
  }, {
    "script": "jobs/clean.py",
    "args": ["-v", "x y"],
    "autorestart": false
  }],
  "deploy": {"production": {}}
}
"""
    done = imported(NAME, text)
    api, clean = (flow["spec"] for flow in done.flows.values())
    assert list(done.flows) == ["api", "clean"]
    options = ["--harmony", "--max-old-space-size=100"]
    assert api["steps"][0]["command"] == [
        *("node", *options, f"{tmp_path}/srv/api.js", "--port", "80", "a b"),
    ]
    assert api["steps"][0]["workingDir"] == f"{tmp_path}/srv"
    assert environment_of(done.flows["api"]) == {
        "NODE_ENV": "dev",
        "PORT": "3000",
        "FLAG": "true",
        "RATE": "1.5",
        "NODE_APP_INSTANCE": "0",
    }
    assert api["steps"][0]["resources"] == {"limits": {"memory": "300Mi"}}
    assert api["restart"] == {
        "policy": "Always",
        "resetAfter": "5s",
        "maxRestarts": 6,
        "backoff": {"initial": "4s", "max": "4s", "factor": 1, "jitter": 0},
    }
    assert api["stop"] == {"signal": "SIGINT", "timeout": "3s"}
    assert done.flows["api"]["metadata"]["labels"] == {"namespace": "site"}
    assert clean["steps"][0]["command"] == [
        *("python3", f"{tmp_path}/jobs/clean.py", "-v", "x y"),
    ]
    assert environment_of(done.flows["clean"])["PYTHONUNBUFFERED"] == "1"
    assert clean["restart"] == {"policy": "Never"}
    assert clean["stop"]["timeout"] == "1.6s"
    assert [line for line, _ in done.remarks] == [9, 15, 21]


def test_an_environment_is_chosen_by_name(imported):
    """As with pm2 start --env production."""
    text = app(env={"A": "1", "B": "1"}, env_production={"B": "2"}, env_test={"B": "3"})
    done = imported(NAME, text, "--env", "production")
    found = environment_of(done.flows["api"])
    assert (found["A"], found["B"]) == ("1", "2")
    assert [text.split(":")[0] for _, text in done.remarks] == ["apps[0].env_test"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"script": "a.js",\n"cron": "* * * * *"}]', 2),
        ('{"script": "a.js",\n"cron": "* * * * *"}', 2),
        ('{"pm2": [{"script": "a.js",\n"cron": "* * * * *"}]}', 2),
        ('{"apps": {"script": "a.js",\n"cron": "* * * * *"}}', 2),
        ("apps:\n- script: a.js\n  cron: '* * * * *'\n", 3),
        ("script: a.js\ncron: '* * * * *'\n", 2),
    ],
)
def test_apps_are_found_where_pm2_looks(imported, text, line):
    """A list, one app, under apps or pm2, JSON or YAML; remarks name the key as it stands."""
    done = imported("apps.json", text, "--from", "pm2")
    assert list(done.flows) == ["a"]
    [(at, said)] = done.remarks
    assert said.startswith("apps[0].cron: ")
    assert at == line


KEYS = """\
"script_": "x"
"name_prefix": "x-"
"filter_env": true
"namespace": "n"
"install_url": "x"
"cwd": "/tmp"
"args": ["x"]
"exec_interpreter": "bash"
"exec_interpreter": "node@18"
"exec_interpreter": "none"
"node_args": "--x"
"out_file": "x"
"error_file": "x"
"log_file": "x"
"disable_logs": true
"log_type": "json"
"log_date_format": "x"
"time": true
"env": {"A": "1"}
"env": {"A": {"b": 1}}
"env": "x"
"env_production": {"A": "1"}
"max_memory_restart": "1G"
"max_memory_restart": "much"
"pid_file": "x"
"restart_delay": 5
"exp_backoff_restart_delay": 5
"source_map_support": true
"disable_source_map_support": true
"wait_ready": true
"instances": 2
"instances": "max"
"instances": -1
"instances": "many"
"kill_timeout": 5
"shutdown_with_message": true
"listen_timeout": 5
"cron_restart": "* * * * *"
"merge_logs": true
"vizion": true
"autorestart": false
"stop_exit_codes": [0]
"stop_exit_codes": ["x"]
"watch_delay": 5
"watch": true
"watch": ["src"]
"ignore_watch": ["x"]
"watch_options": {}
"min_uptime": "5m"
"min_uptime": "x"
"max_restarts": 5
"execute_command": true
"exec_mode": "cluster", "instances": 2
"force": true
"append_env_to_name": true
"post_update": ["x"]
"trace": true
"disable_trace": true
"v8": true
"event_loop_inspector": true
"deep_monitoring": true
"increment_var": "PORT"
"instance_var": "N"
"pmx": true
"automation": true
"treekill": false
"port": 80
"username": "x"
"uid": "nobody"
"gid": "x"
"windowsHide": true
"kill_retry_time": 5
"write": true
"io": {}
"user": "nobody"
"exec": "y"
"nonsense": 1"""


def test_every_key_of_pm2_s_schema_is_carried_over_or_remarked(imported):
    """And its other names; a watch that is off says nothing."""
    base = '{"apps": [{\n@@\n,"name": "api", "script": "./api.js"\n}]}\n'
    lost = [
        key
        for key in KEYS.split("\n")
        if forgotten(imported, NAME, base.replace("\n,", "\n"), key + ",")
    ]
    assert lost == []
    assert imported(NAME, app(watch=False, treekill=True)).remarks == []
    other = {alias: {"script": "./x.js"}.get(main, "x") for alias, main in ALIASES.items()}
    for alias, value in other.items():
        if alias not in ("exec", "user"):
            text = json.dumps({"apps": [{"script": "a.js", alias: value}]})
            assert not imported(NAME, text).said("is not known here"), alias


@pytest.mark.parametrize(
    ("keys", "restart"),
    [
        ({}, {"policy": "Always", "resetAfter": "1s", "maxRestarts": 15}),
        ({"min_uptime": 200}, {"policy": "Always", "resetAfter": "0.2s", "maxRestarts": 15}),
        (
            {"stop_exit_codes": [0, 3]},
            {"policy": "OnFailure", "resetAfter": "1s", "maxRestarts": 15},
        ),
    ],
)
def test_restarts(imported, keys, restart):
    """What ends within min_uptime is restarted max_restarts times."""
    made = dict(imported(NAME, app(**keys)).spec["restart"])
    assert made.pop("backoff") == {"initial": "0s", "max": "0s", "factor": 1, "jitter": 0}
    assert made == restart


def test_values_of_variables_are_as_javascript_writes_them(imported):
    """What is no text is remarked."""
    done = imported(NAME, app(env={"O": {"a": [1, "b"]}, "F": 1.5, "T": True, "N": None}))
    found = environment_of(done.flows["api"])
    assert (found["O"], found["F"], found["T"]) == ('{"a":[1,"b"]}', "1.5", "true")
    assert done.said("env.O: is given as JSON")
    assert found["N"] == "null"


def test_growing_delays(imported):
    """By half each time, up to 15 s."""
    backoff = imported(NAME, app(exp_backoff_restart_delay=100)).spec["restart"]["backoff"]
    assert backoff == {"initial": "0.1s", "max": "15s", "factor": 1.5, "jitter": 0}


def test_instances(imported):
    """Replicas, unless a variable is to count them."""
    done = imported(NAME, app(instances=3))
    assert done.spec["replicas"] == 3
    assert done.said("FLOW_REPLICA")
    done = imported(NAME, app(instances=2, increment_var="PORT", env={"PORT": 3000}))
    found = {name: environment_of(flow) for name, flow in done.flows.items()}
    assert found == {
        "api-0": {"PORT": "3000", "NODE_APP_INSTANCE": "0"},
        "api-1": {"PORT": "3001", "NODE_APP_INSTANCE": "1"},
    }
    done = imported(NAME, app(instances="max", exec_mode="cluster"))
    assert done.spec.get("replicas", 1) == os.cpu_count()
    assert done.said("is fixed at")
    assert done.said("do not share a port") == (os.cpu_count() > 1)


def test_scripts_and_their_interpreters(imported, tmp_path):
    """By suffix; programs are run themselves, also those of PATH."""
    files = {"run": "#!/bin/sh\n", "text": "x = 1\n", "bin/tool": "\0ELF"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "run").chmod(0o755)
    made = {}
    for script in ("a.sh", "a.rb", "sh", "run", "text", "bin/tool", "nope", "x/nope"):
        made[script] = imported(NAME, app(script=script)).step["command"]
    assert made == {
        "a.sh": ["bash", f"{tmp_path}/a.sh"],
        "a.rb": ["ruby", f"{tmp_path}/a.rb"],
        "sh": ["sh"],
        "run": [f"{tmp_path}/run"],
        "text": ["node", f"{tmp_path}/text"],
        "bin/tool": [f"{tmp_path}/bin/tool"],
        "nope": ["nope"],
        "x/nope": [f"{tmp_path}/x/nope"],
    }
    assert imported(NAME, app(script="nope")).said("is not there now")
    assert imported(NAME, app(script="text")).said("PM2 has node run it")
    assert imported(NAME, app(interpreter="/opt/x", script="run")).step["command"][0] == "/opt/x"


@pytest.mark.parametrize("name", ["ecosystem.config.js", "x.cjs", "pm2.config.ts"])
def test_a_program_is_not_run_but_told_how_to_print(imported, name):
    """In one line that can be copied."""
    done = imported(name, "module.exports = {apps: [{script: 'a.js'}]}\n", expect=2)
    assert f"{name}:1:1: is a program" in done.stderr
    assert f"node -p 'JSON.stringify(require(\"./{name}\"), null, 2)'" in done.stderr


def test_what_it_says_works(imported, tmp_path):
    """With a real node."""
    node = next((p for p in os.environ["PATH"].split(":") if os.access(f"{p}/node", os.X_OK)), None)
    require("node is not installed" if node is None else None)
    text = "const n = 'api'\nmodule.exports = {apps: [{name: n + 1, script: 'a.js'}]}\n"
    done = imported("ecosystem.config.js", text, expect=2)
    line = done.stderr.split("as JSON: ")[1].split(", then")[0]
    subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, check=True)
    assert list(imported("other.json", (tmp_path / "ecosystem.json").read_text()).flows) == ["api1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"apps": [{"script": "a.js",}]}', ":1:29: not valid JSON"),
        ('{\n// no\n"apps": []}', ":2:1: not valid JSON"),
        ('{"apps": []}', ":1:1: there are no apps"),
        ('{"apps": 1}', ":1:1: there are no apps"),
        ('[{"name": "x"}]', ":1:2: apps[0] has no script"),
        ('{"apps": [{"script": "a.js", "args": "\'"}]}', "the command cannot be split"),
        ('{"apps": [{"script": "a.js", "instances": 1001}]}', "more than 1000"),
        ('{"a": 1, "a": 2}', ":1:1: the key 'a' stands twice"),
        ("[1]", "apps[0] has no script"),
        ("[]", "there are no apps"),
    ],
)
def test_what_cannot_be_read_is_refused(imported, text, said):
    """With file, line and column."""
    assert said in imported(NAME, text, expect=2).stderr


def test_characters_that_yaml_does_not_know_are_read(imported):
    """JSON's halves of a surrogate pair; remarks then stand at the first line."""
    text = '{"apps": [{"script": "a.js",\n"env": {"A": "\\ud83d\\ude00"}, "watch": true}]}'
    done = imported(NAME, text)
    assert environment_of(done.flows["a"])["A"] == "😀"
    assert [line for line, _ in done.remarks] == [1]
