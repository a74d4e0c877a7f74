"""What every page must be, whatever stands in it, and how tests read one."""

import json
import re
from collections import Counter
from html.parser import HTMLParser

from harness.page import sections
from harness.page.canvas import Drawn

SECTIONS = [section.id for section in sections.SECTIONS if not section.optional]
TRACE = "data:application/gzip;base64,"  # what a page carries for others to open, beside links within itself
HOSTILE = [
    "</script><script>x",
    '"><img src=x onerror=alert(1)>',
    r"$\frac{",
    "a\u2028b\u2029c",
    "y" * 5000,
    "{{ 7 * 7 }}{% raise %}",
    "\x00\x1b[31m\ud800\u202e",
    "]]>--><!--",
    "=cmd()",
]


class Page(HTMLParser):
    """Tags with their attributes, and the text of scripts, styles and table rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        # What is data is not run, so the policy does not name it.
        self.inside = "" if dict(attrs).get("type") == "application/json" else tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside in self.raw:
            self.raw[self.inside].append(data)


def sound(text: str) -> Page:
    """The page, after the checks that every page must pass."""
    text.encode()
    page = Page(text)
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        link = str(attributes.get("href", "#"))
        assert link.startswith("#") or (link.startswith(TRACE) and "download" in attributes), attributes
        assert "src" not in attributes
        if (attributes.get("href") or "").startswith("#"):
            place = attributes["href"][1:]
            assert place in ids or place.startswith(("case=", "results?")), attributes
        for label in (attributes.get("aria-labelledby") or "").split():
            assert label in ids
    assert [name for name in SECTIONS if name not in ids] == []
    assert not {tag for tag, _ in page.tags} & {"img", "iframe", "object", "link", "base", "form"}
    assert not re.search(r'(fill|stroke)="#', text)
    return page


def data_of(text: str) -> dict:
    """What the page carries for its script."""
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def rows_of(text: str) -> list[dict]:
    """The rows of the table of all results, by the keys of its columns."""
    held = data_of(text)
    values = {
        key: [found["k"][at] for at in found["v"]] if isinstance(found, dict) else found
        for key, found in held["values"].items()
    }
    return [{key: found[i] for key, found in values.items()} | {"mark": held["marks"][i]} for i in range(held["n"])]


def marks(drawn: Drawn) -> list[int]:
    """The cases that the marks of a chart stand for, by their `i`."""
    assert not drawn.failure
    return sorted(map(int, re.findall(r'data-i="(\d+)"', drawn.svg)))
