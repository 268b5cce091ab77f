"""Settings: flags over the environment over defaults, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow_operator.defaults import DEFAULT_URL
from flow_operator.options import read_settings
from flow_operator.settings import Address, Layout

EVERYWHERE = ".".join("0000")

# --- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "app_url", "expected"),
    [
        (None, DEFAULT_URL, Address("127.0.0.1", 8710)),
        (None, "http://localhost", Address("localhost", 80)),
        (None, "http://localhost:0/", Address("localhost", 0)),
        (None, "http://127.0.0.1:99/flows/api/", Address("127.0.0.1", 99, "/flows/api")),
        (None, "http://[::1]:99", Address("::1", 99)),
        ("127.0.0.1:0", "http://example.org/x", Address("127.0.0.1", 0, "/x")),
        ("[::1]:99", DEFAULT_URL, Address("::1", 99)),
        (":99", DEFAULT_URL, Address(EVERYWHERE, 99)),
        ("unix:/run/f.sock", "http://h/x", Address(prefix="/x", unix=Path("/run/f.sock"))),
    ],
)
def test_addresses(listen, app_url, expected):
    """``--listen`` says where, the base URL under which path."""
    assert Address.parse(listen, app_url) == expected


@pytest.mark.parametrize(
    ("listen", "app_url"),
    [
        *((None, url) for url in ("", "127.0.0.1:80", "https://h", "ftp://h", "http://", "http:h")),
        *((None, url) for url in ("http://h:99999", "http://h:x", "http://[::1")),
        *((listen, DEFAULT_URL) for listen in ("", "h", "8710", "h:", "h:x", "h:-1", "h:65536")),
        *((listen, DEFAULT_URL) for listen in ("h:²", "h:1:x")),
    ],
)
def test_bad_addresses_are_refused_with_a_sentence(listen, app_url):
    """It names the option and the bad value, so that the reader knows what to mend."""
    with pytest.raises(ValueError) as caught:
        Address.parse(listen, app_url)
    assert ("--listen" if listen is not None else "app_url") in str(caught.value)
    assert repr(listen if listen is not None else app_url) in str(caught.value)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        (Address("127.0.0.1", 1), True),
        (Address("127.8.8.8", 1), True),
        (Address("::1", 1), True),
        (Address("localhost", 1), True),
        (Address(unix=Path("x")), True),
        (Address(EVERYWHERE, 1), False),
        (Address("::", 1), False),
        (Address("10.0.0.1", 1), False),
        (Address("example.org", 1), False),
        (Address("localhost.example.org", 1), False),
        (Address("", 1), False),
    ],
)
def test_only_this_machine_reaches_a_loopback_address(address, loopback):
    """A name that only resolves so does not count."""
    assert address.loopback is loopback


def test_urls_are_those_that_people_can_use():
    """Also for IPv6, and with the path."""
    assert Address("::1", 99, "/x").url == "http://[::1]:99/x"
    assert Address("localhost", 80).url == "http://localhost:80"
    assert Address(unix=Path("/run/f")).url == "unix:/run/f"


def test_the_layout_keeps_everything_under_one_root():
    """One directory to back up, mount or remove."""
    layout = Layout(Path("/d"))
    paths = [layout.flows, layout.runs, layout.lock, layout.folder_state]
    paths += [Path(layout.log_file("f", 0, "s")), Path(layout.work_dir("f"))]
    assert all(path.is_relative_to("/d") for path in paths)
    assert len(set(paths)) == len(paths)


# --- the command line and the environment ----------------------------------------------------


def test_defaults():
    """Nothing needs to be said."""
    settings = read_settings([], {})
    assert settings.layout.root == Path(".flowd").resolve()
    assert settings.address == Address("127.0.0.1", 8710)
    assert settings.manifests is None
    assert (settings.log_level, settings.log_format, settings.prune) == ("info", "text", "auto")
    assert not settings.insecure


def test_the_environment_says_what_flags_do_not():
    """Every option has a variable."""
    environment = {
        "FLOWD_DATA": "/d",
        "FLOWD_MANIFESTS": "/m",
        "FLOWD_LISTEN": "127.0.0.1:1",
        "FLOWD_LOG_LEVEL": "debug",
        "FLOWD_LOG_FORMAT": "json",
        "FLOWD_PRUNE": "never",
    }
    settings = read_settings([], environment)
    assert (settings.layout.root, settings.manifests) == (Path("/d"), Path("/m"))
    assert settings.address == Address("127.0.0.1", 1)
    assert (settings.log_level, settings.log_format, settings.prune) == ("debug", "json", "never")


def test_flags_win_over_the_environment():
    """Whoever types it means it."""
    flags = ["--data", "/flag", "--listen", "127.0.0.1:2", "--log-level", "error"]
    environment = {
        "FLOWD_DATA": "/env",
        "FLOWD_LISTEN": "127.0.0.1:1",
        "FLOWD_LOG_LEVEL": "debug",
        "app_url": "http://127.0.0.1:9/x",
    }
    settings = read_settings(flags, environment)
    assert settings.layout.root == Path("/flag")
    assert settings.address == Address("127.0.0.1", 2, "/x")
    assert settings.log_level == "error"


@pytest.mark.parametrize(
    ("environment", "port"),
    [
        ({"app_url": "http://127.0.0.1:1"}, 1),
        ({"APP_URL": "http://127.0.0.1:2"}, 2),
        ({"app_url": "http://127.0.0.1:1", "APP_URL": "http://127.0.0.1:2"}, 1),
        ({"app_url": "", "APP_URL": ""}, 8710),
        ({"app_url": "http://127.0.0.1:1", "FLOWD_LISTEN": "127.0.0.1:3"}, 3),
    ],
)
def test_the_base_url_says_where_to_listen(environment, port):
    """Unless something else does."""
    assert read_settings([], environment).address.port == port


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        (["--listen", "0.0.0.0:80"], {}),
        (["--listen", ":80"], {}),
        (["--listen", "[::]:80"], {}),
        ([], {"app_url": "http://example.org"}),
        ([], {"FLOWD_LISTEN": "10.0.0.1:80"}),
        ([], {"FLOWD_LISTEN": "10.0.0.1:80", "FLOWD_INSECURE": "0"}),
        ([], {"FLOWD_LISTEN": "10.0.0.1:80", "FLOWD_INSECURE": "false"}),
    ],
)
def test_an_address_that_others_can_reach_must_be_meant(flags, environment, capsys):
    """Whoever reaches it can run commands here."""
    with pytest.raises(SystemExit) as caught:
        read_settings(flags, environment)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "--insecure" in said
    assert "--tokens" in said


@pytest.mark.parametrize(
    ("flags", "environment"),
    [(["--tokens", "t"], {}), ([], {"FLOWD_TOKENS": "t"})],
)
def test_with_tokens_it_may_be_reached(flags, environment):
    """Nothing has to be called insecure for it."""
    settings = read_settings(["--listen", "0.0.0.0:80", *flags], environment)
    assert settings.tokens == Path("t").absolute()
    assert not settings.insecure


def test_who_may_use_the_unix_socket():
    """Only the operator's user, unless something else is said."""
    unix = ["--listen", "unix:/run/f.sock"]
    settings = read_settings(unix, {})
    assert (settings.socket_mode, settings.socket_group) == (0o600, None)
    settings = read_settings([*unix, "--socket-mode", "0660", "--socket-group", "ops"], {})
    assert (settings.socket_mode, settings.socket_group) == (0o660, "ops")
    settings = read_settings(unix, {"FLOWD_SOCKET_MODE": "660"})
    assert settings.socket_mode == 0o660


@pytest.mark.parametrize(
    ("flags", "environment"),
    [(["--insecure"], {}), ([], {"FLOWD_INSECURE": "1"}), ([], {"FLOWD_INSECURE": "true"})],
)
def test_it_can_be_meant_by_flag_or_environment(flags, environment):
    """Containers have no flags at hand."""
    settings = read_settings(["--listen", "0.0.0.0:80", *flags], environment)
    assert settings.insecure
    assert settings.address.host == EVERYWHERE


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        (["--log-level", "loud"], {}, "--log-level"),
        ([], {"FLOWD_LOG_LEVEL": "loud"}, "FLOWD_LOG_LEVEL"),
        ([], {"FLOWD_PRUNE": "sometimes"}, "FLOWD_PRUNE"),
        (["--nope"], {}, "--nope"),
        *((["--socket-mode", bad], {}, "--socket-mode") for bad in ("rw", "8", "0888", "1777", "")),
        (["--socket-mode", "0660"], {}, "unix:PATH"),
        (["--socket-group", "ops"], {}, "unix:PATH"),
        ([], {"FLOWD_SOCKET_MODE": "rw"}, "FLOWD_SOCKET_MODE"),
        ([], {"FLOWD_AUDIT_SIZE": "many"}, "FLOWD_AUDIT_SIZE"),
        (["--listen", "x"], {}, "--listen"),
        ([], {"app_url": "x"}, "app_url"),
    ],
)
def test_bad_settings_are_told_by_their_names(flags, environment, said, capsys):
    """On stderr, with status 2."""
    with pytest.raises(SystemExit) as caught:
        read_settings(flags, environment)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_an_empty_variable_counts_as_unset():
    """As compose files and unit files leave them."""
    names = ("DATA", "MANIFESTS", "LISTEN", "LOG_LEVEL", "LOG_FORMAT", "PRUNE", "INSECURE")
    empty = {f"FLOWD_{name}": "" for name in names}
    assert read_settings([], empty) == read_settings([], {})


def test_with_a_certificate_it_is_https():
    """The default URL, and whatever is listened on; the port of https is 443."""
    assert Address.parse(None, None, tls=True).url == "https://127.0.0.1:8710"
    assert Address.parse("127.0.0.1:1", None, tls=True).url == "https://127.0.0.1:1"
    assert Address.parse(None, "https://localhost/x", tls=True).url == "https://localhost:443/x"


@pytest.mark.parametrize(
    ("listen", "app_url", "tls", "why"),
    [
        (None, "https://127.0.0.1:1", False, "needs --tls-cert and --tls-key"),
        (None, "http://127.0.0.1:1", True, "must begin with https://"),
        ("127.0.0.1:1", "http://127.0.0.1:1", True, "must begin with https://"),
        ("unix:/run/x", None, True, "unix sockets need none"),
    ],
)
def test_what_does_not_go_with_a_certificate(listen, app_url, tls, why):
    """What is said and what is served must be the same."""
    with pytest.raises(ValueError, match=why):
        Address.parse(listen, app_url, tls=tls)


def test_a_certificate_and_its_key_belong_together(tmp_path, capsys):
    """One without the other is refused; both are told as they are named."""
    for given in (["--tls-cert", "c"], ["--tls-key", "k"]):
        with pytest.raises(SystemExit):
            read_settings(given, {})
        assert "--tls-cert and --tls-key" in capsys.readouterr().err
    files = {"FLOWD_TLS_CERT": str(tmp_path / "c"), "FLOWD_TLS_KEY": str(tmp_path / "k")}
    settings = read_settings([], files)
    assert settings.tls == (tmp_path / "c", tmp_path / "k")
    assert settings.address.tls
    assert read_settings([], {}).tls is None


def test_the_time_to_end_in(capsys):
    """A duration by option or environment; nothing at all is no time."""
    assert read_settings([], {}).stop_grace is None
    assert read_settings(["--stop-grace", "1m30s"], {"FLOWD_STOP_GRACE": "10s"}).stop_grace == 90
    assert read_settings([], {"FLOWD_STOP_GRACE": "500ms"}).stop_grace == 0.5
    for wrong in ("0s", "soon"):
        with pytest.raises(SystemExit):
            read_settings(["--stop-grace", wrong], {})
    assert "longer than nothing" in capsys.readouterr().err
