"""The page and what belongs to it: files of the package, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

_TYPES: Final = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}


class File(NamedTuple):
    """``tag`` is the value of its ETag field (RFC 9110, 8.8.3)."""

    content_type: bytes
    body: bytes
    tag: bytes


def load_files() -> Mapping[str, File]:
    """All files that may be asked for, by their paths (``charts.js``, ``uplot/uPlot.min.css``)."""
    return dict(_load(files(__package__) / "static", ""))


def _load(directory: Traversable, prefix: str) -> Iterator[tuple[str, File]]:
    for item in directory.iterdir():
        if item.is_dir():
            yield from _load(item, f"{prefix}{item.name}/")
            continue
        content_type = _TYPES.get(item.name.rpartition(".")[2])
        if content_type is not None:
            body = item.read_bytes()
            tag = b'"%b"' % sha256(body).hexdigest()[:32].encode("ascii")
            yield prefix + item.name, File(content_type, body, tag)
