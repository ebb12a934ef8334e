"""The pictures of terminals: shown on a page, of use without a network, and with names."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import pytest

from docs import generate
from docs.terminal_pictures import ALL, FOLDER, Picture, draw, lines_of

_IMAGE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+\.svg)\)")
_SVG = "{http://www.w3.org/2000/svg}"
#: A device of each picture, as a person calls it.
DEVICES = {"demo": "core1-school", "history": "core1", "diff": "core1", "watch": "edge"}


def texts_of(svg: str) -> list[str]:
    """The picture's lines."""
    rows: dict[float, str] = defaultdict(str)
    for element in ET.fromstring(svg).iter(f"{_SVG}text"):
        rows[float(element.attrib["y"])] += element.text or ""
    return [rows[at].replace("\xa0", " ") for at in sorted(rows)]


def shown() -> dict[Path, list[tuple[Path, str]]]:
    """Each picture that a page shows -> the pages, and what each says for those who do not see it."""
    found = defaultdict(list)
    for page in generate.PAGES:
        for image in _IMAGE.finditer(page.read_text("utf-8")):
            found[(page.parent / image["target"]).resolve()].append((page, image["text"]))
    return found


def test_the_pictures_are_those_that_are_drawn() -> None:
    assert sorted(FOLDER.iterdir()) == sorted(picture.path for picture in ALL)


@pytest.mark.parametrize("picture", ALL, ids=lambda picture: picture.name)
def test_a_page_shows_each_picture_and_says_what_is_on_it(picture: Picture) -> None:
    places = shown()[picture.path.resolve()]
    assert places
    for page, text in places:
        assert len(text.split()) >= 5, (page.name, text)


def test_the_readme_shows_two_at_most() -> None:
    pages = [page.name for places in shown().values() for page, _ in places]
    assert 1 <= pages.count("README.md") <= 2


@pytest.mark.parametrize("picture", ALL, ids=lambda picture: picture.name)
def test_a_picture_loads_nothing_from_elsewhere(picture: Picture) -> None:
    svg = picture.path.read_text("utf-8")
    assert {element.tag for element in ET.fromstring(svg).iter()} <= {
        _SVG + name for name in ("svg", "style", "defs", "clipPath", "g", "rect", "circle", "text")
    }
    assert not re.search(r"(?:href|src)\s*=|url\((?!#)|@import|@font-face", svg)
    assert re.findall(r"\w+://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert set(re.findall(r"url\(#(.*?)\)", svg)) <= set(re.findall(r"id=\"(.*?)\"", svg))


@pytest.mark.parametrize("picture", ALL, ids=lambda picture: picture.name)
def test_a_picture_has_the_command_and_names_for_ids(picture: Picture) -> None:
    prompt, *lines = texts_of(picture.path.read_text("utf-8"))
    assert prompt == f"$ confkeep {picture.command}"
    assert any(re.search(rf"\b{DEVICES[picture.name]}", line) for line in lines)
    assert not [line for line in lines if re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", line)]


def test_the_same_output_is_the_same_picture_with_its_colours() -> None:
    printed = "\x1b[1mhead\x1b[0m\r\n\x1b[31m-old  <1>\x1b[0m\r\n\x1b[2Kbar 1\r\x1b[2Kbar 2\r\n"
    svg = draw(ALL[0], lines_of(printed))
    assert svg == draw(ALL[0], lines_of(printed))
    assert texts_of(svg) == ["$ confkeep demo", "head", "-old  <1>", "bar 2"]
    [old] = [
        element for element in ET.fromstring(svg).iter(f"{_SVG}text") if "<1>" in str(element.text)
    ]
    colour = re.search(rf"\.{old.attrib['class']} {{ fill: #(\w\w)(\w\w)(\w\w)", svg)
    assert colour is not None
    red, green, blue = (int(part, 16) for part in colour.groups())
    assert red > max(green, blue)


def test_of_a_program_with_a_screen_of_its_own_the_last_screen_is_drawn() -> None:
    printed = "note\r\n\x1b[?1049h\x1b[Hfirst\r\n\x1b[Hlast\r\nline\x1b[?1049l\x1b[?25h"
    assert [line.plain for line in lines_of(printed)] == ["last", "line"]
