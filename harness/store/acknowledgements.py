"""What people have acknowledged, one JSON line each: `acknowledgements.jsonl` of a store, which only grows."""

import os
from pathlib import Path

from harness import codec, drafts
from harness.errors import UserError
from harness.record import Acknowledgement
from harness.store import journal

FILE = "acknowledgements.jsonl"


def read(store: str | Path) -> list[Acknowledgement]:
    """The acknowledgements of a store in the order in which they came; none where there is no such file.

    A line that is broken is left out with a warning that names it. Raises UserError where the file cannot be read.
    """
    path = Path(store) / FILE
    try:
        lines = codec.read(path).splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(codec.loads(Acknowledgement, line))
        except ValueError as error:
            journal.warn(f"{path}: line {number} is damaged, and left out: {error}")
    return found


def append(store: str | Path, acknowledgement: Acknowledgement) -> None:
    """Write one line, synced to disk: what a person has said is not measured again."""
    path = Path(store) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafts.appending(path) as file:
        file.seek(0)
        if file.read()[-1:] not in (b"", b"\n"):  # half a line, of a process that was killed
            file.write(b"\n")
        file.write(codec.dumps(acknowledgement).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
