"""What the site does to the pages as MkDocs builds it: mermaid becomes pictures; it writes no file.

The theme would load mermaid from elsewhere in each reader's browser. Instead each fence stands for
the picture that `docs.pictures` drew of it. A fence without one stays text, and readable.
"""

from __future__ import annotations

import hashlib
import os.path
import re
from pathlib import Path
from typing import Any

PICTURES = Path(__file__).parent / "pictures"
FENCE = re.compile(r"^```mermaid\n(?P<source>.*?)^```$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^\s*accTitle: *(?P<title>.+)$", re.MULTILINE)


def picture_of(source: str) -> Path:
    """Where the picture of a fence's text is, if it was drawn."""
    return PICTURES / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.svg"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """MkDocs calls this with each page's text."""
    folder = Path(__file__).parent / Path(page.file.src_uri).parent

    def shown(fence: re.Match[str]) -> str:
        picture = picture_of(fence["source"])
        if not picture.exists():
            return f"```text\n{fence['source']}```"
        titled = _TITLE.search(fence["source"])
        title = titled["title"].strip() if titled else "Diagram"
        return f"![{title}]({os.path.relpath(picture, folder)}){{ .picture }}"

    return FENCE.sub(shown, markdown)
