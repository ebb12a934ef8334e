"""What the site does to the pages as MkDocs builds it; it writes no file.

Mermaid becomes pictures: the theme would load mermaid from elsewhere in each reader's browser. Instead
each fence stands for the picture that `docs.pictures` drew of it. A fence without one stays text, and
readable. Links to files of the project that are no part of the site become plain text.
"""

from __future__ import annotations

import hashlib
import os.path
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures"
FENCE = re.compile(r"^```mermaid\n(?P<source>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]*)\]\((?P<target>\.\./[^)\s]*)\)")
_TITLE = re.compile(r"^\s*accTitle: *(?P<title>.+)$", re.MULTILINE)


def picture_of(source: str) -> Path:
    """Where the picture of a fence's text is, if it was drawn."""
    return PICTURES / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.svg"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """MkDocs calls this with each page's text."""
    folder = DOCS / Path(page.file.src_uri).parent

    def shown(fence: re.Match[str]) -> str:
        picture = picture_of(fence["source"])
        if not picture.exists():
            return f"```text\n{fence['source']}```"
        titled = _TITLE.search(fence["source"])
        title = titled["title"].strip() if titled else "Diagram"
        return f"![{title}]({os.path.relpath(picture, folder)}){{ .picture }}"

    def inside(link: re.Match[str]) -> str:
        path, _, anchor = link["target"].partition("#")
        target = Path(os.path.normpath(folder / path))
        if target == DOCS.parent / "README.md":
            target = DOCS / ("settings.md" if anchor == "settings" else "index.md")
            return f"[{link['text']}]({os.path.relpath(target, folder)})"
        return link[0] if target.is_relative_to(DOCS) else link["text"]

    return _LINK.sub(inside, FENCE.sub(shown, markdown))
