import subprocess
import sys
from pathlib import Path

from harness.columns import (
    ALONG_COLUMNS,
    BESIDE_COLUMNS,
    CASE_COLUMNS,
    COLUMNS,
    COMPARISON_COLUMNS,
    EXPLANATION_COLUMNS,
    KERNEL_COLUMNS,
    NIGHT_COLUMNS,
    PROFILE_COLUMNS,
    PUBLISHED_COLUMNS,
    RANK_COLUMNS,
    RECORD_COLUMNS,
    SAMPLE_COLUMNS,
    SUM_COLUMNS,
    SUMMARY_COLUMNS,
    TIME_COLUMNS,
    TUNED_COLUMNS,
)

FRAMES = (
    *RECORD_COLUMNS, *SAMPLE_COLUMNS, *SUMMARY_COLUMNS, *RANK_COLUMNS, *TIME_COLUMNS, *SUM_COLUMNS, *ALONG_COLUMNS,
    *EXPLANATION_COLUMNS,
    *TUNED_COLUMNS, *COMPARISON_COLUMNS, *PUBLISHED_COLUMNS, *BESIDE_COLUMNS, *NIGHT_COLUMNS, *CASE_COLUMNS, *KERNEL_COLUMNS,
    *PROFILE_COLUMNS,
)  # fmt: skip
ROOT = Path(__file__).parents[1]


def columns(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "columns.py", *arguments], capture_output=True, text=True, check=False
    )


def test_the_page_is_what_the_schema_says():
    result = columns("--check")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_stale_or_missing_page_is_told(tmp_path):
    page = tmp_path / "columns.md"
    assert columns("--check", "--out", page).returncode == 1
    assert columns("--out", page).returncode == 0
    assert columns("--check", "--out", page).returncode == 0
    page.write_text(page.read_text() + "more\n")
    result = columns("--check", "--out", page)
    assert (result.returncode, result.stderr) == (1, f"{page} is stale; run scripts/columns.py\n")


def test_every_column_is_on_the_page_once_per_frame():
    rows = [line.split(" | ")[0] for line in (ROOT / "docs" / "columns.md").read_text().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}`" for name in FRAMES]
    assert set(COLUMNS) == set(FRAMES)
