"""Draws the pages' mermaid fences as SVG files, once and by hand; the site only shows them.

    npm install mermaid
    python -m docs.pictures node_modules/mermaid/dist/mermaid.min.js

It needs Chromium on PATH. Files are named after what they show, so that a picture of an older text
cannot be taken for the new one; those that no page shows any more are removed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from docs.site_hooks import FENCE, PICTURES, picture_of

_PAGE = """<!doctype html><meta charset="utf-8"><script src="{script}"></script><body><script>
mermaid.initialize({{startOnLoad: false, theme: "neutral", htmlLabels: false,
  fontFamily: "sans-serif", flowchart: {{htmlLabels: false, nodeSpacing: 30, rankSpacing: 45}},
  sequence: {{actorMargin: 50, wrap: true, width: 180, actorFontSize: 16, messageFontSize: 15,
              noteFontSize: 15}}}});
mermaid.render("picture", {source}).then(
  (done) => {{ document.body.innerHTML = "<main>" + done.svg + "</main>"; }},
  (error) => {{ document.body.innerHTML = "<pre>" + error + "</pre>"; }});
</script>"""


def sources() -> dict[Path, str]:
    """Each picture that the pages show -> the text that it is drawn from."""
    pages = sorted(Path(__file__).parent.rglob("*.md"))
    texts = [found["source"] for page in pages for found in FENCE.finditer(page.read_text("utf-8"))]
    return {picture_of(text): text for text in texts}


def draw(text: str, script: Path) -> str:
    """The SVG of a mermaid text.

    Raises:
        ValueError: mermaid does not understand it.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        page.write_text(_PAGE.format(script=script.resolve().as_uri(), source=json.dumps(text)))
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += ["--disable-background-networking", "--allow-file-access-from-files"]
        command += [f"--user-data-dir={folder}/profile", "--virtual-time-budget=20000"]
        done = subprocess.run([*command, page.as_uri()], capture_output=True, check=True, text=True)
    found = re.search(r"<main>(<svg.*</svg>)</main>", done.stdout, re.DOTALL)
    if found is None:
        raise ValueError(re.sub(r"<[^>]*>", " ", done.stdout)[-500:])
    # The document was HTML, where these need no end.
    svg = re.sub(r"<br\s*>", "<br/>", found[1])
    if "xmlns=" not in svg[:200]:
        svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return svg + "\n"


def main() -> None:
    """Draw what is missing and remove what no page shows."""
    wanted = sources()
    PICTURES.mkdir(exist_ok=True)
    for path in set(PICTURES.glob("*.svg")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        if not path.exists():
            path.write_text(draw(text, Path(sys.argv[1])), "utf-8")
            print(path.name)


if __name__ == "__main__":
    main()
