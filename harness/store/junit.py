"""Cases to JUnit XML, which CI servers read: one test suite, a test case each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

# What XML 1.0 cannot hold, not even escaped; source: https://www.w3.org/TR/xml/#charsets
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One test case: its name, whether it passed (None: it was skipped), why, and the seconds that it stands for."""

    name: str
    passed: bool | None
    message: str = ""
    time_s: float | None = None


def render(suite: str, cases: Sequence[Case]) -> str:
    """The XML document of one test suite."""
    counts = {name: sum(case.passed is passed for case in cases) for name, passed in _COUNTED.items()}
    root = ET.Element("testsuites")
    attributes = {"name": _clean(suite), "tests": str(len(cases)), "errors": "0"}
    group = ET.SubElement(root, "testsuite", attributes | {name: str(count) for name, count in counts.items()})
    for case in cases:
        timed = {} if case.time_s is None else {"time": f"{case.time_s:.9f}"}
        element = ET.SubElement(group, "testcase", {"classname": _clean(suite), "name": _clean(case.name), **timed})
        if not case.passed:
            ET.SubElement(element, "skipped" if case.passed is None else "failure", {"message": _clean(case.message)})
        elif case.message:
            ET.SubElement(element, "system-out").text = _clean(case.message)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


_COUNTED = {"failures": False, "skipped": None}


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
