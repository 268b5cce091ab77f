"""``apply``: make the operator hold what manifests say."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from flow_operator.client import ApiError, FlowClient, JsonObject
from flow_operator.errors import Fault, FlowError, InvalidError
from flow_operator.flowctl.failure import each, fail_if, report
from flow_operator.flowctl.goals import settled_goal
from flow_operator.flowctl.keeping import kept, made_by
from flow_operator.flowctl.named import manifests_named
from flow_operator.flowctl.read import manifest_of
from flow_operator.flowctl.session import connected
from flow_operator.flowctl.values import Seconds
from flow_operator.flowctl.wait import wait_for

if TYPE_CHECKING:
    from flow_operator.flowctl.sources import Wanted
    from flow_operator.manifest import Document

PATIENCE = 60.0
_SET = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Options:
    """How to apply.

    Attributes:
        apply_set: what new flows are marked with, and which of them ``prune`` speaks of.
        prune: delete what the set has made and no manifest says any more.
        yes: without asking.
    """

    dry_run: bool = False
    force: bool = False
    apply_set: str | None = None
    prune: bool = False
    yes: bool = False


@click.command("apply")
@manifests_named
@click.option("--dry-run", is_flag=True, help="Only say what would happen, also to what runs.")
@click.option(
    "--force", is_flag=True, help="Take flows over from the manifest files that own them."
)
@click.option(
    "--set", "apply_set", metavar="SET", help="Remember that new flows are made by this set."
)
@click.option(
    "--prune", is_flag=True, help="Delete flows that the set has made and no manifest says."
)
@click.option("-y", "--yes", is_flag=True, help="Prune without asking.")
@click.option("--wait", is_flag=True, help="Until all flows are as the manifests say.")
@click.option(
    "--timeout",
    type=Seconds(),
    default=PATIENCE,
    metavar="TIME",
    help=f"With --wait: how long; {PATIENCE:g}s by default.",
)
@connected
def apply(
    client: FlowClient,
    /,
    *,
    names: tuple[str, ...],
    wait: bool,
    timeout: float,
    **options: bool | str | None,
) -> None:
    """Create or change flows as manifests say.

    The manifests are checked first; if anything is wrong with one of them, nothing is sent. New
    flows are created all or none. A manifest without spec.state leaves the state as it is.
    """
    from flow_operator.flowctl.sources import read_manifests  # noqa: PLC0415 - imports yaml

    how = _checked(Options(**options))  # type: ignore[arg-type]
    run = _Apply(client, read_manifests(names), how)
    pruned = run.confirmed_prune(interactive="-" not in names)
    run.create()
    refused = [*run.update(), *run.prune(pruned)]
    if wait and not how.dry_run:
        _wait(client, run, timeout, refused)
    fail_if(refused)


def _checked(how: Options) -> Options:
    if how.prune and how.apply_set is None:
        raise click.UsageError(
            "--prune needs --set SET: only flows that an apply of that set has made are deleted."
        )
    if how.apply_set is not None and not _SET.fullmatch(how.apply_set):
        raise click.UsageError("--set takes letters, digits, '-', '_' and '.'.")
    return how


class _Apply:
    def __init__(self, client: FlowClient, manifests: list[Wanted], how: Options) -> None:
        self._client = client
        self._how = how
        self.wanted = {one.manifest.flow.flow_id: one for one in manifests}
        self._present = {flow["flow_id"]: manifest_of(flow) for flow in client.flows()}
        self.applied: list[str] = []

    def confirmed_prune(self, *, interactive: bool) -> list[str]:
        """What is to be deleted, asked about before anything is sent.

        Raises:
            InvalidError: there is nobody to ask.
            click.Abort: the answer was no.
        """
        how = self._how
        if not how.prune or how.apply_set is None:
            return []
        gone = [
            name
            for name, live in self._present.items()
            if name not in self.wanted and made_by(live, how.apply_set)
        ]
        if not gone or how.yes or how.dry_run:
            return gone
        listed = ", ".join(f"flow/{name}" for name in gone)
        if not (interactive and sys.stdin.isatty()):
            raise InvalidError(f"this would delete {listed}; say --yes if that is meant")
        click.confirm(f"Delete {listed}?", abort=True, err=True)
        return gone

    def create(self) -> None:
        """Make the flows that there are not, all or none."""
        new = [name for name in self.wanted if name not in self._present]
        if not new:
            return
        manifests = [self.wanted[name].manifest.document for name in new]
        documents = [kept(document, None, self._how.apply_set) for document in manifests]
        try:
            made = self._client.create(documents, dry_run=self._how.dry_run)
        except ApiError as error:
            raise _placed(error, [self.wanted[name].document for name in new]) from None
        for name, answer in zip(new, made, strict=True):
            self._tell(name, "created", answer)
        self.applied += new

    def update(self) -> list[FlowError]:
        """Replace those that differ; returns the refusals."""
        there = [name for name in self.wanted if name in self._present]
        done, refused = each(there, self._update)
        self.applied += done
        return refused

    def prune(self, names: list[str]) -> list[FlowError]:
        """Delete; returns the refusals. A flow that a file has taken over meanwhile is one."""

        def delete(name: str) -> None:
            answer = self._client.delete(name, dry_run=self._how.dry_run)
            self._tell(name, "pruned", answer)

        return each(names, delete)[1]

    def _update(self, name: str) -> None:
        live, one = self._present[name], self.wanted[name]
        self._remark(name, live)
        document = kept(one.manifest.document, live)
        if document == live:
            self._tell(name, "unchanged", {"change": "none"})
            return
        how = self._how
        try:
            answer = self._client.replace(name, document, force=how.force, dry_run=how.dry_run)
        except ApiError as error:
            raise _placed(error, [one.document], root="/0") from None
        self._tell(name, "configured", answer)

    def _remark(self, name: str, live: JsonObject) -> None:
        mine = self._how.apply_set
        if mine is not None and not made_by(live, mine):
            said = f"flow/{name} was not made by the set '{mine}', which will never prune it"
            click.echo(said, err=True)

    def _tell(self, name: str, what: str, answer: JsonObject) -> None:
        """A dry run adds what would happen to processes."""
        note = f" (dry run: {answer.get('change')})" if self._how.dry_run else ""
        click.echo(f"flow/{name} {what}{note}")


def _wait(client: FlowClient, run: _Apply, timeout: float, refused: list[FlowError]) -> None:
    statuses = client.statuses()
    seen = {name: statuses.get(name, {"flow_id": name}) for name in run.applied}
    goals = {name: settled_goal(seen[name]) for name in seen}
    try:
        wait_for(client, goals, seen, timeout)
    except click.exceptions.Exit:
        for error in refused:
            report(error)
        raise


def _placed(error: ApiError, documents: list[Document], root: str = "") -> ApiError:
    """The error with the places in the user's files of what the operator refused.

    Args:
        error: with pointers into the body that was sent.
        documents: what the body's array was made of.
        root: the pointer of the body, if it was no array.
    """
    faults: list[Fault] = []
    for fault in error.faults:
        match = re.fullmatch(r"/(\d+)(/.*)?", root + fault.pointer, re.DOTALL)
        if match and int(match[1]) < len(documents):
            faults.append(documents[int(match[1])].fault(match[2] or "", fault.detail))
        else:
            faults.append(fault)
    return ApiError(error.status, error.detail, faults)
