"""Hooks for `make docs`: add documents outside of this folder as pages, and replace links to other files by their paths."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "bench/results.md": "results.md",
    "deploy/README.md": "hosts.md",
}
"""The page that shows each document outside of docs/."""
_LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """MkDocs calls this with the files of the folder. Returns them and the added pages."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """MkDocs calls this for each document. Returns the text to show."""
    here = page.file.src_uri
    path = next((path for path, name in PAGES.items() if name == here), f"docs/{here}")
    return _LINK.sub(
        lambda link: _on_the_site(link, posixpath.dirname(path), posixpath.dirname(here)), markdown
    )


def _on_the_site(link: re.Match[str], folder: str, page_folder: str) -> str:
    """A link of a document in `folder` of the repository, rewritten for a page in `page_folder` of the site."""
    mark, text, target = link.groups()
    if "://" in target or target.startswith("#"):
        return link[0]
    path, hash_sign, part = target.partition("#")
    path = posixpath.normpath(posixpath.join(folder, path))
    if path == "docs/decisions":
        path = "docs/decisions/index.md"
    shown = PAGES.get(path) or path.removeprefix("docs/")
    if shown == path:
        return f"`{path}`" if text.strip("`") == target else f"{text} (`{path}`)"
    return f"{mark}[{text}]({posixpath.relpath(shown, page_folder or '.')}{hash_sign}{part})"
