"""What a check comes back with, and the words that all of them share."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding spoils: figures are wrong or cannot be had; they are noisier; good to know; nothing."""

    BLOCKING = "blocking"
    WARNING = "warning"
    NOTE = "note"
    FINE = "fine"


BLOCKING, WARNING, NOTE, FINE = Severity


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. What is fine needs no reason and no remedy."""

    name: str
    severity: Severity
    found: str
    why: str = ""
    remedy: str = ""


Found = Iterable[Finding]


def count(number: int, what: str, several: str = "") -> str:
    """`1 CPU`, `2 CPUs`."""
    return f"{number} {what}" if number == 1 else f"{number} {several or what + 's'}"
