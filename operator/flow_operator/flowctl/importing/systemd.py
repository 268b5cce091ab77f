""".service files of systemd.

Sources: systemd.service(5), systemd.unit(5), systemd.exec(5), systemd.kill(5),
systemd.resource-control(5).
"""

from __future__ import annotations

import pwd
from pathlib import Path

from flow_operator.errors import clipped
from flow_operator.flowctl.importing import dotenv, systemd_left, systemd_limits
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.source import Place, Source
from flow_operator.flowctl.importing.systemd_exec import set_command
from flow_operator.flowctl.importing.systemd_restart import set_restart, set_stop
from flow_operator.flowctl.importing.unit_file import Units, UnitSection, load
from flow_operator.flowctl.importing.unit_words import Specifiers, words
from flow_operator.flowctl.importing.values import set_umask, set_user

_SUFFIX = ".service"


def read(source: Source) -> list[Draft]:
    """The flow of a unit.

    Raises:
        InvalidError: it is no service, or a template without an instance.
    """
    name = Path(source.file).name
    name = name if name.endswith(_SUFFIX) else "service.service"
    units = load(source, name)
    if "Service" not in units:
        source.place(1).refuse("there is no [Service] section")
    if name.endswith(f"@{_SUFFIX}"):
        name = _instance(source, units, name)
    service, unit, install = (
        UnitSection(title, units.get(title, {}), source.place(1), source.remarks)
        for title in ("Service", "Unit", "Install")
    )
    draft = Draft(name.removesuffix(_SUFFIX), source.place(1), (name,))
    specifiers = Specifiers(source, name)
    if not set_command(draft.step, service, specifiers):
        source.place(1).refuse("[Service] has no ExecStart")
    _type(draft, service)
    _identity(draft, service, specifiers)
    _environment(draft, service, specifiers, source)
    set_restart(draft, service, unit)
    set_stop(draft, service)
    systemd_limits.set_limits(draft, service)
    _unit(draft, unit, specifiers)
    _install(draft, install)
    service.raw("PassEnvironment")  # A step has all of flowd's environment.
    service.leave_all(systemd_left.SERVICE)
    for title, lines in units.items():
        if title not in ("Service", "Unit", "Install") and not title.startswith("X-"):
            rest = UnitSection(title, lines, source.place(1), source.remarks)
            rest.leave_all({"*": "is in a section that is not known here; it was left out"})
    return [draft]


def _instance(source: Source, units: Units, name: str) -> str:
    default = units.get("Install", {}).get("DefaultInstance")
    if not default:
        source.place(1).refuse(
            f"is a template: name an instance as systemd does, {name.removesuffix(_SUFFIX)}X"
            f"{_SUFFIX}, of which there need be no file"
        )
    return f"{name.removesuffix(_SUFFIX)}{default[-1].value}{_SUFFIX}"


def _type(draft: Draft, keys: UnitSection) -> None:
    kind = keys.text("Type") or "simple"
    if kind == "forking":
        draft.stop_at_first()
        said = "a flow runs in the foreground and ends what its step leaves behind; give the"
        keys.say("Type", f"forking: {said} command its foreground option, then flowctl start")
    elif kind == "oneshot":
        draft.reached = "Completed"
    elif kind in ("notify", "notify-reload", "dbus"):
        keys.say("Type", f"{kind}: it counts as ready when it runs; say more by a readinessProbe")
    elif kind not in ("simple", "exec", "idle"):
        keys.say("Type", f"{clipped(kind)} is not known here; it is taken for simple")


def _identity(draft: Draft, keys: UnitSection, specifiers: Specifiers) -> None:
    user = keys.text("User")
    if user is not None:
        user = specifiers(user, keys.place_of("User"))
        set_user(draft, keys, "User", user)
    set_umask(draft, keys, "UMask")
    key = "WorkingDirectory"
    written = specifiers(keys.text(key) or "", keys.place_of(key))
    path = written.removeprefix("-")
    if written != path:
        keys.say(key, "must exist here, in spite of the -")
    if path == "~":
        path = _home(user, specifiers)
        keys.say(key, f"~ is fixed at {path}")
    if path and not path.startswith("/"):
        keys.say(key, f"{clipped(path)} is no absolute path; it was left out")
        path = ""
    default = _home(None, specifiers) if specifiers.of_user else "/"
    draft.step["workingDir"] = path or default


def _home(user: str | None, specifiers: Specifiers) -> str:
    if user is None:
        return specifiers("%h", specifiers.source.place(1))
    try:
        return pwd.getpwnam(user).pw_dir
    except KeyError:
        return f"/home/{user}"


def _environment(draft: Draft, keys: UnitSection, specifiers: Specifiers, source: Source) -> None:
    for line in keys.all("Environment"):
        for word in words(line.value, line.place):
            name, equals, value = specifiers(word, line.place).partition("=")
            if equals:
                draft.env[name] = value, line.place
            else:
                keys.tell("Environment", line, f"{clipped(word)} is no NAME=value; left out")
    files: list[tuple[str, Place]] = []
    for line in keys.all("EnvironmentFile"):
        optional = line.value.startswith("-")
        path = specifiers(line.value.removeprefix("-"), line.place)
        if not path.startswith("/"):
            keys.tell("EnvironmentFile", line, f"{clipped(path)} is no absolute path; left out")
            continue
        if optional:
            keys.tell(
                "EnvironmentFile",
                line,
                "must exist here, in spite of the -; if it does not now, it is left out",
            )
        files.append((path, line.place))
    for path, place in files:
        both = draft.env.keys() & dotenv.variables(Path("/"), path).keys()
        for name in sorted(both):
            del draft.env[name]
            said = f"{name} stands in {path}, too, which systemd has win; only that is left"
            source.remarks.add(place, said)
    dotenv.carry(draft, files, source.remarks)


def _unit(draft: Draft, keys: UnitSection, specifiers: Specifiers) -> None:
    if description := keys.text("Description"):
        draft.spec["description"] = specifiers(description, keys.place_of("Description"))
    documents = [word for line in keys.all("Documentation") for word in line.value.split()]
    if documents:
        draft.annotations["documentation"] = documents
    for line in keys.all("After"):
        for word in line.value.split():
            other = specifiers(word, line.place)
            if other.endswith(_SUFFIX):
                draft.needs.append((other, None, line.place))
            else:
                said = f"{clipped(other)} is no flow; have flowd's own unit come after it"
                keys.tell("After", line, said)
    keys.leave_all(systemd_left.UNIT)


def _install(draft: Draft, keys: UnitSection) -> None:
    """An installed unit starts with its target; a flow does so by being there."""
    keys.raw("WantedBy")
    keys.raw("DefaultInstance")
    names = [word for line in keys.all("Alias") for word in line.value.split()]
    draft.aliases = (*draft.aliases, *names)
    if names:
        keys.say("Alias", systemd_left.INSTALL["Alias"])
    keys.leave_all(systemd_left.INSTALL)
