"""Contexts: several operators by name; and completion."""

from __future__ import annotations

import subprocess

import pytest
from stub_operator import StubOperator, serving

from flow_operator.flowctl.main import ALIASES, cli


@pytest.fixture
def home(tmp_path):
    """An environment without any URL, whose contexts stand in an empty directory."""
    return {"app_url": None, "APP_URL": None, "XDG_CONFIG_HOME": str(tmp_path / "xdg")}


@pytest.fixture
def known(operator, flowctl, home, tmp_path):
    """Runs commands where ``prod`` (with a token) and ``nobody`` are known; ``prod`` is current."""
    (tmp_path / "token").write_text("secret")

    def run(*args, **env):
        return flowctl(*args, env={**home, **env})

    token = str(tmp_path / "token")
    made = run("config", "set-context", "prod", "--url", operator.url, "--token-file", token)
    assert (made.exit_code, made.stdout) == (0, "context/prod made\n")
    run("config", "set-context", "nobody", "--url", "http://127.0.0.1:9")
    operator.add("a")
    return run


def test_the_current_context_says_where_the_operator_is(operator, known):
    """With its token."""
    assert known("status").exit_code == 0
    assert operator.tokens == ["Bearer secret"]
    assert known("config", "current-context").stdout == "prod\n"


def test_the_file_can_be_read_by_its_user_alone(known, tmp_path):
    """It holds no tokens, but tells where they are."""
    file = tmp_path / "xdg" / "flowctl" / "config.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert "secret" not in file.read_text()


def test_another_context_is_used_for_one_command_or_from_now_on(known):
    """``--context``, FLOWCTL_CONTEXT, and ``use-context``."""
    assert known("--context", "nobody", "status").exit_code == 3
    assert known("status", "--context", "nobody").exit_code == 3
    assert known("status", FLOWCTL_CONTEXT="nobody").exit_code == 3
    assert known("config", "use-context", "nobody").exit_code == 0
    assert known("status").exit_code == 3


def test_a_url_goes_before_the_current_context_and_takes_no_token_of_it(operator, known):
    """The token of one operator is not told to another."""
    stub = StubOperator()
    with serving(stub) as url:
        assert known("--url", url, "status").exit_code == 0
        assert known("status", app_url=url).exit_code == 0
        assert stub.tokens == [None, None]
        assert known("status", "--context", "prod", app_url=url).exit_code == 0
    assert operator.tokens == ["Bearer secret"]


def test_a_token_of_the_environment_goes_before_that_of_the_context(operator, known):
    """As all of the environment does."""
    known("status", FLOWCTL_TOKEN="other")  # noqa: S106 - it is none
    assert operator.tokens == ["Bearer other"]


def test_two_places_are_an_error(operator, known):
    """Exit code 2, and nothing is sent."""
    result = known("--url", operator.url, "status", "--context", "prod")
    assert result.exit_code == 2
    assert "leave one out" in result.stderr
    assert operator.requests == []


def test_an_unknown_context_tells_the_nearest(known):
    """Wherever it is named."""
    for args in (("status", "--context", "prd"), ("config", "use-context", "prd")):
        result = known(*args)
        assert result.exit_code == 2
        assert "there is no context 'prd'; did you mean 'prod'?" in result.stderr


def test_contexts_are_listed_changed_and_deleted(known, operator):
    """What is not named of a context stays; the one that is deleted is not current any more."""
    rows = [line.split() for line in known("config", "get-contexts").stdout.splitlines()]
    assert rows[1][:3] == ["*", "prod", operator.url]
    assert known("config", "set-context", "prod", "--ca", "ca.pem").stdout == (
        "context/prod changed\n"
    )
    view = known("config", "view").stdout
    assert "currentContext: prod" in view
    assert "/token" in view
    assert "/ca.pem" in view
    assert known("config", "delete-context", "prod").exit_code == 0
    assert known("config", "get-contexts", "-o", "name").stdout == "nobody\n"
    assert known("config", "current-context").exit_code == 1


def test_a_new_context_needs_a_url(known):
    """Nothing is written without."""
    assert known("config", "set-context", "new").exit_code == 2
    assert "new" not in known("config", "get-contexts", "-o", "name").stdout


@pytest.mark.parametrize("text", ["contexts: {a: {}}", "contexts: [a]", "[a]", "contexts: {", "a"])
def test_a_file_that_says_something_else_is_named(flowctl, home, tmp_path, text):
    """Exit code 2, with its path; never a traceback."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    result = flowctl("status", env={**home, "FLOWCTL_CONFIG": str(file)})
    assert result.exit_code == 2
    assert str(file) in result.stderr


def test_contexts_complete(known):
    """By the file."""
    words = {"_FLOWCTL_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    told = known(**words, COMP_WORDS="flowctl status --context p").stdout
    assert told == "plain,prod\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(flowctl, shell):
    """Of the shell that is named, else that of SHELL."""
    named = flowctl("completion", shell).stdout
    assert f"_FLOWCTL_COMPLETE={shell}_complete" in named
    assert flowctl("completion", env={"SHELL": f"/usr/bin/{shell}"}).stdout == named
    assert flowctl("completion", env={"SHELL": "/bin/csh"}).exit_code == 2


def test_bash_takes_the_script(flowctl):
    """It is syntax that bash accepts."""
    script = flowctl("completion", "bash").stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_steps_complete_from_the_flows_that_are_named(operator, flowctl):
    """``logs NAME --step`` knows the steps of NAME."""
    operator.add("a")
    env = {
        "_FLOWCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "flowctl logs a --step wr",
        "COMP_CWORD": "4",
        "app_url": operator.url,
    }
    assert flowctl(env=env).stdout == "plain,write\n"


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_do_what_hands_expect_and_help_does_not_list_them(operator, flowctl, alias):
    """Each is a command of its own only where there is no other."""
    assert alias not in cli.commands
    assert (
        flowctl(alias, "--help").stdout.splitlines()[2:]
        == (flowctl(ALIASES[alias], "--help").stdout.splitlines()[2:])
    )


@pytest.mark.parametrize("command", ["status", "start", "edit", "describe", "wait"])
def test_a_mistyped_flow_tells_the_nearest(operator, flowctl, command):
    """Where the operator says that there is none."""
    operator.add("orders")
    result = flowctl(command, "ordres")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no flow 'ordres'.")
    assert result.stderr.endswith(" Did you mean 'orders'?\n")
