from datetime import UTC, datetime

import pytest

from harness.errors import UserError
from harness.record import Acknowledgement
from harness.store import acknowledgements

ONE = Acknowledgement("conv/fprop", None, "20260301", "torch's new kernel\nis slower", "Ada", datetime(2026, 3, 2, tzinfo=UTC))
OTHER = Acknowledgement("conv/dgrad", "machine-1", "20260302", "known", "Bo", datetime(2026, 3, 3, tzinfo=UTC))


def test_what_is_appended_is_read_in_its_order(tmp_path):
    assert acknowledgements.read(tmp_path) == []
    for each in (ONE, OTHER):
        acknowledgements.append(tmp_path / "new", each)
    assert acknowledgements.read(tmp_path / "new") == [ONE, OTHER]
    assert len((tmp_path / "new" / "acknowledgements.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("line", ["{", '{"case": "conv"}', "[]"])
def test_a_broken_line_is_named(tmp_path, line):
    acknowledgements.append(tmp_path, ONE)
    with (tmp_path / acknowledgements.FILE).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"acknowledgements\.jsonl, line 2, is damaged"):
        acknowledgements.read(tmp_path)
