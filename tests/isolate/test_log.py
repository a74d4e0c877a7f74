import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.isolate import log
from harness.isolate.log import Log


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Log]:
    with contextlib.closing(Log(tmp_path / "some.log")) as log:
        yield log


def say(to: Log, text: str) -> None:
    os.write(to.fileno(), text.encode())


@pytest.mark.fault("the last output has times, process ids and places", "the quote has none of them")
@pytest.mark.parametrize(
    ("printed", "quoted"),
    [
        ("", ""),
        ("one\ntwo\n\n  \n", "two"),
        ("2026-11-29 18:04:01.123456: E external/xla/cuda_dnn.cc:123] failed call to cuInit", "failed call to cuInit"),
        ("I0000 00:00:1764439441.123456    1234 cudart_stub.cc:31] Could not find drivers", "Could not find drivers"),
        ("F1129 18:04:01.123456 1234 a.cc:12] Check failed: ok", "Check failed: ok"),
        ("[W1129 18:04:01.123456789 Context.cpp:83] Warning: slow", "Warning: slow"),
        ("2026-11-29 18:04:01,123 - WARNING - slow", "WARNING - slow"),
        ("2026-11-29T18:04:01Z ready", "ready"),
        ("==1234==ERROR: AddressSanitizer: heap-use-after-free", "ERROR: AddressSanitizer: heap-use-after-free"),
        ("python[1234]: out of luck", "out of luck"),
        ("the cause\nWARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n", "the cause"),
        ("the cause\n2026-11-29 18:04:01.123456: E a.cc:1] \n", "the cause"),
        ("\x1b[31mred\x1b[0m \x07", "red \ufffd"),
        ("x" * 500, "x" * 200),
        ("TypeError: 12: a.cc:12] is part of this", "TypeError: 12: a.cc:12] is part of this"),
    ],
)
def test_the_last_line_that_says_something_is_quoted_without_times_pids_and_places(
    found: Log, printed: str, quoted: str
) -> None:
    say(found, printed)
    assert found.last_line() == quoted


def test_nothing_is_quoted_of_what_stood_there_before(found: Log, tmp_path: Path) -> None:
    say(found, "of the cell before\n")
    found.mark()
    assert found.last_line() == ""
    say(found, "of this one\n")
    assert found.last_line() == "of this one"
    with contextlib.closing(Log(tmp_path / "some.log")) as later:
        assert later.last_line() == ""


def test_a_log_that_has_become_too_large_keeps_its_end(found: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LIMIT_BYTES", 1000)
    monkeypatch.setattr(log, "_KEPT_BYTES", 100)
    say(found, "a" * 1000)
    found.cut()
    assert (tmp_path / "some.log").stat().st_size == 1000
    found.mark()
    say(found, "the words before the end\n" + "b" * 99 + "\n")
    found.cut()
    assert (tmp_path / "some.log").read_text() == "b" * 99 + "\n"
    assert found.last_line() == "b" * 99
    say(found, "c\n")
    assert (tmp_path / "some.log").read_text() == "b" * 99 + "\nc\n"


def test_cutting_does_not_bring_back_what_stood_before_the_mark(found: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LIMIT_BYTES", 100)
    monkeypatch.setattr(log, "_KEPT_BYTES", 50)
    say(found, "a" * 110 + "\n")
    found.mark()
    found.cut()
    assert found.last_line() == ""
    say(found, "mine\n")
    assert found.last_line() == "mine"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "some.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="is a link"):
        Log(tmp_path / "some.log")
