from pathlib import Path

import pytest

from harness import drafts


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with drafts.replacing(path, sync=True) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_half_way_leaves_the_old_file_and_no_draft(tmp_path: Path):
    path = tmp_path / "run.json"
    drafts.write(path, "old")

    def fill() -> None:
        with drafts.replacing(path) as file:
            file.write(b"ha")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path: Path):
    outside, path = tmp_path / "outside", tmp_path / "run.json"
    outside.write_text("mine")
    path.symlink_to(outside)
    drafts.write(path, "new")
    assert outside.read_text() == "mine"
    assert not path.is_symlink()
    assert path.read_text() == "new"


def test_drafts_of_killed_processes_are_swept(tmp_path: Path):
    (tmp_path / ".run.json.0a1b2c3d.draft").write_text("half")
    (tmp_path / "kept.json").write_text("whole")
    drafts.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]
