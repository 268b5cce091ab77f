"""compose files: services become flows; what has to be built first is remarked."""

from __future__ import annotations

import pytest
from import_support import environment_of, forgotten

NAME = "compose.yaml"


def test_a_service_that_has_to_be_built_is_not_imported(imported):
    """One remark at its build, and none for its other keys."""
    text = """\
services:
  web:
    build: .
    depends_on: [db]
  cloud:
    provider: {type: awesome}
volumes: {data: {}}
"""
    done = imported(NAME, text)
    assert done.flows == {}
    assert [line for line, _ in done.remarks] == [3, 6, 7]
    assert done.said("'web' has a build and was not imported", "flowd builds no images")
    assert "No flows." in done.stderr


def test_a_service_with_an_image_becomes_a_container(imported):
    """What its image runs, its volumes and ports included; dangers are remarked."""
    text = """\
services:
  db:
    image: postgres:16
    build: .
    pull_policy: always
    network_mode: host
    privileged: true
    read_only: true
    ports: ["5432:5432", "127.0.0.1:53:53/udp", "9000", "80-90:80-90"]
    volumes:
    - data:/var/lib/postgresql/data
    - /etc/ssl:/etc/ssl:ro
    - ./here:/there
    - {type: volume, source: more, target: /more, read_only: true}
    - {type: tmpfs, target: /tmp}
"""
    done = imported(NAME, text)
    spec = done.flows["db"]["spec"]
    assert spec["runner"] == "container"
    assert "command" not in spec["steps"][0]
    assert "workingDir" not in spec["steps"][0]
    container = spec["container"]
    assert (container["image"], container["pullPolicy"]) == ("postgres:16", "Always")
    assert (container["network"], container["privileged"], container["readOnly"]) == (
        *("host", True, True),
    )
    assert container["volumes"] == [
        {"name": "data", "mountPath": "/var/lib/postgresql/data"},
        {"hostPath": "/etc/ssl", "mountPath": "/etc/ssl", "readOnly": True},
        {"name": "more", "mountPath": "/more", "readOnly": True},
    ]
    assert container["ports"] == [
        {"containerPort": 5432, "hostPort": 5432, "hostIP": "0.0.0.0"},  # noqa: S104
        {"containerPort": 53, "hostPort": 53, "hostIP": "127.0.0.1", "protocol": "udp"},
    ]
    assert done.said("build the image first")
    assert done.said("--engine-allow host-network")
    assert done.said("--engine-allow privileged")
    assert done.said("--engine-allow host-mounts")
    assert done.said("one of each; it was left out")
    assert done.said("must be NAME:PATH")


def test_a_command_of_a_container_stands_without_the_images_entrypoint(imported):
    """Which is remarked, unless the service has one of its own."""
    text = """\
services:
  a: {image: x, command: [serve, -v], working_dir: /srv}
  b: {image: x, entrypoint: [run], command: serve}
"""
    done = imported(NAME, text)
    steps = [done.flows[name]["spec"]["steps"][0] for name in "ab"]
    assert [step["command"] for step in steps] == [["serve", "-v"], ["run", "serve"]]
    assert steps[0]["workingDir"] == "/srv"
    assert [line for line, _ in done.remarks] == [2]
    assert done.flows["a"]["spec"]["container"] == {"image": "x"}
    assert done.said("if the image has an entrypoint, write it before it")


def test_services_without_a_container(imported, tmp_path):
    """What of a service means something without a container."""
    text = """\
name: shop
x-common: &common
  restart: unless-stopped
  environment: &env
    REGION: eu
services:
  web:
    <<: *common
    entrypoint: ["./serve"]
    command: --name "a b"
    working_dir: srv
    environment:
      <<: *env
      PORT: 80
      DEBUG: true
      EMPTY: ""
    env_file:
    - web.env
    user: "1000"
    stop_signal: SIGINT
    stop_grace_period: 1m30s
    labels: [team=site, plain]
    healthcheck:
      test: ["CMD", "curl", "-f", "x"]
      interval: 1m30s
      timeout: 10s
      retries: 4
    depends_on:
      jobs:
        condition: service_completed_successfully
      cache:
        condition: service_healthy
    deploy:
      replicas: 2
      resources:
        limits: {cpus: "0.50", memory: 50M, pids: 9}
    ulimits:
      nofile: {soft: 2000, hard: 2000}
      nproc: 99
  jobs: {command: [./jobs]}
  cache: {command: ./cache, healthcheck: {test: exit 0}}
"""
    done = imported(NAME, text, beside={"web.env": "FILE=1\n"})
    web = done.flows["web"]["spec"]
    assert web["steps"] == [
        {
            "name": "main",
            "command": ["./serve", "--name", "a b"],
            "workingDir": f"{tmp_path}/srv",
            "env": [
                {"name": "PORT", "value": "80"},
                {"name": "DEBUG", "value": "true"},
                {"name": "EMPTY", "value": ""},
                {"name": "REGION", "value": "eu"},
            ],
            "envFrom": [{"file": f"{tmp_path}/web.env"}],
            "user": "1000",
            "resources": {
                "limits": {"cpu": "500m", "memory": "50Mi", "pids": 9, "openFiles": 2000},
                "rlimits": {"nproc": 99},
            },
            "readinessProbe": {
                "exec": {"command": ["curl", "-f", "x"]},
                "period": "90s",
                "timeout": "10s",
                "failureThreshold": 4,
            },
        }
    ]
    assert web["replicas"] == 2
    assert web["restart"] == {"policy": "Always"}
    assert web["stop"] == {"signal": "SIGINT", "timeout": "90s"}
    assert web["dependsOn"] == [
        {"name": "jobs", "condition": "Completed"},
        {"name": "cache", "condition": "Ready"},
    ]
    assert done.flows["web"]["metadata"]["labels"] == {"team": "site", "plain": ""}
    probe = done.flows["cache"]["spec"]["steps"][0]["readinessProbe"]
    assert probe["exec"]["command"] == ["/bin/sh", "-c", "exit 0"]
    assert (probe["period"], probe["timeout"], probe["failureThreshold"]) == ("30s", "30s", 3)
    assert done.flows["jobs"]["spec"]["restart"] == {"policy": "Never"}
    assert done.flows["jobs"]["spec"]["stop"] == {"timeout": "10s"}
    assert [text for _, text in done.remarks] == [
        "services.web.user: flowd must be root and be started with --allow-users 1000"
    ]


KEYS = """\
annotations: {a: b}
attach: false
blkio_config: {weight: 300}
cap_add: [ALL]
cap_drop: [ALL]
cgroup: host
cgroup_parent: x
configs: [x]
container_name: x
cpu_count: 2
cpu_percent: 50
cpu_shares: 73
cpu_quota: 50000
cpu_period: 5000
cpu_rt_period: 5
cpu_rt_runtime: 5
cpus: 0.5
cpus: 99999
cpuset: 0,1
credential_spec: {file: x}
depends_on: [b]
depends_on: [none]
depends_on: {b: {condition: service_healthy, restart: true}}
depends_on: {b: {condition: service_healthy, required: false}}
depends_on: {b: {condition: nonsense}}
deploy: {mode: global}
deploy: {endpoint_mode: vip}
deploy: {labels: {a: b}}
deploy: {placement: {}}
deploy: {replicas: 3}
deploy: {resources: {reservations: {cpus: "1"}}}
deploy: {resources: {limits: {devices: []}}}
deploy: {restart_policy: {condition: any}}
deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}
deploy: {restart_policy: {condition: nonsense}}
deploy: {rollback_config: {}}
deploy: {update_config: {}}
develop: {watch: []}
device_cgroup_rules: [x]
devices: [x]
dns: 8.8.8.8
dns_opt: [x]
dns_search: x
domainname: x
entrypoint: x
env_file: a.env
env_file: {path: a.env}
env_file: [{path: a.env, required: false}]
env_file: [{path: a.env, format: raw}]
env_file: none.env
env_file: [1]
environment: [A=1]
environment: [A]
environment: {A: 1}
expose: [1]
extends: b
extends: {service: b, file: x.yaml}
extends: none
external_links: [x]
extra_hosts: [x]
gpus: all
group_add: [x]
healthcheck: {test: x}
healthcheck: {test: x, interval: 5s}
healthcheck: {test: x, start_period: 5s}
healthcheck: {test: x, start_interval: 5s}
healthcheck: {test: x, interval: soon}
healthcheck: {test: [x]}
healthcheck: {interval: 5s}
healthcheck: {test: x, nonsense: 1}
hostname: x
init: true
ipc: host
isolation: x
labels: {a: b}
labels: [a=b]
label_file: x
links: [b]
logging: {driver: syslog}
logging: {options: {max-size: 10m}}
logging: {options: {max-size: big}}
logging: {options: {max-file: 3}}
logging: {options: {tag: x}}
mac_address: x
mem_limit: 5m
mem_limit: lots
mem_reservation: 5m
mem_swappiness: 5
memswap_limit: 5
models: [x]
network_mode: host
networks: [x]
oom_kill_disable: true
oom_score_adj: 5
pid: host
pids_limit: 5
pids_limit: 0
platform: x
ports: ["80:80"]
post_start: [{command: x}]
pre_stop: [{command: x}]
privileged: true
profiles: [x]
pull_policy: always
pull_refresh_after: 1d
read_only: true
restart: always
restart: on-failure:3
restart: on-failure:x
restart: nonsense
runtime: runc
scale: 3
scale: 0
security_opt: [x]
shm_size: 5m
secrets: [x]
stdin_open: true
stop_grace_period: 5s
stop_grace_period: soon
stop_signal: SIGUSR1
stop_signal: SIGWINCH
storage_opt: {a: b}
sysctls: {a: b}
tmpfs: /run
tty: true
ulimits: {nofile: 1000}
ulimits: {nofile: 1}
ulimits: {core: -1}
ulimits: {nofile: {soft: 20, hard: 30}}
ulimits: {rtprio: 5}
use_api_socket: true
user: nobody
user: nobody:users
userns_mode: host
uts: host
volumes: [x]
volumes_from: [x]
working_dir: x
nonsense: 1"""


def test_every_key_of_a_service_is_carried_over_or_remarked(imported):
    """Those of the Compose specification, inner ones, unknown and senseless ones."""
    keys = "\n".join(f"    {line}" for line in KEYS.split("\n"))
    base = "services:\n  b: {command: x, restart: always}\n  a:\n@@\n    command: y\n"
    assert forgotten(imported, NAME, base, keys, beside={"a.env": "A=1\n"}) == []


TOP = """\
networks: {x: {}}
volumes: {x: {}}
secrets: {x: {}}
configs: {x: {}}
models: {x: {}}
include: [x.yaml]
nonsense: 1"""


def test_every_key_of_the_file_is_carried_over_or_remarked(imported):
    """But version, name and extensions, which say nothing of a service."""
    base = "version: '3'\nname: x\nx-a: 1\n@@\nservices:\n  a: {command: x, x-b: 1}\n"
    assert forgotten(imported, NAME, base, TOP) == []
    assert imported(NAME, base.replace("@@\n", "")).remarks == []


@pytest.mark.parametrize(
    ("written", "made", "remark"),
    [
        ("a ${SET} $SET", "a s s", "${SET} is fixed"),
        ("${FILE}", "f", "${FILE} is fixed"),
        ("${NONE}", "", "${NONE} is not set"),
        ("${NONE:-d e}", "d e", None),
        ("${NONE-${SET:-x}}", "s", "${SET} is fixed"),
        ("${EMPTY:-d}${EMPTY-e}", "d", "${EMPTY} is fixed"),
        ("${SET:+yes}${NONE+no}", "yes", None),
        ("${SET:?it must be}", "s", "${SET} is fixed"),
        ("$$SET $${SET}", "$SET ${SET}", None),
    ],
)
def test_variables(imported, written, made, remark):
    """The shell's go before those of .env; what is fixed is remarked."""
    text = f"services:\n  a:\n    command: [x, '{written}']\n"
    env = {"SET": "s", "EMPTY": "", "NONE": None, "FILE": None}
    done = imported(NAME, text, beside={".env": "FILE=f\nSET=x\n"}, env=env)
    assert done.step["command"][1] == made
    assert (done.remarks == []) if remark is None else done.said(remark)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("${NONE:?tell me}", "compose.yaml:3:18: ${NONE}: tell me; set it for the import"),
        ("${NONE?}", "it has to be set"),
        ("$", "a $ that is meant as one is written $$"),
        ("${", "a variable is written ${NAME}"),
        ("${1}", "a variable is written ${NAME}"),
        ("${A!b}", "a variable is written ${NAME} or"),
        ("${A:-" * 20 + "}" * 20, "deeper than"),
    ],
)
def test_variables_that_compose_would_refuse(imported, written, said):
    """With file, line and column."""
    text = f"services:\n  a:\n    command: [x, '{written}']\n"
    assert said in imported(NAME, text, env={"NONE": None, "A": None}, expect=2).stderr


def test_extends_within_the_file(imported):
    """Mappings are merged, lists joined, commands replaced."""
    text = """\
services:
  base:
    command: [base, x]
    environment: {A: 1, B: 1}
    labels: [one=1]
  middle: {extends: {service: base}, restart: always, labels: [two=2]}
  top: {extends: middle, command: [top], environment: {B: 2}}
"""
    done = imported(NAME, text)
    top = done.flows["top"]
    assert top["spec"]["steps"][0]["command"] == ["top"]
    assert environment_of(top) == {"A": "1", "B": "2"}
    assert top["metadata"]["labels"] == {"one": "1", "two": "2"}
    assert top["spec"]["restart"] == {"policy": "Always"}
    assert done.remarks == []


def test_services_that_extend_each_other_are_refused(imported):
    """As compose does."""
    text = "services:\n  a: {extends: b}\n  b: {extends: a}\n"
    assert "services extend each other" in imported(NAME, text, expect=2).stderr


def test_a_service_of_a_profile_waits_to_be_started(imported):
    """As compose does not start it either."""
    done = imported(NAME, "services:\n  a: {command: x, profiles: [debug]}\n")
    assert done.spec["state"] == "stopped"
    assert done.said("profiles")


@pytest.mark.parametrize(
    ("policy", "restart"),
    [
        ("restart: 'no'", {"policy": "Never"}),
        ("restart: on-failure:4", {"policy": "OnFailure", "maxRestarts": 4}),
        (
            (
                "deploy: {restart_policy: "
                "{condition: on-failure, delay: 5s, max_attempts: 3, window: 120s}}"
            ),
            {
                "policy": "OnFailure",
                "maxRestarts": 3,
                "backoff": {"initial": "5s", "max": "5s", "factor": 1, "jitter": 0},
                "resetAfter": "120s",
            },
        ),
        ("deploy: {restart_policy: {condition: none}}", {"policy": "Never"}),
    ],
)
def test_restarts(imported, policy, restart):
    """deploy.restart_policy goes before restart."""
    made = imported(NAME, f"services:\n  a:\n    command: x\n    {policy}\n").spec["restart"]
    assert made == restart


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {}\n", ":1:1: there are no services"),
        ('services:\n  a: {command: "\'"}\n', ":2:16: the command cannot be split"),
        ("services:\n  a: {command: x, scale: 1001}\n", ":2:26: more than 1000"),
        ("services:\n  a: !reset {}\n", ":2:6: the tag !reset is not allowed"),
    ],
)
def test_what_cannot_be_read_is_refused(imported, text, said):
    """With file, line and column."""
    assert said in imported(NAME, text, expect=2).stderr


def test_a_service_with_neither_image_nor_command_is_remarked(imported):
    """There is nothing to run."""
    done = imported(NAME, "services:\n  a: {restart: always}\n  b: {command: x}\n")
    assert list(done.flows) == ["b"]
    assert done.said("has neither image nor command")
