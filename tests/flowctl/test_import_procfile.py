"""Procfiles become flows, by the rules of foreman and honcho."""

from __future__ import annotations

import pytest
from import_support import environment_of

PROCFILE = """\
# what runs
web: bundle exec rails server -p $PORT

worker_1:  exec ./work --db "x y" | tee log
release: ./migrate
this is no process
"""


def test_each_process_type_is_a_flow(imported, tmp_path):
    """Its command is one of sh, in the folder of the Procfile, with foreman's ports."""
    done = imported("Procfile", PROCFILE)
    assert list(done.flows) == ["web", "worker-1", "release"]
    step = done.flows["web"]["spec"]["steps"][0]
    assert step["script"] == "bundle exec rails server -p $PORT"
    assert step["workingDir"] == str(tmp_path)
    ports = [environment_of(flow)["PORT"] for flow in done.flows.values()]
    assert ports == ["5000", "5100", "5200"]


def test_what_does_not_fit_is_told_with_its_line(imported):
    """A line that is none, a name that no flow can have, and what runs only once."""
    done = imported("Procfile", PROCFILE)
    assert [line for line, _ in done.remarks] == [4, 5, 6]
    assert done.said("'worker_1' is called 'worker-1'")
    assert done.said("'release' runs once")
    assert done.flows["release"]["spec"]["restart"] == {"policy": "Never"}


def test_a_plain_env_file_stays_where_it_is(imported, tmp_path):
    """Read at each start, as foreman does; nothing of it stands in the manifest."""
    done = imported("Procfile", "a: b\n", beside={".env": "PORT=7000\nTOKEN='t'\n# no\n\n"})
    assert done.step["envFrom"] == [{"file": str(tmp_path / ".env")}]
    assert environment_of(done.flows["a"]) == {"PORT": "7000"}
    assert done.remarks == []


def test_an_env_file_that_flowd_reads_differently_is_copied(imported, tmp_path):
    """Comments after values and escapes, with a remark at the file and one at the secret."""
    text = 'A=1 # one\nexport B="x\\ty"\nDB_PASSWORD=geheim\n'
    done = imported("Procfile", "a: b\nc: d\n", beside={".env": text})
    for flow in done.flows.values():
        assert "envFrom" not in flow["spec"]["steps"][0]
        found = environment_of(flow)
        assert (found["A"], found["B"], found["DB_PASSWORD"]) == ("1", "x\ty", "geheim")
    assert [line for line, _ in done.remarks] == [1, 3]
    assert f"{tmp_path}/.env:3: DB_PASSWORD looks like a secret" in done.stderr
    assert "geheim" not in done.stderr


def test_a_type_that_stands_twice_is_refused(imported):
    """Which one is meant cannot be known."""
    done = imported("Procfile", "a: b\na: c\n", expect=2)
    assert "Procfile:2:1: the process type 'a' stands twice" in done.stderr


@pytest.mark.parametrize("name", ["Procfile", "Procfile.dev"])
def test_a_procfile_is_known_by_its_name(imported, name):
    """Whatever stands in it."""
    assert list(imported(name, "services: run it\n").flows) == ["services"]
