"""process-compose.yaml becomes flows."""

from __future__ import annotations

import pytest
from import_support import environment_of, forgotten

NAME = "process-compose.yaml"


def process(keys, name="a", command="run"):
    """A file of one process with these lines."""
    lines = "".join(f"    {line}\n" for line in keys.splitlines())
    return f"processes:\n  {name}:\n    command: {command}\n{lines}"


def test_a_system_with_dependencies(imported, tmp_path):
    """The shape of the manual's quick start: a manager, its clients, their servers."""
    text = """\
version: "0.5"
environment:
- "GLOBAL=1"
processes:
  manager:
    command: "/opt/manager"
    availability:
      restart: "always"
    depends_on:
      client:
        condition: process_started
  client:
    command: "/opt/client -some -arg"
    working_dir: c
    availability:
      restart: on_failure
      backoff_seconds: 2
      max_restarts: 5
    depends_on:
      server:
        condition: process_healthy
      setup:
        condition: process_completed_successfully
    environment:
    - "LOCAL=2=3"
  server:
    description: what answers
    namespace: back
    entrypoint: [/opt/server, --port, "80"]
    liveness_probe:
      exec:
        command: "[ -e up ]"
        working_dir: /tmp
      initial_delay_seconds: 5
      period_seconds: 2
      timeout_seconds: 5
      success_threshold: 1
      failure_threshold: 4
    shutdown:
      signal: 2
      timeout_seconds: 7
  setup:
    command: |
      ./one
      ./two
"""
    done = imported(NAME, text)
    assert done.remarks == []
    manager, client, server, setup = (flow["spec"] for flow in done.flows.values())
    assert manager["restart"] == {
        "backoff": {"initial": "1s", "factor": 1, "max": "1s", "jitter": 0},
        "policy": "Always",
    }
    assert manager["dependsOn"] == [{"name": "client"}]
    assert manager["steps"][0]["command"] == ["bash", "-c", "/opt/manager"]
    assert client["dependsOn"] == [
        {"name": "server", "condition": "Ready"},
        {"name": "setup", "condition": "Completed"},
    ]
    assert client["restart"]["policy"] == "OnFailure"
    assert (client["restart"]["maxRestarts"], client["restart"]["resetAfter"]) == (5, "3650d")
    assert client["steps"][0]["workingDir"] == f"{tmp_path}/c"
    assert environment_of(done.flows["client"]) == {"GLOBAL": "1", "LOCAL": "2=3"}
    assert server["description"] == "what answers"
    assert done.flows["server"]["metadata"]["labels"] == {"namespace": "back"}
    assert server["steps"][0]["command"] == ["/opt/server", "--port", "80"]
    assert server["steps"][0]["livenessProbe"] == {
        "exec": {"command": ["bash", "-c", "cd /tmp && [ -e up ]"]},
        "initialDelay": "5s",
        "period": "2s",
        "timeout": "5s",
        "failureThreshold": 4,
    }
    assert server["stop"] == {"signal": "SIGINT", "timeout": "7s"}
    assert setup["restart"] == {"policy": "Never"}
    assert setup["steps"][0]["command"][2] == "./one\n./two\n"


def test_a_log_line_makes_ready(imported):
    """ready_log_line of the one, process_log_ready of the other."""
    text = """\
processes:
  world: {command: w, depends_on: {hello: {condition: process_log_ready}}}
  hello: {command: h, ready_log_line: ready to accept}
"""
    done = imported(NAME, text)
    probe = done.flows["hello"]["spec"]["steps"][0]["readinessProbe"]
    assert probe == {"logLine": {"pattern": "ready to accept"}, "period": "1s"}
    assert done.flows["world"]["spec"]["dependsOn"] == [{"name": "hello", "condition": "Ready"}]
    assert done.remarks == []


KEYS = """\
name: x
extends: b
disabled: true
is_daemon: true
entrypoint: [x]
log_location: /tmp/l
log_configuration: {rotation: {max_size_mb: 5}}
log_configuration: {no_color: true}
log_configuration: {rotation: {max_backups: 2}}
log_configuration: {rotation: {max_age_days: 2, compress: true}}
environment: [A=1]
environment: {A: 1}
environment: [A]
env_file: other.env
env_file: none.env
availability: {restart: always}
availability: {restart: exit_on_failure}
availability: {restart: sometimes}
availability: {backoff_seconds: 3}
availability: {max_restarts: 3}
availability: {exit_on_end: true}
availability: {exit_on_skipped: true}
availability: {nonsense: 1}
depends_on: {b: {}}
depends_on: {b: {condition: process_completed}}
depends_on: {b: {condition: nonsense}}
depends_on: {b: {nonsense: 1}}
depends_on: {none: {}}
liveness_probe: {exec: {command: x}}
liveness_probe: {http_get: {port: 80}}
liveness_probe: {}
liveness_probe: {exec: {command: x}, success_threshold: 2}
readiness_probe: {http_get: {port: 80, path: x, host: h}}
readiness_probe: {http_get: {num_port: 80}}
readiness_probe: {http_get: {port: 80, scheme: https}}
readiness_probe: {http_get: {port: 80, status_code: 201}}
readiness_probe: {http_get: {port: 80, headers: {a: b}}}
readiness_probe: {http_get: {port: 99999}}
readiness_probe: {exec: {command: x, nonsense: 1}}
ready_log_line: ok
ready_log_line: "("
shutdown: {command: x}
shutdown: {timeout_seconds: 3}
shutdown: {signal: 9}
shutdown: {signal: 17}
shutdown: {parent_only: true}
shutdown: {send_keys: x}
disable_ansi_colors: true
working_dir: sub
namespace: n
namespace: [n, m]
replicas: 3
description: d
vars: [1]
is_foreground: true
is_tty: true
is_elevated: true
is_interactive: true
launch_timeout_seconds: 3
is_disabled: "true"
schedule: {cron: "* * * * *"}
watch: {paths: [x]}
mcp: {type: tool}
truncate_log: true
monitor_for: activity
monitor_silence_threshold: 3s
success_exit_codes: [130]
success_exit_codes: [x]
nonsense: 1
replicas: many
replicas: 1.5
command: [a]"""


def test_every_key_of_a_process_is_carried_over_or_remarked(imported):
    """Also inner, unknown and senseless ones. Variables that no template uses change nothing."""
    keys = "\n".join(f"    {line}" for line in KEYS.split("\n") if not line.startswith("vars"))
    base = "processes:\n  b: {command: x}\n  a:\n@@\n    command: y\n"
    lost = []
    for line in keys.split("\n"):
        text = base.replace("    command: y\n", "") if "command: [" in line else base
        lost += forgotten(imported, NAME, text, line, beside={"other.env": "A=1\n"})
    assert lost == []


TOP = """\
log_location: /tmp/x
log_level: debug
log_length: 5
log_format: json
log_configuration: {no_color: true}
environment: [A=1]
shell: {shell_command: python3, shell_argument: -m}
shell: {shell_command: sh, elevated_shell_command: sudo}
is_tui_disabled: true
extends: other.yaml
env_cmds: {DATE: date}
ordered_shutdown: true
nonsense: 1"""


def test_every_key_of_the_project_is_carried_over_or_remarked(imported):
    """But version and is_strict, which say nothing of a process."""
    base = "version: '0.5'\nis_strict: true\n@@\nprocesses:\n  a: {command: x}\n"
    assert forgotten(imported, NAME, base, TOP) == []


def test_silence_is_watched_for(imported):
    """monitor_for: silence is spec.progress."""
    done = imported(NAME, process("monitor_for: silence\nmonitor_silence_threshold: 90s"))
    assert done.spec["progress"] == {"silenceTimeout": "90s"}
    assert done.remarks == []


@pytest.mark.parametrize(
    ("command", "made", "remark"),
    [
        ("'echo ${HERE} $HERE'", "echo e e", "${HERE} is fixed"),
        ("'echo ${FILE}'", "echo f", "${FILE} is fixed"),
        ("'echo $$HERE $(date)'", "echo $HERE $(date)", None),
        ("'echo [$NONE]'", "echo []", "${NONE} is not set"),
        ("'echo $1'", "echo ", "${1} is empty"),
        ("'{{.V}} {{ .OWN }}'", "3 4", None),
        ("""'{{ "{{.State}}" }} {{`{{x}}`}}'""", "{{.State}} {{x}}", None),
        ("'{{if .V}}x{{end}}'", "{{if .V}}x{{end}}", "the template {{if .V}} is not"),
        ("'{{.NONE}}'", "{{.NONE}}", "the template {{.NONE}} is not"),
    ],
)
def test_variables_and_templates(imported, command, made, remark):
    """The environment goes before .env; a template that is not understood is not started."""
    text = "vars: {V: 3}\n" + process("vars: {OWN: 4}", command=command)
    beside = {".env": "HERE=x\nFILE=f\n"}
    done = imported(NAME, text, beside=beside, env={"HERE": "e", "NONE": None})
    assert done.step["command"][2] == made
    assert (remark is None and done.remarks == []) or done.said(remark)
    assert (done.spec.get("state") == "stopped") == (remark is not None and "template" in remark)


def test_variables_are_left_alone_where_the_project_says_so(imported):
    """disable_env_expansion, is_template_disabled."""
    text = "disable_env_expansion: true\n" + process(
        "is_template_disabled: true", command="'$HOME {{.X}}'"
    )
    assert imported(NAME, text).step["command"][2] == "$HOME {{.X}}"


def test_the_env_file_reaches_every_process(imported, tmp_path):
    """Unless it says that it does not want it."""
    text = "processes:\n  a: {command: x}\n  b: {command: x, is_dotenv_disabled: true}\n"
    done = imported(NAME, text, beside={".env": "A=1\n"})
    assert done.flows["a"]["spec"]["steps"][0]["envFrom"] == [{"file": f"{tmp_path}/.env"}]
    assert "envFrom" not in done.flows["b"]["spec"]["steps"][0]


def test_replicas_that_know_their_number_are_flows_of_their_own(imported):
    """And who depends on the process depends on all of them."""
    text = """\
processes:
  b: {command: "serve 80{{.PC_REPLICA_NUM}} as $$PC_PROC_NAME", replicas: 2}
  a: {command: x, depends_on: {b: {}, b-1: {}}}
"""
    done = imported(NAME, text)
    assert list(done.flows) == ["b-0", "b-1", "a"]
    assert done.flows["b-1"]["spec"]["steps"][0]["command"][2] == "serve 801 as $PC_PROC_NAME"
    expected = {"PC_REPLICA_NUM": "1", "PC_PROC_NAME": "b"}
    assert environment_of(done.flows["b-1"]) == expected
    assert done.flows["a"]["spec"]["dependsOn"] == [{"name": "b-0"}, {"name": "b-1"}]


def test_anchors_and_merge_keys(imported):
    """As in any YAML."""
    text = """\
x-common: &common {availability: {restart: always}, environment: [A=1]}
processes:
  a:
    <<: *common
    command: x
"""
    done = imported(NAME, text)
    assert done.spec["restart"]["policy"] == "Always"
    assert environment_of(done.flows["a"]) == {"A": "1"}


def test_a_circle_is_broken(imported):
    """The operator would refuse it; process-compose does, too."""
    text = """\
processes:
  a: {command: x, depends_on: {b: {}}}
  b: {command: x, depends_on: {c: {}}}
  c: {command: x, depends_on: {a: {}, b: {}}}
  d: {command: x, depends_on: {a: {}, d: {}}}
"""
    done = imported(NAME, text)
    needs = {name: flow["spec"].get("dependsOn") for name, flow in done.flows.items()}
    assert needs == {"a": [{"name": "b"}], "b": [{"name": "c"}], "c": None, "d": [{"name": "a"}]}
    assert done.said("'c' and 'a' wait for each other")
    assert done.said("'c' and 'b' wait for each other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", f"{NAME}:1:1: the file is empty"),
        ("processes: {}\n", ":1:1: there are no processes"),
        ("- a\n", ":1:1: the file must hold a mapping"),
        ("processes:\n  a: [\n", ":3:1: not valid YAML"),
        ("processes:\n  a: 1\n  a: 2\n", ":3:3: the key 'a' stands twice"),
        ("processes:\n  a: {command: x, replicas: 1001}\n", ":2:29: more than 1000"),
        ('processes:\n  a: {command: "x\\0"}\n', ":2:6: 'a' makes no valid flow"),
    ],
)
def test_what_cannot_be_read_is_refused(imported, text, said):
    """With file, line and column."""
    assert said in imported(NAME, text, "--from", "process-compose", expect=2).stderr


def test_a_process_without_a_command_is_remarked(imported):
    """It would have nothing to run; the others are imported."""
    done = imported(NAME, "processes:\n  a: {command: x}\n  b: {extends: a}\n  c:\n")
    assert list(done.flows) == ["a"]
    assert [line for line, _ in done.remarks] == [3, 4]
