"""What a test sees of an import."""

from __future__ import annotations

from flow_operator.manifest import SourceText, parse_yaml


class Imported:
    """What `flowctl import` made of a file.

    Attributes:
        flows: manifests by name.
        remarks: (line, text) of each remark.
    """

    def __init__(self, result):
        self.exit_code = result.exit_code
        self.stderr = result.stderr
        documents = parse_yaml(SourceText(result.stdout)) if result.exit_code == 0 else []
        self.flows = {d.data["metadata"]["name"]: d.data for d in documents}
        told = [line.split(": ", 1) for line in result.stderr.splitlines() if ": " in line]
        self.remarks = [
            (int(head.rpartition(":")[2] or 0), text)
            for head, text in told
            if head.rpartition(":")[2].isdigit()
        ]

    @property
    def spec(self):
        """Of the only flow."""
        [flow] = self.flows.values()
        return flow["spec"]

    @property
    def step(self):
        """Of the only flow."""
        return self.spec["steps"][0]

    def said(self, *texts):
        """Whether one remark holds all of the texts."""
        return any(all(text in remark for text in texts) for _, remark in self.remarks)


def environment_of(flow):
    """The variables that the first step of a manifest sets."""
    return {one["name"]: one["value"] for one in flow["spec"]["steps"][0].get("env", [])}


def forgotten(imported, name, base, keys, **options):
    """Of ``keys`` those that neither change what is imported nor are remarked at their line.

    Args:
        imported: the fixture.
        name: the file's name.
        base: the text without the key; a line ``@@`` says where it is to stand.
        keys: a text of lines to try, one at a time.
        options: of the fixture.
    """
    line = base.split("\n").index("@@") + 1
    plain = imported(name, base.replace("@@\n", ""), **options)
    lost = []
    for key in keys.split("\n"):
        done = imported(name, base.replace("@@", key), **options)
        lines = range(line, line + key.count("\n") + 1)
        if done.flows == plain.flows and not any(at in lines for at, _ in done.remarks):
            lost.append(key)
    return lost
