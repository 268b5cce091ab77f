"""What ``flowctl import`` does, apart from its options."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flow_operator.errors import ConflictError, Fault, InvalidError, StorageError
from flow_operator.flowctl.importing.detect import detect, reader
from flow_operator.flowctl.importing.draft import Draft
from flow_operator.flowctl.importing.finish import finish
from flow_operator.flowctl.importing.source import Remarks, Source
from flow_operator.manifest import dump_yaml

STDIN = "-"
MAX_BYTES = 4 * 1024 * 1024
"""Of one file; the longest that is known to exist are a tenth of it."""


def import_files(
    files: Sequence[str], form: str | None, profile: str, remarks: Remarks
) -> list[dict[str, Any]]:
    """The manifests that files of other programs become; ``remarks`` takes what does not fit.

    Raises:
        InvalidError: what is wrong with any file, and nothing is returned.
    """
    drafts: list[Draft] = []
    faults: list[Fault] = []
    for file in files:
        try:
            source = _source(file, profile, remarks)
            drafts += reader(form or detect(source))(source)
        except InvalidError as error:
            faults += error.faults
    if faults:
        raise InvalidError(faults)
    return finish(drafts, remarks)


def _source(file: str, profile: str, remarks: Remarks) -> Source:
    """A file's text; of an instance of a systemd template that is no file, the template's."""
    label = "<stdin>" if file == STDIN else file
    path = Path(file)
    begin, at, _ = path.name.partition("@")
    if at and path.suffix == ".service" and not path.exists():
        path = path.with_name(f"{begin}@.service")
    try:
        body = sys.stdin.buffer.read(MAX_BYTES + 1) if file == STDIN else _bytes(path)
        if len(body) > MAX_BYTES:
            raise InvalidError([Fault(f"must not be longer than {MAX_BYTES} bytes", file=label)])
        text = body.decode("utf-8-sig")
    except OSError as error:
        said = f"cannot be read: {error.strerror}; name another"
        raise InvalidError([Fault(said, file=label)]) from None
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        said = f"is not valid UTF-8 at byte {error.start}: save it as UTF-8"
        raise InvalidError([Fault(said, "", line, 1, label)]) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InvalidError([Fault("must not hold a NUL character", "", line, 1, label)])
    folder = Path.cwd() if file == STDIN else path.absolute().parent
    text = text.replace("\r\n", "\n")
    return Source(text, label, folder, dict(os.environ), profile, remarks)


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def to_yaml(documents: list[dict[str, Any]]) -> str:
    """What ``flowctl apply -f -`` reads."""
    return dump_yaml(documents, explicit_start=len(documents) > 1) if documents else ""


def to_folder(documents: list[dict[str, Any]], folder: Path, *, force: bool) -> list[Path]:
    """Write one file for each flow; none is written over unless ``force`` says so.

    Raises:
        ConflictError: a file is there already; nothing was written.
        StorageError: the folder cannot be written.
    """
    paths = {folder / f"{doc['metadata']['name']}.yaml": doc for doc in documents}
    there = [str(path) for path in paths if path.exists() or path.is_symlink()]
    if there and not force:
        said = "nothing was written; --force writes over it, or choose another folder"
        raise ConflictError(f"{', '.join(there)}: there already; {said}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, document in paths.items():
            _write(path, dump_yaml([document]), force=force)
    except OSError as error:
        said = f"{error.filename}: cannot be written: {error.strerror}; choose another folder"
        raise StorageError(said) from None
    return list(paths)


def _write(path: Path, text: str, *, force: bool) -> None:
    if not force:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        return
    # A watched folder passes over names that begin with a dot.
    hidden = path.with_name(f".{path.name}.new")
    hidden.write_text(text, encoding="utf-8")
    hidden.replace(path)
