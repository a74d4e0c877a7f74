"""What people have acknowledged, one JSON line each: `acknowledgements.jsonl` of a store, which only grows."""

import json
import os
from pathlib import Path

from harness import codec
from harness.errors import UserError
from harness.record import Acknowledgement

FILE = "acknowledgements.jsonl"


def read(store: str | Path) -> list[Acknowledgement]:
    """The acknowledgements of a store in the order in which they came; none where there is no such file.

    Raises UserError, naming the line, for one that is broken.
    """
    path = Path(store) / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(codec.decode(Acknowledgement, json.loads(line)))
        except ValueError as error:
            raise UserError(f"{path}, line {number}, is damaged: {error}") from None
    return found


def append(store: str | Path, acknowledgement: Acknowledgement) -> None:
    """Write one line, synced to disk: what a person has said is not measured again."""
    path = Path(store) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(codec.dumps(acknowledgement) + "\n")
        file.flush()
        os.fsync(file.fileno())
