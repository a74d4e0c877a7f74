import dataclasses
from datetime import UTC, datetime

import pytest

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


@pytest.mark.fault("a line of the acknowledgements is broken", "it is named, and costs no other")
@pytest.mark.parametrize("line", ["{", '{"case": "conv"}', "[]", "[" * 10_000, ""])
def test_a_broken_line_is_named_and_costs_no_other(tmp_path, line):
    acknowledgements.append(tmp_path, ONE)
    with (tmp_path / acknowledgements.FILE).open("a") as file:
        file.write(line + "\n")
    acknowledgements.append(tmp_path, OTHER)
    with pytest.warns(UserWarning, match=r"acknowledgements\.jsonl: line 2 is damaged, and left out"):
        assert acknowledgements.read(tmp_path) == [ONE, OTHER]


def test_what_is_said_after_half_a_line_is_kept(tmp_path):
    acknowledgements.append(tmp_path, ONE)
    with (tmp_path / acknowledgements.FILE).open("a") as file:
        file.write('{"case": "co')
    acknowledgements.append(tmp_path, OTHER)
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        assert acknowledgements.read(tmp_path) == [ONE, OTHER]


@pytest.mark.fault("the acknowledgements are a link", "they are not written through")
def test_nothing_is_written_through_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    (tmp_path / acknowledgements.FILE).symlink_to(outside)
    with pytest.raises(OSError, match="is a link"):
        acknowledgements.append(tmp_path, ONE)
    assert outside.read_text() == "mine\n"


def test_an_id_stands_for_its_place_among_the_nights_and_not_for_its_text():
    ids = ["20260301-a", "20260302-b", "19700101-c"]  # the clock was set back before the third
    places = {id: dataclasses.replace(ONE, from_run=id).first(ids) for id in (*ids, "20260302", "20260301-b", "2027", "")}
    assert places == {**{id: place for place, id in enumerate(ids)}, "20260302": 1, "20260301-b": 1, "2027": 3, "": 0}
