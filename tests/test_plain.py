import pytest

from harness.plain import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("conv2d: 3 × 3, 20 µs", "conv2d: 3 × 3, 20 µs"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jcleared", "cleared"),
        ("\x1bcreset", "reset"),
        ("two\nlines\r\tand a tab", "two lines  and a tab"),
        ("half \ud800 a pair", "half \ufffd a pair"),
        ("bell\x07 null\x00 \u202eturned", "bell\ufffd null\ufffd \ufffdturned"),
        ("cut off \x1b[", "cut off "),
    ],
)
def test_what_cannot_be_printed_never_reaches_a_reader(text: str, shown: str):
    found = plain(text)
    assert found == shown
    assert found.isprintable()
    found.encode()
