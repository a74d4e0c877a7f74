"""Two small languages, parsed by hand and never evaluated: `where` over the columns of a table, `-k` over the ids of cells.

Both raise ValueError with the position (counted from 1) and what was expected there; who calls knows the file or option.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from harness.ask.wording import hint, quote

Value = int | float | str
DEEPEST = 50  # brackets and `not` in each other; each costs some frames of the stack, in reading and in every answer

OPERATORS: dict[str, Callable[[Value, Value], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_WHERE = re.compile(r"""(?P<operator>[=!<>]=|[<>])|(?P<quoted>"[^"]*"|'[^']*')|(?P<word>[^\s=!<>"']+)""")
_KEYWORD = re.compile(r"(?P<bracket>[()])|(?P<word>[\w.:/@+-]+)")


class Token(NamedTuple):
    """A piece of an expression: its kind, its text, and where it starts, counted from 1."""

    kind: str
    text: str
    position: int


def _tokens(text: str, pattern: re.Pattern[str]) -> Iterator[Token]:
    """The tokens of `text`, then one of kind "end". Raises ValueError at a character that starts none."""
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = pattern.match(text, position)
        if match is None:
            raise ValueError(f"{quote(text)}: character {position + 1}: {text[position]!r} is not expected here")
        yield Token(str(match.lastgroup), match.group(), position + 1)
        position = match.end()
    yield Token("end", "", len(text) + 1)


class _Reader:
    """A look at the next token, and the one message that both languages share."""

    def __init__(self, text: str, pattern: re.Pattern[str]) -> None:
        self.text = text
        self.depth = 0
        self._tokens = _tokens(text, pattern)
        self.next = next(self._tokens)

    def take(self) -> Token:
        """The next token, which is then left behind; at the end the end, again and again."""
        taken = self.next
        if taken.kind != "end":
            self.next = next(self._tokens)
        return taken

    def wrong(self, expected: str, token: Token, near: str = "") -> ValueError:
        """The error to raise: where, what was expected, what stands there."""
        found = "the end" if token.kind == "end" else quote(token.text)
        return ValueError(f"{quote(self.text)}: character {token.position}: expected {expected}, found {found}{near}")


@dataclass(frozen=True)
class Clause:
    """One comparison: `n <= 16`."""

    column: str
    operator: str
    literal: Value

    def holds(self, row: Mapping[str, Value]) -> bool:
        """Whether the row fits. Its columns and their types are those that the clause was parsed with."""
        return OPERATORS[self.operator](row[self.column], self.literal)


def where(text: str, columns: Mapping[str, type[int] | type[str]]) -> tuple[Clause, ...]:
    """The clauses of `n <= 16 and groups == 1`, all of which must hold; `columns` says which there are and what they hold.

    A literal is a number, a text in quotes, or a bare word. Raises ValueError as the module says.
    """
    reader = _Reader(text, _WHERE)
    clauses = [_clause(reader, columns)]
    while reader.next.kind != "end":
        joint = reader.take()
        if joint.text != "and":
            raise reader.wrong("`and` or the end", joint)
        clauses.append(_clause(reader, columns))
    return tuple(clauses)


def _clause(reader: _Reader, columns: Mapping[str, type[int] | type[str]]) -> Clause:
    column = reader.take()
    if column.kind != "word" or column.text not in columns:
        near = hint(column.text, columns) if column.kind == "word" else ""
        raise reader.wrong(f"a column ({', '.join(columns)})", column, near)
    sign = reader.take()
    if sign.kind != "operator":
        raise reader.wrong(f"an operator ({' '.join(OPERATORS)})", sign)
    literal = reader.take()
    if literal.kind not in ("word", "quoted") or literal.text == "and":
        raise reader.wrong("a number, a text in quotes or a word", literal)
    return Clause(column.text, sign.text, _literal(reader, columns[column.text], column, sign, literal))


def _literal(reader: _Reader, kind: type[int] | type[str], column: Token, sign: Token, literal: Token) -> Value:
    """The literal in the type of its column: a text is never compared with a number, nor ordered."""
    if kind is int:
        if literal.kind == "quoted" or not _NUMBER.fullmatch(literal.text):
            raise reader.wrong(f"a number, as column {column.text} holds numbers", literal)
        # A whole number stays exact: FLOP counts exceed what a float holds.
        return int(literal.text) if re.fullmatch(r"[+-]?\d+", literal.text) else float(literal.text)
    if sign.text not in ("==", "!="):
        raise reader.wrong(f"== or !=, as column {column.text} holds text", sign)
    return literal.text[1:-1] if literal.kind == "quoted" else literal.text


Matcher = Callable[[str], bool]


def keyword(text: str) -> Matcher:
    """Whether a cell's id fits: words are substrings of it in any case, joined as in pytest by `and`, `or`, `not`, brackets.

    `not` binds closest, then `and`, then `or`. Raises ValueError as the module says.
    """
    reader = _Reader(text, _KEYWORD)
    matcher = _either(reader)
    if reader.next.kind != "end":
        raise reader.wrong("`and`, `or` or the end", reader.next)
    return matcher


def _either(reader: _Reader) -> Matcher:
    options = [_both(reader)]
    while reader.next.text == "or":
        reader.take()
        options.append(_both(reader))
    return options[0] if len(options) == 1 else lambda name: any(option(name) for option in options)


def _both(reader: _Reader) -> Matcher:
    parts = [_single(reader)]
    while reader.next.text == "and":
        reader.take()
        parts.append(_single(reader))
    return parts[0] if len(parts) == 1 else lambda name: all(part(name) for part in parts)


def _single(reader: _Reader) -> Matcher:
    token = reader.take()
    reader.depth += 1
    if reader.depth > DEEPEST:
        raise ValueError(f"the expression is nested too deeply; allowed: {DEEPEST} brackets and `not` in each other")
    if token.text == "not":
        inner = _single(reader)
        reader.depth -= 1
        return lambda name: not inner(name)
    if token.text == "(":
        inner = _either(reader)
        reader.depth -= 1
        closing = reader.take()
        if closing.text != ")":
            raise reader.wrong("`)`", closing)
        return inner
    if token.kind != "word" or token.text in ("and", "or"):
        raise reader.wrong("a word, `not` or `(`", token)
    reader.depth -= 1
    word = token.text.casefold()
    return lambda name: word in name.casefold()
