"""``flowctl import`` as a command: detection, output, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from flow_operator.flowctl.importing.detect import detect
from flow_operator.flowctl.importing.source import Source
from flow_operator.flowctl.main import cli
from flow_operator.manifest import SourceText, load_manifests


def run(*args, **options):
    return CliRunner().invoke(cli, ["import", *map(str, args)], prog_name="flowctl", **options)


@pytest.mark.parametrize(
    ("name", "text", "form"),
    [
        ("Procfile.prod", "", "procfile"),
        ("a.service", "", "systemd"),
        ("x", "[Unit]\n[Service]\n", "systemd"),
        ("supervisord.conf", "; c\n[supervisord]\n", "supervisord"),
        ("x.ini", "[program:a]\ncommand=b\n", "supervisord"),
        ("compose.yaml", "version: '0.5'\nprocesses:\n  a: {command: b}\n", "process-compose"),
        ("process-compose.yaml", "services: {}\n", "compose"),
        ("compose.yaml", "name: p\nservices:\n  a: {}\n", "compose"),
        ("ecosystem.config.cjs", "module.exports = {}", "pm2"),
        ("x.json", '{"apps": []}', "pm2"),
        ("x.json", '{"processes": {}}', "process-compose"),
        ("x.json", '[{"script": "a"}]', "pm2"),
        ("x.yaml", "apps:\n- script: a\n", "pm2"),
        ("procs", "web: run it\n", "procfile"),
    ],
)
def test_a_format_is_told_by_name_or_content(tmp_path, name, text, form):
    """Content goes before the names that several programs share."""
    assert detect(Source(text, f"dir/{name}", tmp_path)) == form


def test_what_cannot_be_told_asks_for_the_option(tmp_path):
    """Exit code 2, with the choices."""
    path = tmp_path / "x"
    path.write_text("what is this\n")
    result = run(path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "say so with --from supervisord|procfile" in result.stderr
    path.write_text("a: b\n")
    assert run("--from", "procfile", path).exit_code == 0


def test_what_is_printed_is_what_apply_takes(tmp_path):
    """Several documents, each valid; names are unique over all files."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Procfile").write_text("web: a\nwork: b\n")
    result = run(tmp_path / "one/Procfile", tmp_path / "two/Procfile")
    names = [manifest.flow.flow_id for manifest in load_manifests(SourceText(result.stdout))]
    assert names == ["web", "work", "web-2", "work-2"]
    assert "two/Procfile:1: 'web' is called 'web-2' as a flow" in result.stderr


def test_stdin_is_read(tmp_path):
    """By content, or as --from says."""
    assert "name: web" in run("-", input="web: a\n").stdout
    assert "name: web" in run("--from", "procfile", "-", input="web: a\n").stdout


def test_a_folder_gets_one_file_for_each_flow(tmp_path):
    """None is written over without --force, and then none of the others is written either."""
    (tmp_path / "Procfile").write_text("web: a\nwork: b\n")
    out = tmp_path / "out"
    result = run(tmp_path / "Procfile", "-o", out)
    assert result.exit_code == 0
    assert sorted(p.name for p in out.iterdir()) == ["web.yaml", "work.yaml"]
    (out / "work.yaml").write_text("mine")
    (out / "web.yaml").unlink()
    result = run(tmp_path / "Procfile", "-o", out)
    assert result.exit_code == 1
    assert "work.yaml: there already; nothing was written; --force" in result.stderr
    assert [p.name for p in out.iterdir()] == ["work.yaml"]
    assert run(tmp_path / "Procfile", "-o", out, "--force").exit_code == 0
    assert "mine" not in (out / "work.yaml").read_text()
    assert sorted(p.name for p in out.iterdir()) == ["web.yaml", "work.yaml"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    """Exit code 1, no traceback."""
    (tmp_path / "Procfile").write_text("web: a\n")
    (tmp_path / "file").write_text("")
    result = run(tmp_path / "Procfile", "-o", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


def test_strict_takes_no_remark(tmp_path):
    """Exit code 1, and nothing on stdout, so that nothing is applied."""
    path = tmp_path / "Procfile"
    path.write_text("web_1: a\n")
    assert run(path).exit_code == 0
    result = run("--strict", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "1 remarks, and --strict allows none" in result.stderr
    path.write_text("web: a\n")
    assert run("--strict", path).exit_code == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"a: \xff\n", "Procfile:1:1: is not valid UTF-8 at byte 3"),
        (b"a: b\nc: \0\n", "Procfile:2:1: must not hold a NUL character"),
        (b"a" * (4 * 2**20 + 1), "must not be longer than 4194304 bytes"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, body, said):
    """Exit code 2, with its place."""
    path = tmp_path / "Procfile"
    path.write_bytes(body)
    result = run(path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """With the others checked all the same."""
    (tmp_path / "Procfile").write_text("a: b\na: c\n")
    result = run(tmp_path / "none", tmp_path / "Procfile", tmp_path)
    assert result.exit_code == 2
    assert "none: cannot be read: No such file" in result.stderr
    assert "stands twice" in result.stderr
    assert "Is a directory" in result.stderr


def test_nothing_of_it_is_loaded_until_it_is_used():
    """Flowctl starts as fast as without it."""
    program = (
        "import json, sys, flow_operator.flowctl.main\n"
        "print(json.dumps([m for m in sys.modules if 'importing.' in m]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == []


def test_names_that_no_flow_can_have_are_changed(tmp_path):
    """Routes of the API, letters, length; what is valid keeps its name, wherever it stands."""
    long = "x" * 60
    names = ["status", "Web", "web", "_", "a_b", long, f"{long}y"]
    (tmp_path / "Procfile").write_text("".join(f"{name}: run\n" for name in names))
    result = run(tmp_path / "Procfile")
    made = [manifest.flow.flow_id for manifest in load_manifests(SourceText(result.stdout))]
    cut = "x" * 52
    assert made == ["status-flow", "web-2", "web", "flow", "a-b", cut, f"{cut[:-2]}-2"]
    assert len(result.stderr.splitlines()) == 6


def test_variables_that_no_flow_can_set_are_left_out(tmp_path):
    """With a remark; the others stay."""
    path = tmp_path / "process-compose.yaml"
    path.write_text("processes:\n  a:\n    command: x\n    environment: [A.B=1, C=2, =3]\n")
    result = run(path)
    [manifest] = load_manifests(SourceText(result.stdout))
    assert [variable.name for variable in manifest.flow.spec.steps[0].env] == ["C"]
    assert "yaml:4: the variable 'A.B' has a name that no flow can set" in result.stderr


def test_what_is_set_for_a_process_wins_over_a_copied_file(tmp_path):
    """As it does over a file that is read at each start."""
    (tmp_path / ".env").write_text("A=file # with a comment\nB=file\n")
    path = tmp_path / "process-compose.yaml"
    path.write_text("processes:\n  a: {command: x, environment: [A=own]}\n")
    [manifest] = load_manifests(SourceText(run(path).stdout))
    env = {variable.name: variable.value for variable in manifest.flow.spec.steps[0].env}
    assert env == {"A": "own", "B": "file"}


def test_remarks_cannot_steer_a_terminal(tmp_path):
    """What a file says is printed in one line of printable characters."""
    path = tmp_path / "Procfile"
    path.write_text("a: b\n\x1b[31mx\n")
    path.with_name("x.yaml").write_text('services: {"a\\e[31m\\n": {image: x}, b: {command: x}}\n')
    result = run(path, path.with_name("x.yaml"))
    assert result.exit_code == 0
    assert len(result.stderr.splitlines()) == 2
    assert "\x1b" not in result.stderr
