"""A flow of one step in the making."""

from __future__ import annotations

from typing import Any, Literal

from flow_operator.flowctl.importing.source import Place

STEP = "main"
"""The name of the only step; logs stand under it."""

Condition = Literal["Started", "Ready", "Completed"]

_STEP_KEYS = (
    *("command", "script", "workingDir", "env", "envFrom", "user", "umask", "resources"),
    *("startupProbe", "readinessProbe", "livenessProbe", "successExitCodes"),
)
_SPEC_KEYS = (
    *(
        "description",
        "state",
        "runner",
        "container",
        "replicas",
        "steps",
        "dependsOn",
        "restart",
        "stop",
        "logs",
    ),
    "progress",
)


class Draft:
    """What a format's module fills in; ``document`` is the manifest.

    Attributes:
        name: as the other program calls it; not yet one of ours.
        place: where it is described.
        aliases: what others call it when they depend on it.
        labels: of the metadata.
        annotations: of the metadata.
        step: the step's keys, but ``env`` and ``envFrom``.
        spec: the keys of ``spec``, but ``steps`` and ``dependsOn``.
        env: variables and where each is set.
        env_from: absolute paths.
        needs: name, condition and place of what it depends on; the condition None is that which
            the other one has as ``reached``.
        reached: what others wait for unless they say what.
    """

    def __init__(self, name: str, place: Place, aliases: tuple[str, ...] = ()) -> None:
        self.name = name
        self.place = place
        self.aliases = (name, *aliases)
        self.labels: dict[str, str] = {}
        self.annotations: dict[str, Any] = {}
        self.step: dict[str, Any] = {}
        self.spec: dict[str, Any] = {}
        self.env: dict[str, tuple[str, Place]] = {}
        self.env_from: list[str] = []
        self.needs: list[tuple[str, Condition | None, Place]] = []
        self.reached: Condition = "Started"

    def part(self, *keys: str) -> dict[str, Any]:
        """A mapping within ``spec``, made when it is first asked for."""
        found = self.spec
        for key in keys:
            found = found.setdefault(key, {})
        return found

    def limits(self, kind: Literal["limits", "rlimits"] = "limits") -> dict[str, Any]:
        """The step's ``resources.limits`` or ``resources.rlimits``."""
        limits: dict[str, Any] = self.step.setdefault("resources", {}).setdefault(kind, {})
        return limits

    def stop_at_first(self) -> None:
        """Have it configured, but not started."""
        self.spec["state"] = "stopped"

    def document(self, name: str, depends_on: list[dict[str, str]]) -> dict[str, Any]:
        """The manifest, its keys in the order of the documentation."""
        metadata: dict[str, Any] = {"name": name}
        if self.labels:
            metadata["labels"] = self.labels
        if self.annotations:
            metadata["annotations"] = self.annotations
        env = [{"name": key, "value": value} for key, (value, _) in self.env.items()]
        files = [{"file": file} for file in self.env_from]
        step = {**self.step, "env": env, "envFrom": files}
        steps = [{"name": STEP, **_ordered(step, _STEP_KEYS)}]
        spec = {**self.spec, "steps": steps, "dependsOn": depends_on}
        return {"metadata": metadata, "spec": _ordered(spec, _SPEC_KEYS)}


def _ordered(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: values[key] for key in keys if values.get(key) not in (None, [], {})}
