"""Whatever text is given, an import ends in manifests that are valid, or in faults with places."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flow_operator.errors import Fault, InvalidError
from flow_operator.flowctl.importing import FORMATS
from flow_operator.flowctl.importing.detect import detect, reader
from flow_operator.flowctl.importing.finish import finish
from flow_operator.flowctl.importing.run import to_yaml
from flow_operator.flowctl.importing.source import Remarks, Source
from flow_operator.manifest import SourceText, load_manifests

VALUES = [
    *("x", "a b", "'a b'", '"a', "''", "1", "-1", "0", "5s", "1e9", "99999999999999999999", "true"),
    *(
        "no",
        "%(process_num)02d",
        "%i",
        "%%",
        "%",
        "$A",
        "${A:-b}",
        "${A",
        "$$",
        "{{.A}}",
        "{{",
        "~",
    ),
    *("/", "../x", "-", "é", "\\x20", "\\", ";", "#", " # c", "A=1", "A=1,B='2'", "1:2", "50%"),
    *("infinity", "always", "on-failure", "on_failure", "SIGINT", "status", "10m", "[a, b]", "{}"),
    *("{a: b}", "[]", "null", "a.service", "\u2028", "\x85", "x" * 60, "1.5", "007", "\t"),
]
KEYS = {
    "supervisord": [
        *("[supervisord]", "[program:a]", "[program:A b]", "[group:g]", "[DEFAULT]", "programs"),
        *("command", "process_name", "numprocs", "numprocs_start", "directory", "environment"),
        *("autostart", "autorestart", "startsecs", "startretries", "exitcodes", "stopsignal"),
        *("stopwaitsecs", "user", "umask", "stdout_logfile", "stdout_logfile_maxbytes", "priority"),
        *("stdout_logfile_backups", "redirect_stderr", "[include]", "files", "[x]"),
    ],
    "procfile": ["web: ", "Web_1: x", "release: y", "status: z", "a b: c", "# x", ": x"],
    "systemd": [
        *("[Service]", "[Unit]", "[Install]", "[X-A]", "ExecStart", "ExecStartPre", "Type", "User"),
        *("Restart", "RestartSec", "StartLimitBurst", "StartLimitIntervalSec", "Environment"),
        *("EnvironmentFile", "WorkingDirectory", "KillSignal", "TimeoutStopSec", "LimitNOFILE"),
        *("LimitCORE", "LimitCPU", "MemoryMax", "CPUQuota", "TasksMax", "After", "Description"),
        *("SuccessExitStatus", "RestartSteps", "RestartMaxDelaySec", "UMask", "Alias"),
    ],
    "process-compose": [
        *("processes:", "  a:", "  B_c:", "    command", "    entrypoint", "    environment"),
        *("    depends_on", "    availability", "    readiness_probe", "    shutdown", "vars"),
        *("    replicas", "    working_dir", "    ready_log_line", "    env_file", "    namespace"),
        *("      restart", "      exec", "      http_get", "        port", "        command"),
        *("    log_configuration", "    success_exit_codes", "environment", "shell", "    vars"),
        *("    monitor_for", "    monitor_silence_threshold", "      signal", "      a"),
    ],
    "compose": [
        *("services:", "  a:", "  B_c:", "    command", "    entrypoint", "    environment"),
        *("    depends_on", "    restart", "    deploy", "    healthcheck", "    extends"),
        *("      replicas", "      resources", "        limits", "          cpus", "      test"),
        *("    ulimits", "      nofile", "    labels", "    user", "    scale", "    mem_limit"),
        *("    stop_signal", "    stop_grace_period", "    env_file", "    logging", "x-a: &a"),
        *("    <<: *a", "    profiles", "    image", "    pids_limit", "    cpus"),
    ],
    "pm2": [
        *(
            "apps:",
            "- script",
            "  name",
            "  args",
            "  node_args",
            "  interpreter",
            "  cwd",
            "  env",
        ),
        *("    A", "  instances", "  exec_mode", "  increment_var", "  max_restarts", "  port"),
        *("  min_uptime", "  restart_delay", "  exp_backoff_restart_delay", "  kill_timeout"),
        *("  max_memory_restart", "  stop_exit_codes", "  user", "  namespace", "  watch"),
        *("  autorestart", "  script", "deploy", "- name"),
    ],
}
SIGNS = {"supervisord": "=", "systemd": "="}


def lines_of(form: str) -> st.SearchStrategy[str]:
    """Keys of the format with values that make sense, or none."""
    sign = SIGNS.get(form, ": ")
    key = st.sampled_from(KEYS[form])
    value = st.sampled_from(VALUES)

    def line(left: str, right: str) -> str:
        whole = left.startswith("[") or left.endswith(":") or form == "procfile"
        return left if whole and right != "x" else f"{left}{sign}{right}"

    return st.builds(line, key, value)


BASES = {
    "supervisord": "[program:a]\ncommand=x\n",
    "procfile": "a: b\n",
    "systemd": "[Service]\nExecStart=/x\n",
    "process-compose": "processes:\n  b: {command: x}\n  a:\n    command: x\n",
    "compose": "services:\n  b: {command: x}\n  a:\n    command: x\n",
    "pm2": "apps:\n- script: x.js\n",
}


def outcome(form: str, source: Source, remarks: Remarks) -> tuple[list[Any], tuple[Fault, ...]]:
    """The manifests, or what is wrong."""
    try:
        return finish(reader(form)(source), remarks), ()
    except InvalidError as error:
        return [], error.faults


def check(form: str, text: str) -> None:
    """An import of the text, all the way."""
    remarks = Remarks()
    with TemporaryDirectory() as folder:
        source = Source(text, "x", Path(folder), {"A": "a"}, "production", remarks)
        documents, faults = outcome(form, source, remarks)
    assert all(fault.line and fault.column and fault.file for fault in faults)
    if faults:
        return
    printed = to_yaml(documents)
    assert len(load_manifests(SourceText(printed))) == len(documents) if documents else not printed
    for remark in remarks:
        assert remark.place.line >= 1


@pytest.mark.parametrize("form", FORMATS)
def test_any_text_is_imported_or_refused_with_its_place(form: str) -> None:
    """Lines of keys and values, in any order, after what makes sense."""

    @settings(max_examples=250, deadline=None)
    @given(st.lists(lines_of(form), max_size=14))
    def tried(lines: list[str]) -> None:
        check(form, BASES[form] + "\n".join(lines))

    tried()


@pytest.mark.parametrize("form", FORMATS)
def test_soup_is_imported_or_refused_with_its_place(form: str) -> None:
    """Any characters at all."""

    @settings(max_examples=100, deadline=None)
    @example("")
    @example("[")
    @example("{" * 100)
    @example("[" * 100)
    @example("a: &a [*a]")
    @given(st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=60))
    def tried(text: str) -> None:
        check(form, text)

    tried()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["x", "x.yaml", "x.json", "x.conf", "Procfile"]))
def test_every_text_is_told_apart_or_refused(text: str, name: str) -> None:
    """Detection ends in a format, or says how to name it."""
    found = ""
    with suppress(InvalidError):
        found = detect(Source(text, name, Path("/")))
    assert found in (*FORMATS, "")
