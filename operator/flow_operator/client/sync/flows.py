# Generated from aio/flows.py by `make client`: edit that one.
"""Configurations, and what they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flow_operator.client.sync.parts import Parts
from flow_operator.client.repeat import Repeat
from flow_operator.client.wire import (
    JsonObject,
    Seen,
    decoded,
    expect,
    flag,
    flow_path,
    given,
    known_as,
    matching,
    objects,
    only_detail,
    selectors,
)


class Flows(Parts):
    """The desired state."""

    def flows(
        self,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int | None = None,
        expand_status: bool = False,
        if_none_match: Seen | None = None,
    ) -> list[JsonObject]:
        """Every configuration: manifest documents with a ``flow_id``, sorted by it.

        Args:
            label_selector: only flows with such labels: ``team=payments``.
            field_selector: only flows with such a status: ``status=failed``.
            limit: ask for so many at a time, and put the parts together. Each part is of its own
                moment, and there is no ETag then.
            expand_status: each with its ``status``.
            if_none_match: what was seen of this list before, or is to be kept of it now.

        Raises:
            NotModified: it is still as it was seen.
        """
        asked = selectors(label_selector, field_selector)
        asked |= given(expand=flag(expand_status, "status"))
        found: list[JsonObject] = []
        for part in self._parts("/flows", asked, limit, if_none_match):
            found += expect(part, list)
        return found

    def flow(
        self, flow_id: str, *, if_none_match: str | None = None
    ) -> tuple[JsonObject, str]:
        """One configuration, and its ETag for ``if_match`` and ``if_none_match``.

        Raises:
            NotFound: there is none of that id.
            NotModified: it still has the ETag of ``if_none_match``.
        """
        headers = known_as(if_none_match)
        path = flow_path(flow_id)
        response = self._send("GET", path, repeat=Repeat.ALWAYS, headers=headers)
        return expect(decoded(response), dict), response.headers.get("etag", "")

    def create(
        self, documents: Sequence[Mapping[str, Any]], *, dry_run: bool = False
    ) -> list[JsonObject]:
        """Add configurations, all or none. Never repeated by itself.

        Returns:
            ``{"flow_id", "status"}`` of each. With ``dry_run`` nothing is written, and it is
            ``{"flow_id", "change"}``: what would happen to processes.

        Raises:
            ApiError: 400, nothing was created; each fault's pointer begins with the document's
                index, as in ``/0/spec/steps``.
        """
        params = given(dryRun=flag(dry_run, "All"))
        body = list(documents)
        answer = self._call("POST", "/flows", repeat=Repeat.NEVER, json=body, params=params)
        return objects(answer, "details")

    def replace(
        self,
        flow_id: str,
        document: Mapping[str, Any],
        *,
        if_match: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> JsonObject:
        """Replace a whole configuration.

        With ``if_match`` it is repeated where an answer was lost. If the first try was done, the
        second is refused (412) for its doing: whoever then reads the flow finds what they wrote.

        Args:
            flow_id: of the configuration, which must exist.
            document: the manifest.
            if_match: an ETag; only replace the configuration which has it.
            force: take the flow over from the manifest file that owns it.
            dry_run: write nothing; the answer is ``{"flow_id", "change"}``.

        Returns:
            ``{"flow_id", "change", "generation"}``; ``change`` is ``none``, ``inPlace``,
            ``restart``, ``start`` or ``stop``: what happens to processes.

        Raises:
            ApiError: 400, invalid or unknown.
            Conflict: a manifest file owns it.
            PreconditionFailed: the ETag has moved on.
        """
        answer = self._call(
            "PUT",
            flow_path(flow_id),
            repeat=Repeat.unsent_unless(if_match or dry_run),
            json=document,
            headers=matching(if_match),
            params=given(force=flag(force), dryRun=flag(dry_run, "All")),
        )
        return only_detail(answer) if dry_run else expect(answer, dict)

    def delete(
        self,
        flow_id: str,
        *,
        hard: bool = False,
        if_match: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> JsonObject:
        """Delete a configuration; its processes are drained behind it.

        Args:
            flow_id: of the configuration.
            hard: kill the processes instead.
            if_match: an ETag; only delete the configuration which has it.
            force: even though a manifest file owns it.
            dry_run: delete nothing.

        Returns:
            ``{"flow_id"}``, in a dry run with ``change``: what would happen to processes.

        Raises:
            ApiError: 400, unknown.
            Conflict: a manifest file owns it.
            PreconditionFailed: the ETag has moved on.
        """
        answer = self._call(
            "DELETE",
            flow_path(flow_id),
            repeat=Repeat.unsent_unless(dry_run),
            headers=matching(if_match),
            params=given(type=flag(hard, "1"), force=flag(force), dryRun=flag(dry_run, "All")),
        )
        return only_detail(answer) if dry_run else expect(answer, dict)

    # --- history -----------------------------------------------------------------------------

    def history(self, flow_id: str) -> list[JsonObject]:
        """The last ten generations of a flow, newest first.

        Each is ``{"generation", "at", "by", "action", "change", "diff"}``; ``diff`` is None if the
        generation before it is not kept.

        Raises:
            NotFound: there is no flow of that id.
        """
        return objects(self._get(f"{flow_path(flow_id)}/history"), "history")

    def generation(self, flow_id: str, generation: int) -> JsonObject:
        """A flow's configuration as it was then.

        Raises:
            NotFound: there is no flow of that id, or that generation is not kept.
        """
        return expect(self._get(f"{flow_path(flow_id)}/history/{generation:d}"), dict)

    def rollback(
        self,
        flow_id: str,
        generation: int | None = None,
        *,
        if_match: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> JsonObject:
        """Make an earlier configuration the present one, as a new generation. Never repeated.

        Args:
            flow_id: of the flow.
            generation: which; None is the last one that differs from the present one.
            if_match: an ETag; only if the present configuration has it.
            force: take the flow over from the manifest file that owns it.
            dry_run: write nothing; the answer is ``{"flow_id", "change"}``.

        Returns:
            ``{"flow_id", "to", "generation", "change"}``.

        Raises:
            ApiError: 400, that generation is not kept.
            NotFound: there is no flow of that id.
            Conflict: a manifest file owns it.
            PreconditionFailed: the ETag has moved on.
        """
        answer = self._call(
            "POST",
            f"{flow_path(flow_id)}/rollback",
            repeat=Repeat.NEVER,
            json={} if generation is None else {"generation": generation},
            headers=matching(if_match),
            params=given(force=flag(force), dryRun=flag(dry_run, "All")),
        )
        return only_detail(answer) if dry_run else expect(answer, dict)
