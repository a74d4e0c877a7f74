import errno
import os
import stat
import threading
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


@pytest.mark.fault(
    "a file cannot be written: its folder is read-only, a folder has its name, the disk is full", "one line names the file"
)
@pytest.mark.parametrize("call", ["open", "replace", "write"])
def test_what_the_system_refuses_is_told_of_the_file_and_not_of_its_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    path = tmp_path / "run.json"

    def refused(file: object, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    def fill() -> None:
        with drafts.replacing(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    if call == "open":
        monkeypatch.setattr(os, "open", refused)
    if call == "replace":
        path.mkdir()
    expected = {"open": "[Errno 13] Permission denied", "replace": "[Errno 21] Is a directory"}
    with pytest.raises(OSError) as caught:  # noqa: PT011  its whole text is looked at
        fill() if call == "write" else drafts.write(path, "new")
    assert str(caught.value) == f"{expected.get(call, '[Errno 28] No space left on device')}: '{path}'"
    assert [each for each in tmp_path.iterdir() if each != path] == []


def test_what_is_refused_of_another_file_is_told_of_that(tmp_path: Path):
    def fill() -> None:
        with drafts.replacing(tmp_path / "run.json"):
            (tmp_path / "missing").read_bytes()

    with pytest.raises(FileNotFoundError, match="missing"):
        fill()


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


@pytest.mark.fault("a draft is being written by another process", "it is not swept")
def test_a_draft_that_is_being_written_is_not_swept(tmp_path: Path):
    with drafts.replacing(tmp_path / "run.json") as file:
        file.write(b"new")
        drafts.sweep(tmp_path)
    assert (tmp_path / "run.json").read_text() == "new"


def test_what_looks_like_a_draft_and_is_none_is_left_alone(tmp_path: Path):
    (tmp_path / ".folder.draft").mkdir()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / ".link.draft").symlink_to(outside)
    drafts.sweep(tmp_path)
    assert outside.read_text() == "mine"
    assert (tmp_path / ".folder.draft").is_dir()


def test_a_name_as_long_as_a_file_may_have_gets_a_draft(tmp_path: Path):
    path = tmp_path / ("ä" * 127)
    drafts.write(path, "whole")
    assert path.read_text() == "whole"


def test_what_a_user_named_keeps_its_permissions_and_is_whole_or_not_there(tmp_path: Path):
    path = tmp_path / "new" / "out.csv"
    drafts.deliver(path, "one")
    path.chmod(0o600)

    def fill() -> None:
        with drafts.delivering(path) as file:
            file.write(b"ha")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill()
    assert path.read_text() == "one"
    drafts.deliver(path, "two")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("two", 0o600)
    assert list(path.parent.iterdir()) == [path]


def test_a_pipe_that_a_user_named_is_written_into(tmp_path: Path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    drafts.deliver(pipe, "whole")
    reader.join()
    assert got == ["whole"]


def test_a_link_that_a_user_named_stays_and_what_it_points_to_is_whole_or_as_it_was(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    link.symlink_to(target)
    drafts.deliver(link, "there")
    with pytest.raises(OSError, match="full"), drafts.delivering(link) as file:  # noqa: PT012  it fails amid writing
        file.write(b"half of")
        file.flush()
        raise OSError("full")
    assert link.is_symlink()
    assert target.read_text() == "there"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_what_grows_is_never_written_through_a_link_or_into_a_pipe(tmp_path: Path, kind: str):
    path, outside = tmp_path / "journal", tmp_path / "outside"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(outside)
    if kind == "link":
        outside.write_text("mine")
    with pytest.raises(OSError, match="journal"):
        drafts.appending(path)
    assert outside.exists() == (kind == "link")
