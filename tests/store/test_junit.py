from xml.etree import ElementTree as ET

from harness.store.junit import Case, render


def test_each_case_ends_as_it_did():
    cases = [
        Case("a/fprop", True, "1.00×", 0.25),
        Case("b/fprop", False, "slower: 1.2×", 1.5e-6),
        Case("c/fprop", None, "uncertain"),
    ]
    suite = ET.fromstring(render("new over base", cases).encode())[0]
    assert dict(suite.attrib) == {"name": "new over base", "tests": "3", "errors": "0", "failures": "1", "skipped": "1"}
    assert [case.get("name") for case in suite] == ["a/fprop", "b/fprop", "c/fprop"]
    assert [case.get("time") for case in suite] == ["0.250000000", "0.000001500", None]
    assert [[(child.tag, child.get("message"), child.text) for child in case] for case in suite] == [
        [("system-out", None, "1.00×")], [("failure", "slower: 1.2×", None)], [("skipped", "uncertain", None)],
    ]  # fmt: skip


def test_text_that_xml_cannot_hold_is_replaced():
    text = render('<&">', [Case("a\x00b", False, "\x1b[31mred\ud800\x1b[0m")])
    case = ET.fromstring(text.encode())[0][0]
    assert (case.get("classname"), case.get("name")) == ('<&">', "a\ufffdb")
    assert case[0].get("message") == "\ufffd[31mred\ufffd\ufffd[0m"


def test_no_cases_are_a_suite_too():
    assert ET.fromstring(render("none", []).encode())[0].get("tests") == "0"
