"""Pages for people: files of the package, of which each page names its own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import PurePath

from bottle import HTTPResponse

from flow_operator.api.errors import problem

_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


class Page:
    """A page of files that are all in one directory of the package.

    Args:
        package: the directory's parent, as a dotted name.
        directory: its name.
        path: where the page is served.
        styles: what may set styles besides the page's own files, as a source of CSP.
    """

    def __init__(self, package: str, directory: str, path: str, styles: str = "") -> None:
        self._place = files(package).joinpath(directory)
        self._path = path
        self._policy = (
            f"default-src 'none'; script-src 'self'; style-src 'self'{styles}; img-src data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def file(self, name: str) -> HTTPResponse:
        """One of its files; nothing else of the directory is served."""
        kind = _KINDS.get(PurePath(name).suffix)
        served = {file.name for file in self._place.iterdir()}
        if kind is None or name not in served:
            return problem(404, f"there is no such file; the page is {self._path}")
        headers = {
            "Content-Type": kind,
            "Content-Security-Policy": self._policy,
            "Cache-Control": "no-cache",
        }
        return HTTPResponse(self._place.joinpath(name).read_bytes(), 200, **headers)
