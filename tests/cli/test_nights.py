"""nightly, history, ack and prune, as they are typed: exit codes, what is printed where, and what is never printed."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app, main
from harness.errors import UserError
from harness.execution import execute, host
from harness.nights import nightly, notify
from harness.store import acknowledgements, digests, journal, table
from tests import stored
from tests.command import convbench
from tests.execution.test_execute import NO_CEILINGS, SUITE
from tests.listening import SECRET, Server, listening

SMALL = SUITE.replace('"tiny"', '"small"')


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the suite `small`, on a quiet machine, with no way of telling anybody."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "small.toml").write_text(SMALL)
    for name in (notify.URL, notify.FORMAT, notify.TOKEN, notify.JOB_SUMMARY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "lock"))
    monkeypatch.setattr(nightly, "look", lambda lock: "")
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with listening(monkeypatch) as kept:
        yield kept


@pytest.fixture
def scripted(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A command that "measures" a night of `stored` on that day; what `run` would have been asked is kept in `asked`."""

    def night(day: int, slower: dict[str, float] | None = None, *options: str, **more: Any) -> Any:
        def execute_(suite: Any, selection: Any, *, refusal: str = "", **asked: Any) -> Any:
            night.asked = {**asked, "selection": selection}  # type: ignore[attr-defined]
            return journal.read_run(stored.night(Path("results"), day, slower, refusal=refusal, **more))

        monkeypatch.setattr(execute, "execute", execute_)
        return CliRunner().invoke(app, ["nightly", "small", "--no-report", *options])

    return night


def test_quiet_nights_then_a_suspicion_then_a_regression(scripted: Callable[..., Any]) -> None:
    said = [scripted(0)]
    stored.nights(Path("results"), 10, first=1)
    said.append(scripted(11))
    assert [each.exit_code for each in said] == [0, 0], said[0].output
    assert all(each.stdout.startswith("## convbench: small quiet") for each in said)
    first, second = scripted(12, {stored.SLOW: 1.2}), scripted(13, {stored.SLOW: 1.2})
    assert (first.exit_code, second.exit_code) == (4, 3)
    assert "two forward, torch eager on cpu" in second.stdout.splitlines()[2]
    assert second.stdout.splitlines()[-1] == "20260314T023000-small-000d"  # the id, alone
    found = digests.read("reports")[second.stdout.splitlines()[-1]]
    assert (found.level, found.code) == ("regression", 3)
    assert "two forward" in Path("reports/index.html").read_text()


def test_an_acknowledged_cell_is_quiet_from_the_next_night_on(scripted: Callable[..., Any]) -> None:
    stored.nights(Path("results"), 12)
    for day in (12, 13, 14):
        scripted(day, {stored.SLOW: 1.2})
    said = CliRunner().invoke(app, ["ack", "two/fprop/torch", "--reason", "a new\nalgorithm", "--by", "me"])
    assert said.exit_code == 0, said.output
    assert said.stdout == f"{stored.SLOW}: acknowledged from 20260313T023000-small-000c on\n"
    (kept,) = acknowledgements.read("results")
    assert (kept.case, kept.reason, kept.by) == (stored.SLOW, "a new algorithm", "me")
    assert scripted(15, {stored.SLOW: 1.2}).exit_code == 0


def test_a_busy_machine_gives_a_night_that_was_not_measured(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(0)
    monkeypatch.setattr(nightly, "look", lambda lock: "other processes: 97 % of one CPU: cc (pid 7)")
    said = scripted(1, None, "--wait", "0")
    assert said.exit_code == 5
    assert "not measured: the machine was busy for 0 s: other processes: 97 % of one CPU: cc" in said.stderr
    assert "not measured" in said.stdout.splitlines()[2]
    monkeypatch.setattr(nightly, "look", lambda lock: "")
    assert scripted(3).exit_code == 0


def test_a_night_is_tagged_and_takes_the_options_of_run(scripted: Callable[..., Any]) -> None:
    options = ("--tag", "mine", "--seed", "7", "--threads", "2", "-k", "fprop", "--no-ceilings", "--machine", "lab-1")
    options += ("--python", f"numpy@pinned={sys.executable}")
    assert scripted(0, None, *options).exit_code == 0
    asked = scripted.asked  # type: ignore[attr-defined]
    assert asked["tags"] == ("nightly", "mine")
    assert asked["machine"] == "lab-1"
    assert asked["selection"].interpreters == {"numpy@pinned": sys.executable}
    assert (asked["seed"], asked["ceilings"], asked["selection"].keyword) == (7, False, "fprop")
    wrong = CliRunner().invoke(app, ["nightly", "small", "--wait", "soon"])
    assert isinstance(wrong.exception, UserError)
    assert "--wait: found 'soon'" in str(wrong.exception)


def test_profiles_take_their_part_of_a_night_that_has_so_much_time(scripted: Callable[..., Any], place: Path) -> None:
    path = place / "suites" / "small.toml"
    path.write_text(SMALL.replace("trials = 3", "time_s = 110.0"))
    for options, time_s in (((), 100.0), (("--no-profiles",), 110.0)):
        assert scripted(len(options), None, *options).exit_code == 0
        assert scripted.asked["selection"].budget.get("time_s", 110.0) == pytest.approx(time_s)  # type: ignore[attr-defined]


def test_junit_and_the_summary_of_a_job_are_written(
    scripted: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(notify.JOB_SUMMARY, str(place / "summary.md"))
    assert scripted(0, None, "--junit", "out/night.xml").exit_code == 0
    assert '<testsuite name="convbench small 20260301T023000-small-0000"' in (place / "out" / "night.xml").read_text()
    assert (place / "summary.md").read_text().startswith("## convbench: small quiet")
    monkeypatch.setenv(notify.JOB_SUMMARY, str(place))  # a folder: it cannot be written
    told = scripted(1)
    assert told.exit_code == 0  # the night stands
    assert "the job's summary was not written" in told.stderr


def test_the_webhook_is_told_and_nobody_else_hears_of_it(
    scripted: Callable[..., Any],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(notify.URL, server.url)
    monkeypatch.setenv(notify.TOKEN, "t0ken")
    said = scripted(0)
    assert said.exit_code == 0
    ((_, body),) = server.got
    assert (body["level"], body["suite"]) == ("quiet", "small")
    assert notify.URL not in os.environ  # no process that a run starts inherits it
    everything = said.output + "".join(path.read_text() for path in Path("results").rglob("*.json*"))
    assert "s3cr3t" not in everything
    assert "t0ken" not in everything


def test_a_webhook_that_fails_never_fails_the_night(
    scripted: Callable[..., Any],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.answers = [404]
    monkeypatch.setenv(notify.URL, server.url)
    said = scripted(0)
    assert said.exit_code == 0
    assert "convbench: the webhook was not told: HTTP status 404\n" in said.stderr
    assert SECRET not in said.output


def test_a_night_that_fails_tells_that(
    place: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(notify.URL, server.url)
    monkeypatch.setattr("sys.argv", ["convbench", "nightly", "smal"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    ((_, body),) = server.got
    assert (body["level"], body["code"]) == ("error", 2)
    assert "smal" in body["sentence"]
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.fault(
    "SIGTERM ends a night",
    "people are told, and the code is 130",
)
def test_a_night_that_is_interrupted_tells_that(
    scripted: Callable[..., Any], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits for a quiet machine; what was measured would be sealed before."""
    monkeypatch.setenv(notify.URL, server.url)
    monkeypatch.setattr(nightly, "look", lambda lock: os.kill(os.getpid(), signal.SIGTERM))
    said = scripted(0)
    assert said.exit_code == 130
    assert said.stderr.splitlines()[-1] == "convbench: interrupted by SIGTERM"
    ((_, body),) = server.got
    assert (body["level"], body["code"], body["suite"]) == ("error", 130, "small")
    assert "interrupted by SIGTERM" in body["sentence"]


def test_a_mistake_is_told_before_anybody_waits(scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightly, "look", lambda lock: 1 / 0)
    assert "fits none" in str(scripted(0, None, "-k", "nothing_like_it").exception)


def test_a_page_that_breaks_ends_with_1_after_everybody_was_told(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.review.pages.publish", lambda *_, **__: 1 / 0)
    said = scripted(0, None, "--report")
    assert said.exit_code == 1
    assert isinstance(said.exception, ZeroDivisionError)
    assert said.stdout.splitlines()[-1].endswith("small-0000")


# The real thing -----------------------------------------------------------------------------------------------------------


def test_a_real_night_on_the_reference(tmp_path: Path) -> None:
    """Whatever the machine makes of it, one function says the level: the exit code is that of the digest."""
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "ceilings.toml").write_text(NO_CEILINGS)
    said = convbench(tmp_path, "nightly", "smoke", "--backend", "numpy", "-k", "fprop", "--wait", "0s")
    run_id = said.stdout.splitlines()[-1]
    found = digests.read(tmp_path / "reports")[run_id]
    assert found is not None, said.stderr
    assert said.returncode == found.code
    assert found.level in ("quiet", "suspect", "invalid")  # invalid: busy; suspect: flags bar most verdicts
    assert journal.read_run(tmp_path / "results" / "runs" / run_id).tags == ("nightly",)
    assert (tmp_path / "reports" / run_id / "report.html").is_file()
    assert run_id in (tmp_path / "reports" / "index.html").read_text()
    dry = convbench(tmp_path, "nightly", "smoke", "--backend", "numpy", "-k", "fprop", "--dry-run")
    assert (dry.returncode, len(dry.stdout.splitlines())) == (0, 3)
    assert len(table.runs(tmp_path / "results")) == 1


# history, ack, prune ------------------------------------------------------------------------------------------------------


def upgraded(folder: Path) -> Path:
    """Twelve quiet nights, then two with one cell slower and another torch."""
    stored.nights(folder / "results", 12)
    for day in (12, 13):
        stored.night(folder / "results", day, {stored.SLOW: 1.2}, torch="2.14")
    return folder


@pytest.fixture
def nights(place: Path) -> Path:
    return upgraded(place)


@pytest.fixture(scope="module")
def unchanged_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for tests that change nothing of it, so that each night is read once."""
    return upgraded(tmp_path_factory.mktemp("nights"))


def test_history_shows_nights_segments_and_change_points(nights: Path) -> None:
    said = CliRunner().invoke(app, ["history", "two/fprop/torch"])
    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines()
    assert lines[0].startswith(f"{stored.SLOW}: n")  # the shape of its workload
    assert "f3x3" in lines[0]
    (begun,) = [line for line in lines if "torch 2.13 → 2.14" in line]
    assert "2026-03-13 02:30" in begun
    assert f"{stored.SLOW}: confirmed" in said.stderr
    assert "with torch 2.13 → 2.14" in said.stderr
    rows = json.loads(CliRunner().invoke(app, ["history", stored.SLOW, "--format", "json"]).stdout)
    assert len(rows) == 14
    assert [row["segment"] for row in rows] == [0] * 12 + [1] * 2
    (step,) = [row for row in rows if row["step"] is not None]
    assert step["run_id"].endswith("000c")
    assert step["step"] == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["history", "two/fprop/troch"], ["two/fprop/troch", "two/fprop/torch/eager"]),
        (["history", "two"], ["is the start of 2", "two/fprop/jax"]),
        (["ack", "two/fprop/troch", "--reason", "x"], ["two/fprop/torch/eager"]),
        (["ack", stored.SLOW, "--reason", " "], ["--reason"]),
        (["ack", stored.SLOW, "--reason", "x", "--from", "2027"], ["--from", "2027", "20260314"]),
        (["history", stored.SLOW, "--suite", "other"], ["no night of suite 'other'"]),
        (["history", stored.SLOW, "--out", "nowhere"], ["nowhere", "no night"]),
    ],
)
def test_a_mistake_is_one_line(
    unchanged_nights: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(unchanged_nights)
    said = CliRunner().invoke(app, arguments)
    assert isinstance(said.exception, UserError), said.output
    assert [word for word in words if word not in str(said.exception)] == [], str(said.exception)
    assert "\n" not in str(said.exception)
    assert acknowledgements.read("results") == []


def test_prune_says_first_and_removes_then(nights: Path) -> None:
    old = datetime.now(UTC) - datetime(2026, 3, 6, tzinfo=UTC)
    age = f"{old.total_seconds():.0f}s"
    files = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    dry = CliRunner().invoke(app, ["prune", "--older-than", age, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "of 5 runs would be removed" in dry.stderr
    assert {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()} == files
    done = CliRunner().invoke(app, ["prune", "--older-than", age])
    assert "of 5 runs removed" in done.stderr
    assert CliRunner().invoke(app, ["prune", "--older-than", age]).stderr.endswith("of 0 runs removed\n")
    shown = CliRunner().invoke(app, ["history", stored.SLOW, "--format", "json"])
    assert json.loads(shown.stdout)[0]["median_ns"] == pytest.approx(1e6, rel=0.01)  # kept with the night
