"""Foreign text made harmless: what a framework printed or a store holds becomes fit for a terminal, a row and a page.

Only characters are looked at here. Markup (rich's, HTML's) is the business of who renders it.
"""

import re

_REPLACEMENT = "\ufffd"
# Terminal escapes as ECMA-48 has them: CSI, then the strings (OSC, DCS, PM, APC, SOS) up to their end, then the short ones.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)


def plain(text: str) -> str:
    """The text on one line without terminal escapes; a character that cannot be printed becomes U+FFFD, any space a blank.

    Lone halves of surrogate pairs, which no UTF-8 may hold, and characters that turn the direction of writing are among them.
    """
    if text.isprintable():
        return text
    return "".join(map(_harmless, _ESCAPES.sub("", text)))


def _harmless(letter: str) -> str:
    if letter.isspace():
        return " "
    return letter if letter.isprintable() else _REPLACEMENT
