"""For `make docs`: documents that lie outside of this folder are pages, too; other files are named by their path, as no page
shows them.
"""

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
"""Documents outside, by their place in the repository, and the page that shows each."""
_LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """MkDocs calls this with what is in the folder; returns that and our pages."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """MkDocs calls this for each document; returns the text to show."""
    here = page.file.src_uri
    path = next((path for path, name in PAGES.items() if name == here), f"docs/{here}")
    return _LINK.sub(
        lambda link: _on_the_site(link, posixpath.dirname(path), posixpath.dirname(here)), markdown
    )


def _on_the_site(link: re.Match[str], folder: str, page_folder: str) -> str:
    """One link of a document in `folder` of the repository, as it is written on a page in `page_folder` of the site."""
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
