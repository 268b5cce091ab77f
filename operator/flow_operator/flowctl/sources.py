"""Reads what ``apply -f`` names, and checks it before anything is sent."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flow_operator.errors import Fault, InvalidError
from flow_operator.manifest import Document, Manifest, SourceText, parse_yaml
from flow_operator.manifest.document import Places
from flow_operator.manifest.validate import load_documents

STDIN = "-"
SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A checked manifest, and the text's document for the place of what the operator refuses."""

    manifest: Manifest
    document: Document


def read_manifests(names: Sequence[str]) -> list[Wanted]:
    """Every flow of the named files, of the files of named directories, and of stdin (``-``).

    Raises:
        InvalidError: everything that is wrong with any of them, or there is no flow at all.
    """
    faults: list[Fault] = []
    documents: list[Document] = []
    for name in names:
        try:
            for file in _files(name):
                documents += _parse(file, faults)
        except OSError as error:
            faults.append(
                Fault(f"cannot be read: {error.strerror or error}; name another", file=name)
            )
    try:
        manifests = load_documents(documents)
    except InvalidError as error:
        faults += error.faults
    if faults:
        raise InvalidError(sorted(faults, key=_place))
    if not documents:
        raise InvalidError(
            f"there is no flow in {', '.join(names)}; flowctl explain tells how one is written"
        )
    return [Wanted(*pair) for pair in zip(manifests, documents, strict=True)]


def _place(fault: Fault) -> tuple[str, int, int]:
    return fault.file or "", fault.line or 0, fault.column or 0


def _files(name: str) -> list[str]:
    """The file itself, or the manifests in a directory; not below it, and no dot files."""
    path = Path(name)
    if name == STDIN or not path.is_dir():
        return [name]
    return sorted(
        str(file)
        for file in path.iterdir()
        if file.suffix in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _parse(name: str, faults: list[Fault]) -> list[Document]:
    """The documents of a file; what is wrong with it is added to ``faults``."""
    label = "<stdin>" if name == STDIN else name
    body = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    try:
        text = body.decode("utf-8-sig")
        parsed = parse_yaml(SourceText(text, label))
    except UnicodeDecodeError as error:
        faults.append(Fault(f"not valid UTF-8 at byte {error.start}: save it as UTF-8", file=label))
    except InvalidError as error:
        faults += error.faults
    else:
        return [part for document in parsed for part in _parts(document)]
    return []


def _parts(document: Document) -> Iterator[Document]:
    """The documents of an array, as ``get -o json`` prints it; any other document as it is."""
    if not isinstance(document.data, list):
        yield document
        return
    for index, data in enumerate(document.data):
        yield Document(data, document.file, _Below(document, f"/{index}"))


@dataclass(frozen=True, slots=True)
class _Below:
    """The places of one part of a document, with pointers that start at the part."""

    document: Document
    root: str

    def __call__(self) -> Places:
        return {
            pointer.removeprefix(self.root): place
            for pointer, place in self.document.places().items()
            if pointer == self.root or pointer.startswith(f"{self.root}/")
        }
