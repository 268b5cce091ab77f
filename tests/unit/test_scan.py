"""One look at the folder is of one generation."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow_operator.sources.scan import Scanner
from support import FakeClock


def generation(root: Path, number: int) -> None:
    """Swap ``..data`` as Kubernetes does."""
    directory = root / f"..gen{number}"
    directory.mkdir()
    for name in ("a", "b"):
        text = (
            f"flow_id: {name}\nspec: {{description: g{number}, steps: [{{name: s, script: x}}]}}\n"
        )
        (directory / f"{name}.yaml").write_text(text)
    temporary = root / "..data_tmp"
    temporary.symlink_to(directory.name)
    temporary.rename(root / "..data")


def test_a_swap_during_a_look_is_seen_by_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``..data`` is resolved once: a look never mixes what belongs together with what does not."""
    generation(root, 0)
    for name in ("a", "b"):
        (root / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    clock = FakeClock(wall=4e9)
    scanner = Scanner(root, clock)
    read = Scanner._file
    swapped: list[str] = []

    def swapping(self: Scanner, name: str, base: Path) -> object:
        file = read(self, name, base)
        if not swapped:
            swapped.append(name)
            generation(root, 1)
        return file

    monkeypatch.setattr(Scanner, "_file", swapping)
    for wanted in ("g0", "g1"):
        files = scanner.look().files.values()
        said = [m.flow.spec.description for file in files for m in file.manifests]
        assert said == [wanted, wanted]
