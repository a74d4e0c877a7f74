"""Makes an SVG that matplotlib saved fit for the page: small, themed, without inline style, and with words for screen readers.

The same drawing gives the same text every time. This room knows SVG and the palette's sentinel colours, and nothing about
benchmarks.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from random import Random

from harness.page.palette import KEY_OF_SENTINEL

_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_GEOMETRY = ("d", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "points", "transform")
_URL = re.compile(r"url\(#([^)]*)\)")
# Properties that the page's style sheet sets once for all charts, or that have their default.
_SILENT = {"font-family", "stroke-linejoin", "stroke-linecap", "stroke-miterlimit", "fill-opacity", "text-anchor"}
_DROPPED = {"metadata", "style"}
# Characters that XML forbids, halves of surrogate pairs, which UTF-8 cannot hold, and marks that turn the direction of text.
_UNSPEAKABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def speakable(text: str) -> str:
    """`text` with a space for each character that XML forbids, that UTF-8 cannot hold or that turns the direction of text."""
    return _UNSPEAKABLE.sub(" ", text)


def clean(text: str) -> str:
    """`text` on one line, speakable, with one space for each run of white space."""
    return " ".join(speakable(text).split())


def post(
    text: str, name: str, title: str, desc: str, marks: Mapping[str, Sequence[str | int]] | None = None, most: int | None = None
) -> str:
    """The SVG as it stands in the page. All its ids begin with `name`.

    `marks` maps the id of a drawn group to what each mark in it stands for: the `i` of a case, which the page's script opens,
    or one line of words. Where there are more than `most` marks, `most` of them are kept, chosen by lot.
    Raises ValueError where a group holds another number of marks than `marks` says.
    """
    root = ET.fromstring(text)
    _strip(root)
    _label_marks(root, name, marks or {})
    _thin(root, marks or {}, most)
    _rename(root, name)
    for element in root.iter():
        _restyle(element)
    view = _NUMBER.sub(_rounded, root.get("viewBox", "0 0 1 1"))
    for group in root.iter("g"):
        _hoist(group)
    head = f'<svg class="chart" viewBox="{view}" role="img" aria-labelledby="{name}-t {name}-d">'
    titles = f'<title id="{name}-t">{escape(clean(title))}</title><desc id="{name}-d">{escape(clean(desc))}</desc>'
    return head + titles + "".join(_written(child) for child in root) + "</svg>"


def _strip(root: ET.Element) -> None:
    """Remove the namespace from every name, and elements that only programs read."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.tail = None
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in _DROPPED or (child.tag == "defs" and all(each.tag in _DROPPED for each in child)):
                parent.remove(child)


def _label_marks(root: ET.Element, name: str, marks: Mapping[str, Sequence[str | int]]) -> None:
    groups = {element.get("id"): element for element in root.iter("g")}
    for gid, meant in marks.items():
        drawn = [] if gid not in groups else list(groups[gid].iter("use"))
        if len(drawn) != len(meant):
            raise ValueError(f"figure {name}: {len(drawn)} marks drawn in {gid}, {len(meant)} meant")
        for element, mark in zip(drawn, meant, strict=True):
            if isinstance(mark, str):
                ET.SubElement(element, "title").text = clean(mark)
            else:
                element.set("data-i", str(mark))


def _thin(root: ET.Element, marks: Mapping[str, Sequence[str | int]], most: int | None) -> None:
    """Remove marks chosen by lot until `most` are left; the lot is the same every time."""
    drawn = [
        (parent, child)
        for group in root.iter("g")
        if group.get("id") in marks
        for parent in group.iter()
        for child in parent
        if child.tag == "use"
    ]
    if most is not None and len(drawn) > most:
        for parent, child in Random(len(drawn)).sample(drawn, len(drawn) - most):
            parent.remove(child)


def _rename(root: ET.Element, name: str) -> None:
    """Give a short id to each element that another one refers to, and take the ids of all others away."""
    used: dict[str, str] = {}
    for element in root.iter():
        for key, value in element.attrib.items():
            for old in [value[1:]] if key == "href" else _URL.findall(value):
                used.setdefault(old, f"{name}{len(used)}")
    for element in root.iter():
        old = element.attrib.pop("id", None)
        if old in used:
            element.set("id", used[old])
        for key, value in element.attrib.items():
            if key == "href":
                element.set(key, "#" + used[value[1:]])
            elif "url(#" in value:
                element.set(key, _URL.sub(lambda match: f"url(#{used[match[1]]})", value))


def _restyle(element: ET.Element) -> None:
    """Turn style="" into attributes and the colours of the palette into classes, and round coordinates to one decimal."""
    style = element.attrib.pop("style", "")
    classes = []
    for key, value in _declarations(style):
        kind = {"fill": "f-", "stroke": "s-"}.get(key)
        if kind and value in KEY_OF_SENTINEL:
            classes.append(kind + KEY_OF_SENTINEL[value])
        elif key == "text-anchor" and value != "start":
            element.set(key, value)
        elif key == "font":  # "700 12px 'DejaVu Sans', ...": the family is the page's
            element.set("font-size", "".join(re.findall(r"[\d.]+px", value)[:1]))
            if re.search(r"\b(bold|[6-9]00)\b", value):
                element.set("font-weight", "600")
        elif key == "font-weight":
            element.set(key, "600")
        elif key not in _SILENT:
            element.set(key, value)
    if classes:
        element.set("class", " ".join(classes))
    for key in _GEOMETRY:
        if key in element.attrib:
            element.set(key, " ".join(_NUMBER.sub(_rounded, element.attrib[key]).split()))
    if element.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ", "rotate(-0)", "rotate(0)")):
        del element.attrib["transform"]


def _hoist(group: ET.Element) -> None:
    """Move the attributes that all marks of a group share to the group."""
    marks = list(group)
    if len(marks) < 3 or any(mark.tag != "use" for mark in marks):
        return
    for key in [key for key in marks[0].attrib if key not in ("id", "href", "x", "y", "data-i")]:
        if key not in group.attrib and len({mark.get(key) for mark in marks}) == 1:
            group.set(key, marks[0].attrib[key])
            for mark in marks:
                del mark.attrib[key]


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for part in style.split(";"):
        key, colon, value = part.partition(":")
        if colon:
            yield key.strip(), value.strip()


def _rounded(match: re.Match[str]) -> str:
    text = f"{float(match[0]):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _written(element: ET.Element) -> str:
    """The element as text, its attributes sorted; of a group without attributes only what it holds."""
    inside = escape(element.text.strip() if element.text else "", quote=False) + "".join(map(_written, element))
    if element.tag == "g" and not element.attrib:
        return inside
    if element.tag == "path" and element.get("fill") == "none" and not element.get("class", "").count("s-"):
        # the invisible backgrounds of the figure and its axes
        return "" if "id" not in element.attrib else f'<path d="{element.get("d")}" id="{element.get("id")}"/>'
    attributes = "".join(f' {key}="{escape(value)}"' for key, value in sorted(element.attrib.items()))
    return f"<{element.tag}{attributes}>{inside}</{element.tag}>" if inside else f"<{element.tag}{attributes}/>"
