"""The page's files: read once, when the gateway starts, and served compressed, with an ETag that changes with their content."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from litestar import Request, Response, get

from offerd_web.services.refusal import not_found

KINDS = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "json": "application/json",
}
HOME = "index.html"


class PageFile(NamedTuple):
    """One file of the page."""

    kind: str
    etag: str
    packed: bytes


def read_files() -> dict[str, PageFile]:
    """All files of the page, by their path below it."""
    found = {}
    for path, entry in _walk(files("offerd_web") / "page", ""):
        ending = path.rpartition(".")[2]
        if ending in KINDS:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            found[path] = PageFile(KINDS[ending], etag, gzip.compress(content, mtime=0))
    return found


def _walk(folder: Traversable, path: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{path}{entry.name}/")
        else:
            yield path + entry.name, entry


FILES = read_files()


def _answer(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    file = FILES.get(name)
    if file is None:
        raise not_found("file", name, "the page")
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if file.etag in request.headers.get("If-None-Match", ""):
        return Response(b"", status_code=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return Response(file.packed, media_type=file.kind, headers={**headers, "Content-Encoding": "gzip"})
    return Response(gzip.decompress(file.packed), media_type=file.kind, headers=headers)


@get("/", include_in_schema=False, sync_to_thread=False)
def home(request: Request[Any, Any, Any]) -> Response[bytes]:
    return _answer(request, HOME)


@get("/page/{name:path}", include_in_schema=False, sync_to_thread=False)
def page_file(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    return _answer(request, name.strip("/"))


ROUTES = [home, page_file]
