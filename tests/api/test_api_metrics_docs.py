"""docs/metrics.md tells what there is."""

from __future__ import annotations

import re
import shutil
import subprocess

from scrapes import Scrape
from support import ROOT, require

DOCS = ROOT / "docs"
OWN = "flow_operator_"
STANDARD = ("process_", "python_")
"""What every program tells that uses the library."""

_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.+) \|$", re.MULTILINE)


def _rows(full_scrape: Scrape) -> dict[str, str]:
    """What must stand in the tables, by name."""
    rows = {}
    for family in full_scrape.families:
        if not family.name.startswith(OWN):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        listed = ", ".join(f"`{label}`" for label in sorted(labels))
        rows[name] = f"| `{name}` | {family.type} | {listed} | {family.documentation} |"
    return rows


def test_every_metric_is_documented_as_it_is(full_scrape):
    """Its type, its labels and what it says of itself; and none that there is not."""
    text = (DOCS / "metrics.md").read_text()
    written = {match.group(1): match.group(0) for match in _ROW.finditer(text)}
    needed = _rows(full_scrape)
    wrong = [row for name, row in needed.items() if written.get(name) != row]
    assert not wrong, "docs/metrics.md lacks:\n" + "\n".join(wrong)
    assert written.keys() == needed.keys()


def test_names_follow_the_conventions_of_prometheus(full_scrape):
    """Base units, and a suffix for what only grows."""
    for family in full_scrape.families:
        if family.name.startswith(OWN):
            assert not re.search(r"_(ms|millis|kb|mb|minutes|percent)(_|$)", family.name)
            assert family.documentation.endswith("."), family.name
            assert family.type in {"gauge", "counter", "histogram"}, family.name


def test_promtool_has_nothing_to_say(full_scrape):
    """The linter of Prometheus itself."""
    promtool = shutil.which("promtool")
    require(None if promtool else "promtool is not installed")
    done = subprocess.run(
        [str(promtool), "check", "metrics"],
        input=full_scrape.text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
