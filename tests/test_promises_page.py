import subprocess
import sys
from pathlib import Path

import pytest

from scripts import promises

ROOT = Path(__file__).parents[1]
LEAST_FAULTS = 60


def test_the_page_is_what_the_tests_say():
    ask = [sys.executable, ROOT / "scripts" / "promises.py", "--check"]
    result = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_enough_faults_are_tested_and_each_says_what_is_promised():
    rows = list(promises.rows())
    assert len(rows) >= LEAST_FAULTS
    assert all(row.fault.strip() and row.promise.strip() for row in rows)
    assert len({row.test for row in rows}) == len(rows)


def test_marks_are_found_with_their_test_and_how_long_it_takes(tmp_path: Path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(
        'import pytest\n@pytest.mark.long\n@pytest.mark.fault("a disk | fills", "nothing is lost")\ndef test_one(): ...\n'
        "def test_two(): ...\n"
    )
    (row,) = promises.rows(tmp_path / "tests")
    assert row == ("a disk | fills", "nothing is lost", "tests/test_a.py::test_one", True)
    assert "| a disk \\| fills | nothing is lost | *[one](../tests/test_a.py)* |" in promises.page([row])
    (tmp_path / "tests" / "test_a.py").write_text('import pytest\n@pytest.mark.fault("alone")\ndef test_one(): ...\n')
    with pytest.raises(ValueError, match="two texts"):
        list(promises.rows(tmp_path / "tests"))
