"""The command line of ``flowd``, and the environment in its place."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from flow_operator import __version__
from flow_operator.model.units import Duration, Size
from flow_operator.settings import DANGERS, Address, Layout, Settings

_LEVELS = ("debug", "info", "warning", "error")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flowd",
        description="Runs flows as their manifests say. Each option can also be given by the "
        "environment, as FLOWD_DATA for --data.",
    )
    parser.add_argument("--data", type=Path, default=Path(".flowd"), help="where state is kept")
    parser.add_argument("--manifests", type=Path, help="a folder of manifests to watch")
    parser.add_argument("--listen", help="HOST:PORT or unix:PATH, instead of app_url's")
    parser.add_argument(
        "--tls-cert",
        type=Path,
        metavar="FILE",
        help="serve https with this certificate (PEM, the chain after it)",
    )
    parser.add_argument(
        "--tls-key", type=Path, metavar="FILE", help="its key, readable by nobody else"
    )
    parser.add_argument("--log-level", choices=_LEVELS, default="info")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument(
        "--prune",
        choices=("auto", "always", "never"),
        default="auto",
        help="remove flows whose file has gone; auto holds back when it looks like an accident",
    )
    parser.add_argument(
        "--watch",
        choices=("auto", "poll"),
        default="auto",
        help="how changes of the folder are found: auto asks the kernel where it can tell, and "
        "else looks every second, as poll always does",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="serve beyond this machine without asking who calls"
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="a YAML file of tokens and their roles; every request then needs one of them",
    )
    parser.add_argument(
        "--allow-hosts",
        type=_hosts_given,
        default=frozenset(),
        metavar="NAME,...",
        help="further names of this machine under which the API may be asked",
    )
    parser.add_argument(
        "--socket-mode",
        type=_mode,
        default=0o600,
        metavar="MODE",
        help="permissions of the unix socket, in octal (default: 0600)",
    )
    parser.add_argument("--socket-group", metavar="NAME", help="group of the unix socket")
    parser.add_argument(
        "--allow-users",
        type=_names,
        default=frozenset(),
        metavar="NAME,...",
        help="whom steps may run as if flowd is root; * for everybody",
    )
    parser.add_argument(
        "--log-reserve",
        type=_bytes,
        metavar="SIZE",
        help="what logs leave free of the disk (default: 2 %% of it, at most 512Mi); 0 is nothing",
    )
    parser.add_argument(
        "--audit-size",
        type=_bytes,
        default=10 * 2**20,
        metavar="SIZE",
        help="from which size on the audit log is continued in a new file (default: 10Mi)",
    )
    parser.add_argument(
        "--audit-files",
        type=_count,
        default=10,
        metavar="N",
        help="how many files of the audit log are kept (default: 10)",
    )
    parser.add_argument(
        "--cgroups",
        choices=("auto", "off"),
        default="auto",
        help="auto keeps each run in a cgroup of its own where this process may make one",
    )
    parser.add_argument(
        "--engine",
        type=_engine,
        metavar="URL",
        help="the socket of a Docker or Podman engine that runs flows with `runner: container`, as "
        "unix:///run/docker.sock; whoever may use it is as good as root on its machine",
    )
    parser.add_argument(
        "--engine-allow",
        type=_dangers,
        default=frozenset(),
        metavar="WHAT,...",
        help=f"what containers may have of the engine's machine: {', '.join(DANGERS)}",
    )
    parser.add_argument(
        "--stop-grace",
        type=_seconds,
        metavar="DURATION",
        help="how long the end may take once flowd is told to end, as 10s: 70 %% of it to drain, "
        "then every step is told to end, at 90 %% it is killed (default: as flows ask for)",
    )
    parser.add_argument("--version", action="version", version=f"flowd {__version__}")
    return parser


Unit = TypeVar("Unit", Size, Duration)


def _unit(kind: type[Unit], text: str) -> Unit:
    try:
        return kind.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _bytes(text: str) -> int:
    return _unit(Size, text).bytes


def _engine(text: str) -> str:
    if not re.match("(unix:///|tcp://|https?://|ssh://).", text):
        raise argparse.ArgumentTypeError(f"must look like unix:///run/docker.sock, not {text!r}")
    return text


def _dangers(text: str) -> frozenset[str]:
    given = _names(text)
    if unknown := sorted(given - set(DANGERS)):
        raise argparse.ArgumentTypeError(f"must be of {', '.join(DANGERS)}, not {unknown[0]!r}")
    return given


def _seconds(text: str) -> float:
    seconds = _unit(Duration, text).seconds
    if not seconds:
        raise argparse.ArgumentTypeError("must be longer than nothing")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, not {text!r}")
    return int(text)


def _mode(text: str) -> int:
    if not re.fullmatch("0?[0-7]{3}", text):
        raise argparse.ArgumentTypeError(f"must be octal as 0660, not {text!r}")
    return int(text, 8)


def _hosts_given(text: str) -> frozenset[str]:
    return frozenset(name.lower().strip("[]").removesuffix(".") for name in _names(text))


def _names(text: str) -> frozenset[str]:
    return frozenset(filter(None, (name.strip() for name in text.split(","))))


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from the command line, else the environment, else the defaults.

    Raises:
        SystemExit: with status 2 after a message, as argparse does.
    """
    parser = _parser()
    given: dict[str, Any] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other list of its options
        value = environment.get(f"FLOWD_{action.dest.upper()}")
        if not value:
            continue
        if action.dest == "insecure":
            given[action.dest] = value.lower() in ("1", "true", "yes")
        elif action.choices and value not in action.choices:
            parser.error(f"FLOWD_{action.dest.upper()} must be one of {', '.join(action.choices)}")
        else:
            try:
                given[action.dest] = action.type(value) if callable(action.type) else value
            except argparse.ArgumentTypeError as error:
                parser.error(f"FLOWD_{action.dest.upper()}: {error}")
    parser.set_defaults(**given)
    options = parser.parse_args(arguments)
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key belong together: give both")
    app_url = environment.get("app_url") or environment.get("APP_URL") or None
    try:
        address = Address.parse(options.listen, app_url, tls=bool(options.tls_cert))
    except ValueError as error:
        parser.error(str(error))
    if not address.loopback and not options.tokens and not options.insecure:
        parser.error(
            f"{address.url} can be reached from other machines, and whoever reaches it can run "
            "commands here: name who may with --tokens FILE, or listen on 127.0.0.1 or unix:PATH, "
            "or say --insecure"
        )
    if address.unix is None and (options.socket_group or options.socket_mode != 0o600):  # noqa: PLR2004
        parser.error("--socket-mode and --socket-group are for --listen unix:PATH")
    return Settings(
        layout=Layout(options.data.resolve()),
        address=address,
        manifests=options.manifests.absolute() if options.manifests else None,
        log_level=options.log_level,
        log_format=options.log_format,
        prune=options.prune,
        watch=options.watch,
        insecure=options.insecure,
        cgroups=options.cgroups,
        engine=options.engine,
        engine_allow=options.engine_allow,
        users=options.allow_users,
        stop_grace=options.stop_grace,
        log_reserve=options.log_reserve,
        audit_size=options.audit_size,
        audit_files=options.audit_files,
        tls=(options.tls_cert.absolute(), options.tls_key.absolute()) if address.tls else None,
        tokens=options.tokens.absolute() if options.tokens else None,
        allow_hosts=options.allow_hosts,
        socket_mode=options.socket_mode,
        socket_group=options.socket_group,
    )
