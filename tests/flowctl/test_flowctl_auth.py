"""Tokens and certificates: what flowctl sends, whom it trusts, and what it says when it may not."""

from __future__ import annotations

import ssl
import subprocess

import pytest
from stub_operator import StubOperator, serving

from flow_operator.client import FlowClient
from flow_operator.errors import InvalidError

TOKEN = "c4nary-0123456789abcdef~._+/="  # noqa: S105


@pytest.fixture
def env(operator):
    """What stands in the environment, with nothing of this machine's."""
    none = dict.fromkeys(("APP_URL", "FLOWCTL_TOKEN", "FLOWCTL_TOKEN_FILE", "FLOWCTL_CA"))
    return {**none, "app_url": operator.url}


@pytest.fixture
def file(tmp_path):
    """A token as editors leave it."""
    path = tmp_path / "token"
    path.write_text(f"  {TOKEN}\n\n")
    return str(path)


def test_without_a_token_none_is_sent(operator, flowctl, env):
    """Nor an empty one."""
    assert flowctl("get", env=env | {"FLOWCTL_TOKEN": ""}).exit_code == 0
    assert operator.tokens == [None]


@pytest.mark.parametrize("before", [True, False])
def test_a_token_comes_from_a_file(operator, flowctl, env, file, before):
    """Named before or after the command, or by the environment; blanks around it do not count."""
    named = ["--token-file", file]
    assert flowctl(*([*named, "get"] if before else ["get", *named]), env=env).exit_code == 0
    assert flowctl("get", env=env | {"FLOWCTL_TOKEN_FILE": file}).exit_code == 0
    assert operator.tokens == [f"Bearer {TOKEN}"] * 2


def test_a_token_comes_from_the_environment(operator, flowctl, env, file):
    """If no file is named."""
    given = env | {"FLOWCTL_TOKEN": "from-the-environment"}
    assert flowctl("get", env=given).exit_code == 0
    assert flowctl("get", "--token-file", file, env=given).exit_code == 0
    assert operator.tokens == ["Bearer from-the-environment", f"Bearer {TOKEN}"]


def test_every_command_sends_it(operator, flowctl, env, file):
    """Also what streams, and what makes several requests."""
    operator.add("a")
    for command in (["status"], ["logs", "a"], ["describe", "a"], ["stop", "a"], ["version"]):
        assert flowctl("--token-file", file, *command, env=env).exit_code == 0
    assert set(operator.tokens) == {f"Bearer {TOKEN}"}


def test_there_is_no_option_for_the_token_itself(flowctl, env):
    """It would be seen by everybody on the machine."""
    assert flowctl("--token", TOKEN, "get", env=env).exit_code == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "no token in"),
        (b"\n \n", "no token in"),
        (b"\xff\xfe", "no text"),
        (f"{TOKEN}\nX-Evil: 1".encode(), "right file"),
        (f"{TOKEN} {TOKEN}".encode(), "right file"),
        (f"token: {TOKEN}".encode(), "right file"),
        ("c4nary-\N{SNOWMAN}".encode(), "right file"),
    ],
)
def test_a_file_that_holds_no_token_is_told(operator, flowctl, env, tmp_path, content, said):
    """Exit code 2 and nothing is sent; what it holds is not repeated."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    result = flowctl("--token-file", str(path), "get", env=env)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "c4nary" not in result.output + result.stderr
    assert operator.requests == []


def test_what_to_do_when_a_token_is_needed(operator, flowctl, env):
    """In the words of the command line, not of HTTP."""
    detail = (
        "a token is needed: send it as 'Authorization: Bearer TOKEN' (flowctl: --token-file FILE)"
    )
    operator.answers["GET /flows"] = operator.problem(401, detail)
    result = flowctl("get", env=env)
    assert result.exit_code == 1
    assert "--token-file or FLOWCTL_TOKEN_FILE" in result.stderr
    assert "Authorization" not in result.stderr


def test_the_program_sends_it(operator, spawn, file):
    """The real one, with the real environment."""
    process = spawn("--token-file", file, "get")
    assert process.wait(timeout=30) == 0
    assert operator.tokens == [f"Bearer {TOKEN}"]


# --- TLS -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate of 127.0.0.1, and the server's side of TLS with it."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "2", "-subj", "/CN=flowd", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(key), "-out", str(cert)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return str(cert), context


def test_https_trusts_the_certificates_that_are_named(flowctl, env, file, certificate):
    """By option or environment; the token goes over it."""
    cert, context = certificate
    stub = StubOperator()
    stub.add("a")
    with serving(stub, tls=context) as url:
        named = ("--url", url, "--token-file", file)
        assert "running" in flowctl(*named, "--ca", cert, "status", env=env).stdout
        assert flowctl("status", *named, env=env | {"FLOWCTL_CA": cert}).exit_code == 0
    assert stub.tokens == [f"Bearer {TOKEN}"] * 2


def test_https_trusts_nobody_else(flowctl, env, file, certificate):
    """Nothing is sent, and the message names the option."""
    stub = StubOperator()
    with serving(stub, tls=certificate[1]) as url:
        result = flowctl("--url", url, "--token-file", file, "status", env=env)
    assert result.exit_code == 3
    assert "its certificate is not trusted" in result.stderr
    assert "--ca" in result.stderr
    assert stub.requests == []


@pytest.mark.parametrize("content", [None, "nothing of the kind"])
def test_certificates_that_cannot_be_used_are_told(flowctl, env, tmp_path, content):
    """Exit code 2, by the name of the file."""
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    result = flowctl("--url", "https://127.0.0.1:1", "--ca", str(path), "status", env=env)
    assert result.exit_code == 2
    assert str(path) in result.stderr


def test_a_client_refuses_a_token_that_is_none(operator):
    """Before anything is sent, and without repeating it."""
    with pytest.raises(InvalidError) as caught:
        FlowClient(operator.url, token="c4nary\r\nX-Evil: 1")  # noqa: S106
    assert "c4nary" not in str(caught.value)
