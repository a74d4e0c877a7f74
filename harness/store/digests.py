"""`reports/<run-id>/summary.json`: a digest of each night beside its page, written and read. The index is made from them."""

import json
from pathlib import Path

from harness import codec, drafts
from harness.digest import SCHEMA, Digest
from harness.errors import UserError
from harness.store import journal

SUMMARY, PAGE = "summary.json", "report.html"


def folder(reports: str | Path, run_id: str) -> Path:
    """The folder of what people get of a run, made if need be. Raises UserError for a link, which may lead anywhere."""
    path = Path(reports) / run_id
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise UserError(f"{path} is a link, and is not written through")
    drafts.sweep(path)
    return path


def write(reports: str | Path, digest: Digest) -> Path:
    """Write `reports/<run-id>/summary.json`, and return that path; the old one or the new one is there at any moment."""
    text = json.dumps(codec.encode(digest), indent=1, allow_nan=False) + "\n"
    path = folder(reports, digest.run_id) / SUMMARY
    drafts.write(path, text)
    return path


def read(reports: str | Path) -> dict[str, Digest | None]:
    """The digest by run id, oldest first, of every folder with a page or a digest in it.

    None where there is none that can be read: a run reported without a gate, a damaged file, or one of another schema or run. A
    folder that this user may not look into is left out with a warning.
    """
    reports = Path(reports)
    found: dict[str, Digest | None] = {}
    for folder in sorted(path for path in reports.iterdir() if path.is_dir()) if reports.is_dir() else []:
        try:
            if (folder / SUMMARY).is_file() or (folder / PAGE).is_file():
                found[folder.name] = _read(folder)
        except OSError as error:
            journal.warn(f"left out: {error}")
    return found


def _read(folder: Path) -> Digest | None:
    try:
        data = codec.parse(codec.read(folder / SUMMARY), finite=True)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            return None
        digest: Digest = codec.decode(Digest, data)
    except (FileNotFoundError, ValueError):
        return None
    return digest if digest.run_id == folder.name else None  # its id becomes a link
