"""`convbench profile` and `convbench show --kernels`: what is printed, in which width, and where a trace goes."""

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import doctor
from harness.axes import Direction
from harness.cli import app, kernels, run
from harness.cli import profile as room
from harness.errors import SelectionError
from harness.execution import afterwards, host
from harness.profile import Kind, Profile, Role, trace_name
from harness.review.reading import Reading
from harness.store import journal, table
from tests import builders
from tests.command import convbench

TORCH, TENSORFLOW = (builders.cell(backend=backend, direction=Direction.WGRAD) for backend in ("torch", "tensorflow"))
FPROP = builders.cell()
REORDER = builders.kernel(
    90.0, name="reorder", implementation="jit:uni", kind=Kind.REORDER, src_format="abcd", dst_format="acdb", role=Role.FILTER,
    calls_per_launch=2.0,
)  # fmt: skip
EIGEN = builders.kernel(
    1e6, name="Conv2DBackpropFilter", implementation="", src_format="", dst_format="", calls_per_launch=1.0
)  # fmt: skip
PROFILES = (
    builders.profile(builders.kernel(700.0), REORDER, of=TORCH, trace=trace_name(TORCH)),
    builders.profile(EIGEN, of=TENSORFLOW, watched_ns=1e6, plain_ns=0.8e6),
    builders.unprofiled("crashed: killed by SIGSEGV", of=FPROP),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of a run of three cells that were profiled, in the working directory's store."""
    monkeypatch.chdir(tmp_path)
    return stored(PROFILES)


def stored(profiles: tuple[Profile, ...]) -> Path:
    run = builders.run()
    folder = journal.create(Path("results").absolute(), run)
    with journal.Journal(folder) as book:
        book.append(builders.environment())
        for order, of in enumerate((TORCH, TENSORFLOW, FPROP)):
            book.append(builders.record(order=order, of=of))
        for profile in profiles:
            book.append(profile)
    journal.finish(folder, dataclasses.replace(run, finished_at=builders.START, environments=(builders.environment(),)))
    table.seal(folder)
    (folder / "traces").mkdir()
    (folder / trace_name(TORCH)).write_bytes(gzip.compress(b'{"traceEvents":[]}'))
    return folder


# What is shown -----------------------------------------------------------------------------------------------------------


def test_backends_stand_above_one_another_with_their_kernels_by_time(folder: Path) -> None:
    said = convbench(folder.parents[2], "show", "--kernels")
    assert (said.returncode, said.stderr) == (0, "")
    which, *lines = [line.rstrip() for line in said.stdout.splitlines()]
    assert which.startswith("20260301-")
    assert lines == [
        "conv fprop  n1 c1 k2 4x4 f3x3 p1x1",
        "  torch eager  1.00 µs",
        "    crashed: killed by SIGSEGV",
        "",
        "conv wgrad  n1 c1 k2 4x4 f3x3 p1x1",
        "  tensorflow eager  1.00 µs, watched 1.00 ms, 1.25× of plain",
        "    incomplete: a watched call takes 1.25× the time of a plain one; a watched call takes 1.000 ms, and the run timed",
        "    1.000 µs",
        "    100 %   1.00 ms        1 x  Conv2DBackpropFilter",
        f"      0 %{'':23}1 other",
        "  torch eager  1.00 µs, watched 1.00 µs, 1.01× of plain",
        "     70 %    700 ns        1 x  convolution brg_conv_fwd:avx512_core, acdb to acdb",
        f"     21 %    210 ns{'':13}outside: Python, and waiting",
        "      9 %   90.0 ns        2 x  reorder jit:uni, abcd to acdb, filter",
        "",
    ]


def test_no_line_is_longer_than_the_terminal(folder: Path) -> None:
    reading = Reading(folder)
    for width in (40, 80):
        told = list(kernels.lines(reading.profiles, reading.kernels, width))
        assert max(map(len, told)) <= width
    assert any(line.endswith("…") for line in kernels.lines(reading.profiles, reading.kernels, 40))


def test_of_many_kernels_the_small_ones_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    many = (builders.kernel(60.0, name=f"op{number}", implementation="") for number in range(12))
    reading = Reading(stored((builders.profile(*many, of=TORCH),)))
    told = list(kernels.lines(reading.profiles, reading.kernels, 80))
    assert told[-2] == f"     30 %{'':23}5 others"  # seven of the twelve are told, after what is outside
    assert len(told) == 2 + kernels.MOST + 1 + 1


@pytest.mark.parametrize("format", ["csv", "json", "md"])
def test_as_data_every_column_goes_out_and_expressions_choose(folder: Path, format: str) -> None:
    said = convbench(folder.parents[2], "show", "--kernels", "-k", "torch and wgrad", "--format", format)
    assert (said.returncode, said.stderr) == (0, "")
    assert "calls_per_launch" in said.stdout
    assert "brg_conv_fwd:avx512_core" in said.stdout
    assert "Conv2DBackpropFilter" not in said.stdout


@pytest.mark.parametrize("what", ["kernels", "profiles"])
def test_both_frames_are_exported(folder: Path, what: str) -> None:
    said = convbench(folder.parents[2], "export", "latest", "--what", what, "--to", "out.json")
    assert said.returncode == 0
    rows = json.loads((folder.parents[2] / "out.json").read_text())
    assert len(rows) == {"kernels": 5, "profiles": 3}[what]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--kernels", "-k", "nobody"), "-k: fits none of 3 cells"),
        (("--kernels", "--spent"), "found beside another option"),
        (("--kernels", "--by", "mode"), "--kernels: found beside another option"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    said = convbench(folder.parents[2], "show", *arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert told in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_a_run_without_profiles_says_how_to_get_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stored(())
    said = convbench(tmp_path, "show", "--kernels")
    assert said.returncode == 2
    assert "was profiled; convbench profile SUITE does that" in said.stderr


# Profiling ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked for to be profiled, of which nothing is: the cell of torch has its profile already."""
    found: list[Any] = []

    def profile(suite: Any, selection: Any, **more: Any) -> afterwards.Profiled:
        found.append((suite.name, selection, more))
        return afterwards.Profiled(folder, (str(TORCH),))

    monkeypatch.setattr(afterwards, "profile", profile)
    monkeypatch.setattr(doctor, "urgent", lambda out, threads=None: ())
    monkeypatch.setenv(host.VARIABLE, str(folder / "lock"))
    return found


def profile(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["profile", "first", *arguments])


def test_what_was_profiled_is_printed_and_the_options_narrow_it(asked: list[Any]) -> None:
    said = profile("-k", "wgrad and example", "--backend", "numpy", "--threads", "1")
    assert said.exit_code == 0, said.output
    ((name, selection, more),) = asked
    assert (name, selection.keyword, selection.axes, selection.threads) == (
        "first", "wgrad and example", {"backend": ("numpy",)}, 1,
    )  # fmt: skip
    assert more["lock"] is not None
    assert "brg_conv_fwd:avx512_core" in said.stdout
    assert "Conv2DBackpropFilter" not in said.stdout


def test_a_cell_without_a_profile_is_a_failure(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("results/runs") / builders.run().id
    monkeypatch.setattr(afterwards, "profile", lambda *asked, **more: afterwards.Profiled(folder, (str(TORCH), str(FPROP))))
    said = profile()
    assert said.exit_code == 5
    assert "crashed: killed by SIGSEGV" in said.stdout


@pytest.mark.parametrize("name", ["out.json", "sub/out.json.gz"])
def test_the_trace_of_the_one_cell_is_copied(asked: list[Any], name: str) -> None:
    assert profile("--trace", name).exit_code == 0
    content = Path(name).read_bytes()
    assert (gzip.decompress(content) if name.endswith(".gz") else content) == b'{"traceEvents":[]}'


def test_of_several_cells_none_is_traced(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("results/runs") / builders.run().id
    monkeypatch.setattr(afterwards, "profile", lambda *asked, **more: afterwards.Profiled(folder, (str(TORCH), str(FPROP))))
    said = profile("--trace", "out.json")
    assert isinstance(said.exception, SelectionError)
    assert "--trace: found 2 cells" in str(said.exception)


@pytest.mark.parametrize(
    ("tool", "begins"), [("nsys", "nsys profile "), ("ncu", "ncu --set full "), ("perf", "perf stat -e cycles,instructions,")]
)
def test_a_command_for_another_tool_is_printed_and_nothing_is_run(asked: list[Any], tool: str, begins: str) -> None:
    said = profile("-k", "wgrad and (torch or jax)", "-a", "mode=eager", "--threads", "1", "--print-command", tool)
    assert said.exit_code == 0
    assert asked == []
    (line,) = said.stdout.splitlines()
    assert line.startswith(begins)
    ours = "convbench run first -k 'wgrad and (torch or jax)' --threads 1 -a mode=eager --quick --no-ceilings --no-report"
    assert line.endswith(ours)


def test_every_tool_has_a_command() -> None:
    assert set(room.TOOLS) == set(room.Tool)


# After a run -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "asked_for"),
    [
        ((), None), (("--profile",), ""), (("--profile", "--trials", "1"), ""),
        (("--profile=example and not dgrad",), "example and not dgrad"),
    ],
)  # fmt: skip
def test_a_run_is_profiled_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], asked_for: str | None
) -> None:
    heard: list[str | None] = []

    def measured(suites: Any, selection: Any, limit_s: float, options: Any) -> bool:
        heard.append(options.profile)
        return False

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "measured", measured)
    said = CliRunner().invoke(app, ["run", "first", "--backend", "numpy", *words])
    assert said.exit_code == 0, said.output
    assert heard == [asked_for]


@pytest.mark.parametrize("words", [("--profile=wgrad and",), ("--profile=wgrad", "--resume", "latest")])
def test_a_mistake_in_what_is_profiled_is_told_at_once(tmp_path: Path, words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(app, ["run", *([] if "--resume" in words else ["first"]), *words, "--out", str(tmp_path)])
    assert isinstance(said.exception, SelectionError)


def test_a_run_of_profiles_alone_is_shown_as_what_ran(folder: Path) -> None:
    alone = journal.create(folder.parents[1], builders.run("20260302-023000-bbbb"))
    with journal.Journal(alone) as book:
        book.append(dataclasses.replace(PROFILES[0], run_id=alone.name))
    journal.finish(alone, dataclasses.replace(builders.run(alone.name), finished_at=builders.START, environments=()))
    table.seal(alone)
    said = convbench(folder.parents[2], "show", "latest")
    assert said.returncode == 0
    assert "  torch eager  990 ns, watched 1.00 µs, 1.01× of plain" in said.stdout


def test_which_call_was_profiled_and_why_is_told_of_a_run_of_profiles_alone(folder: Path) -> None:
    """There is no record that could tell: the call and its reason are kept with the profile."""
    alone = journal.create(folder.parents[1], builders.run("20260302-023000-bbbb"))
    told = {"run_id": alone.name, "op": "the other op", "op_reason": "the usual one lies"}
    with journal.Journal(alone) as book:
        book.append(dataclasses.replace(PROFILES[0], **told))
    journal.finish(alone, dataclasses.replace(builders.run(alone.name), finished_at=builders.START, environments=()))
    table.seal(alone)
    said = convbench(folder.parents[2], "show", "latest", "--explain")
    assert said.returncode == 0, said.stderr
    assert "    call: the other op: the usual one lies" in said.stdout
