"""``edit``: change a flow in one's own editor."""

from __future__ import annotations

import os
from pathlib import Path

import click

from flow_operator.client import ApiError, FlowClient, JsonObject, PreconditionFailed
from flow_operator.errors import Fault, FlowError, InvalidError
from flow_operator.flowctl.difference import unified
from flow_operator.flowctl.failure import FAILED, INVALID
from flow_operator.flowctl.read import manifest_of
from flow_operator.flowctl.session import FlowName, connected
from flow_operator.flowctl.text import clean

_OURS = "#: "
"""Begins the lines that we write at the top; what begins so is not sent."""


@click.command("edit")
@click.argument("name", type=FlowName())
@click.option("--force", is_flag=True, help="Take the flow over from the file that owns it.")
@connected
def edit(client: FlowClient, name: str, *, force: bool) -> None:
    """Change a flow in an editor: $VISUAL, else $EDITOR, else vi.

    What is saved is checked before it is sent; if something is wrong the editor opens again with
    what it is at the top. A change that somebody else makes meanwhile is shown, not overwritten.
    Nothing is sent if nothing was changed.
    """
    flow, version = client.flow(name)
    owner = client.status(name).get("source") or {}
    if owner.get("kind") == "file" and not force:
        said = (
            f"flow/{name} belongs to {owner.get('file')} in the operator's folder: edit that file"
        )
        click.echo(f"Error: {said}, or say --force to take the flow over.", err=True)
        raise click.exceptions.Exit(FAILED)
    _Edit(client, name, manifest_of(flow), version, force=force).run()


class _Edit:
    def __init__(
        self, client: FlowClient, name: str, live: JsonObject, version: str, *, force: bool
    ) -> None:
        self._client = client
        self._name = name
        self._live = live
        self._version = version
        self._force = force
        self._draft = _Draft(name)

    def run(self) -> None:
        """Until something was sent, or the user gives up.

        Raises:
            click.exceptions.Exit: nothing was sent although something was changed.
        """
        from flow_operator.manifest import dump_yaml  # noqa: PLC0415 - imports yaml

        body = dump_yaml([self._live])
        notes = [
            f"flow/{self._name}: save and leave the editor to send it; leave it unchanged to",
            "send nothing. Lines that begin with '#:' are not sent.",
        ]
        failure: int | None = None
        while True:
            before = self._draft.write(notes, body)
            try:
                after = self._draft.edited()
            except FlowError as error:
                self._draft.keep()
                raise error from None
            body = _without_notes(after)
            if after == before or not body.strip():
                self._end(failure)
                return
            try:
                self._send(body)
            except (InvalidError, ApiError) as error:
                failure = INVALID if isinstance(error, InvalidError) else FAILED
                notes = self._notes(error)
            except FlowError:
                self._draft.keep()
                raise
            else:
                self._draft.remove()
                return

    def _end(self, failure: int | None) -> None:
        """The user has left the editor without a change."""
        if failure is None:
            self._draft.remove()
            click.echo("Nothing was changed, and nothing sent.", err=True)
            return
        click.echo("Error: nothing was sent; flowctl apply -f sends it once it is right.", err=True)
        self._draft.keep()
        raise click.exceptions.Exit(failure)

    def _send(self, body: str) -> None:
        """Check and send.

        Raises:
            InvalidError: something is wrong with it; places are those in ``body``.
            ApiError: the operator refuses it.
        """
        document = _checked(body, self._name)
        if document == self._live:
            click.echo(f"flow/{self._name} unchanged")
            return
        answer = self._client.replace(
            self._name, document, if_match=self._version, force=self._force
        )
        click.echo(f"flow/{self._name} edited ({answer.get('change')})")

    def _notes(self, error: InvalidError | ApiError) -> list[str]:
        """What stands at the top when the editor opens again."""
        if isinstance(error, PreconditionFailed):
            return self._changed_meanwhile()
        said = "Nothing was sent. Put this right, or leave it unchanged to give up:"
        if not error.faults:
            return [said, f"  {clean(error)}"]
        offset = len(error.faults) + 1
        return [said, *(f"  {_moved(fault, offset)}" for fault in error.faults)]

    def _changed_meanwhile(self) -> list[str]:
        flow, self._version = self._client.flow(self._name)
        mine, self._live = self._live, manifest_of(flow)
        return [
            "Nothing was sent: somebody else has changed the flow meanwhile. Take over below what",
            "you want to keep of it; what you save then replaces it. Their change:",
            *unified(mine, self._live, "before", "theirs"),
        ]


def _moved(fault: Fault, lines: int) -> str:
    """A fault with its place in the file, below our lines."""
    place = "" if fault.line is None else f"line {fault.line + lines}:{fault.column or 1}: "
    pointer = f"{fault.pointer}: " if fault.pointer else ""
    return f"{place}{pointer}{clean(fault.detail)}"


def _checked(body: str, name: str) -> JsonObject:
    """The document of a text.

    Raises:
        InvalidError: it is not one flow of that name.
    """
    from flow_operator.manifest import SourceText, load_manifest, parse_yaml  # noqa: PLC0415

    documents = parse_yaml(SourceText(body))
    if len(documents) != 1:
        raise InvalidError(
            f"this must be one document, and is {len(documents)}; leave only that of '{name}'"
        )
    manifest = load_manifest(documents[0])
    if manifest.flow.flow_id != name:
        said = f"a flow cannot be renamed: leave '{name}'; flowctl apply makes another one"
        raise InvalidError([documents[0].fault("/metadata/name", said)])
    return manifest.document


def _without_notes(text: str) -> str:
    """Only at the top: below, such a line may be part of a script."""
    lines = text.splitlines(keepends=True)
    count = next((i for i, line in enumerate(lines) if not line.startswith("#:")), len(lines))
    return "".join(lines[count:])


class _Draft:
    """The file that is edited; only its user can read it."""

    def __init__(self, name: str) -> None:
        from tempfile import mkstemp  # noqa: PLC0415 - help must not wait for it

        descriptor, path = mkstemp(prefix=f"flowctl-{name}-", suffix=".yaml")
        os.close(descriptor)
        self._path = Path(path)

    def write(self, notes: list[str], body: str) -> str:
        """Returns the whole text."""
        text = "".join(f"{_OURS}{note}\n" for note in notes) + body
        self._path.write_text(text, encoding="utf-8")
        return text

    def edited(self) -> str:
        """What the user has made of it.

        Raises:
            InvalidError: the editor cannot be run or failed, or the text cannot be read.
        """
        import shlex  # noqa: PLC0415
        import subprocess  # noqa: PLC0415 - help must not wait for it

        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            code = subprocess.run([*shlex.split(editor), str(self._path)], check=False).returncode
            if code:
                raise InvalidError(
                    f"the editor '{editor}' has ended with {code}; nothing was sent: run it again"
                )
            return self._path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise InvalidError(
                f"cannot edit with '{editor}': {why}; set VISUAL or EDITOR"
            ) from None

    def keep(self) -> None:
        """Tell where it is."""
        click.echo(f"What you have written is kept in {self._path}", err=True)

    def remove(self) -> None:
        """It is of no use any more."""
        self._path.unlink(missing_ok=True)
