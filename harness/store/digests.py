"""`reports/<run-id>/summary.json`: a digest of each night beside its page, written and read. The index is made from them."""

import json
from pathlib import Path

from harness import codec
from harness.digest import SCHEMA, Digest

SUMMARY, PAGE = "summary.json", "report.html"


def write(reports: str | Path, digest: Digest) -> Path:
    """Write `reports/<run-id>/summary.json`, and return that path; the old one or the new one is there at any moment."""
    path = Path(reports) / digest.run_id / SUMMARY
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{SUMMARY}.tmp")
    draft.write_text(json.dumps(codec.encode(digest), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    draft.replace(path)
    return path


def read(reports: str | Path) -> dict[str, Digest | None]:
    """The digest by run id, oldest first, of every folder with a page or a digest in it.

    None where there is none that can be read: a run reported without a gate, a damaged file, or one of another schema.
    """
    reports = Path(reports)
    folders = sorted(path for path in reports.iterdir() if path.is_dir()) if reports.is_dir() else []
    return {folder.name: _read(folder / SUMMARY) for folder in folders if _holds_something(folder)}


def _holds_something(folder: Path) -> bool:
    return (folder / SUMMARY).is_file() or (folder / PAGE).is_file()


def _read(path: Path) -> Digest | None:
    try:
        data = json.loads(path.read_bytes())
        return codec.decode(Digest, data) if isinstance(data, dict) and data.get("schema") == SCHEMA else None
    except (OSError, ValueError):
        return None
