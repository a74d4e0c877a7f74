"""How a mistake is told: what was found as the suite would write it, what is allowed, and the nearest name for a typo.

Only text for messages belongs here; which values are allowed stands where they are parsed.
"""

import difflib
import json
from collections.abc import Iterable, Sequence

from harness.plain import plain

LONGEST = 80  # characters of a found value; a message stays one line that can be read
MOST_NAMES = 50  # that are allowed and listed


def show(value: object) -> str:
    """The value on one line, as TOML or JSON writes it: `"same"`, `[3, 3]`, `true`; cut where it is long."""
    try:
        text = plain(json.dumps(value, default=str, ensure_ascii=False))
    except (RecursionError, ValueError):  # nested too deeply; a number of too many digits
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def quote(text: str) -> str:
    """An expression in quotes, cut where nobody would read on."""
    return repr(text) if len(text) <= 10 * LONGEST else f"{text[: 10 * LONGEST]!r}..."


def listed(words: Sequence[str], last: str = "and") -> str:
    """Several words as people say them: `a, b and c`."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def hint(word: object, known: Iterable[str]) -> str:
    """`; did you mean "fprop"?` where a known name is near, else nothing."""
    text = str(word)[:LONGEST].lower()
    cases = {name.lower(): name for name in known}
    close = difflib.get_close_matches(text, cases)

    def distance(name: str) -> tuple[bool, float, bool]:
        """Those of the same letters come first: NCWH is NCHW, not NCW; of two as near one that begins alike: f32 is fp32."""
        ratio = difflib.SequenceMatcher(None, name, text).ratio()
        return sorted(name) != sorted(text), -ratio, name[:1] != text[:1]

    near = sorted((name for name in cases if name in close), key=distance)
    return f'; did you mean "{cases[near[0]]}"?' if near else ""


def not_one_of(found: object, known: Iterable[str]) -> str:
    """`found "x"; did you mean "y"? allowed: y, z`, for a value out of a fixed vocabulary."""
    names = list(known)
    near = hint(found, names)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"found {show(found)}{near}{'' if near else ';'} allowed: {', '.join(names[:MOST_NAMES])}{more}"
