"""`repro`: a cell of a stored run as a program, and as the text of an issue."""

import ast
import dataclasses
import itertools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.axes import Api, Autotune, Bias, Cache, Direction, Epilogue, Layout, Mode, Optimizer, Precision, Switch, Values
from harness.backends.base import Script, unsupported
from harness.backends.jax import JaxBackend
from harness.backends.tensorflow import TensorFlowBackend
from harness.backends.torch import TorchBackend
from harness.cli import app
from harness.cli.repro import written
from harness.errors import UserError
from harness.record import Check, Record, Status
from harness.spec import Cell, GemmSpec, parse_workload
from harness.store import journal, table
from tests import builders

ONE = builders.cell(workload="one")
WGRAD = builders.cell(workload="one", direction=Direction.WGRAD, layout=Layout.CHANNELS_LAST)


def stored(tmp_path: Path, *records: Record, **environment: Any) -> Path:
    """A store with one run of these records; the environment that they name is among those of the run."""
    here = builders.environment(environ={"OMP_NUM_THREADS": "2"}, packages={"torch": "2.13", "numpy": "2.3"}, **environment)
    run = builders.run(environments=(here,))
    folder = journal.create(tmp_path / "results", run)
    with journal.Journal(folder) as book:
        for order, record in enumerate(records):
            book.append(dataclasses.replace(record, order=order, run_id=run.id))
        book.append(here)
    journal.finish(folder, dataclasses.replace(run, finished_at=builders.START))
    table.seal(folder)
    return tmp_path / "results"


def two(tmp_path: Path) -> Path:
    return stored(tmp_path, builders.record(of=ONE), builders.record([2000] * 30, of=WGRAD))


def repro(store: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["repro", "latest", *arguments, "--out", str(store)])


def imported(text: str) -> set[str]:
    """The packages that a program imports."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def test_a_cell_is_printed_as_a_program_of_numpy_and_the_framework(tmp_path: Path) -> None:
    said = repro(two(tmp_path), str(WGRAD))
    assert said.exit_code == 0, said.output
    assert imported(said.stdout) - set(sys.stdlib_module_names) == {"numpy", "torch"}
    head = said.stdout.partition("import os")[0]
    for words in (
        "torch.conv2d: backward filter of n1 c1 k2 4x4 f3x3 p1x1, fp32, NHWC: 2.000 µs", "# measured: 2.000 µs", "(95 %)",
        "# result: largest error 0.25 of the size of a sum, allowed 1; it varies from call to call, by 2e-07",
        "# machine: Some CPU, 2 cores; Linux", "# versions: 3.11.7, torch 2.13, numpy 2.3", "seed 7", f"# cell: {WGRAD}",
    ):  # fmt: skip
        assert words in head, head
    assert "'OMP_NUM_THREADS': '2'" in said.stdout
    assert "rng = np.random.default_rng([7, " in said.stdout
    assert "torch.ops.aten.convolution_backward, tdy, tx, tw" in said.stdout


def test_the_head_says_why_another_call_than_the_usual_one_is_made(tmp_path: Path) -> None:
    store = stored(tmp_path, builders.record(of=WGRAD, op_reason="the usual one lies"), builders.record(of=ONE))
    assert "# why this call: the usual one lies\n" in repro(store, str(WGRAD)).stdout
    assert "| why this call | the usual one lies |\n" in repro(store, str(WGRAD), "--markdown").stdout
    assert "why this call" not in repro(store, str(ONE)).stdout


def test_a_cell_is_named_as_show_shortens_it(tmp_path: Path) -> None:
    """Whatever part of the run is shown: `-k` shortens nothing further."""
    from tests.command import convbench

    store = stored(tmp_path, builders.record(of=ONE), builders.record(of=WGRAD), builders.record(of=builders.cell(mode="xla")))
    for chosen in ((), ("-k", "wgrad")):
        shown = convbench(tmp_path, "show", *chosen, COLUMNS="80", FORCE_COLOR="1").stdout
        assert "one/wgrad/torch/eager/NHWC" in "".join(line.partition("│")[0].strip() for line in shown.splitlines()), shown
    assert repro(store, "one/wgrad/torch/eager/NHWC").stdout == repro(store, str(WGRAD)).stdout != ""


def test_an_expression_that_fits_one_cell_names_it_as_well(tmp_path: Path) -> None:
    store = two(tmp_path)
    assert repro(store, "-k", "wgrad and nhwc").stdout == repro(store, str(WGRAD)).stdout


def test_a_cell_that_failed_is_written_too_and_says_why(tmp_path: Path) -> None:
    reason = "spot check: dw is wrong in 3 of 18 elements compared, the first at [1, 0, 2, 2]: got 1, expected 0"
    wrong = builders.failed(Status.INCORRECT, reason, of=WGRAD)
    said = repro(stored(tmp_path, dataclasses.replace(wrong, check=Check(False, "spot", 9.0, 1.0))), str(WGRAD))
    assert said.exit_code == 0, said.output
    assert f"# measured: incorrect: {reason}" in said.stdout
    assert "NEAR = {'dw': 17}" in said.stdout


@pytest.mark.fault(
    "a cell could not be measured", "it has no program, whose check would be of another call: its row's reason is told"
)
def test_a_cell_that_could_not_be_measured_is_refused_with_its_reason(tmp_path: Path) -> None:
    reason = "an epilogue belongs to the forward pass: wgrad can be measured with epilogue=none only"
    store = stored(tmp_path, builders.failed(Status.UNSUPPORTED, reason, of=WGRAD), builders.record(of=ONE))
    said = repro(store, str(WGRAD))
    assert isinstance(said.exception, UserError)
    assert (said.stdout, str(said.exception)) == ("", f"{WGRAD}: {reason}")


@pytest.mark.parametrize("status", [status for status in Status if status not in (Status.OK, Status.UNSUPPORTED)])
def test_every_other_cell_has_a_program_whose_title_says_what_is_known(tmp_path: Path, status: Status) -> None:
    said = repro(stored(tmp_path, builders.failed(status, "the reason", of=WGRAD)), str(WGRAD))
    assert said.exit_code == 0, said.output
    title, *head = said.stdout.splitlines()
    assert title.endswith(f", fp32, NHWC: {status if status.failed else 'not measured'}")
    assert f"# measured: {status.replace('_', ' ')}: the reason" in head


@pytest.mark.parametrize("status", [Status.NOT_RUN, Status.SKIPPED])
def test_what_no_measurement_would_take_is_refused_though_none_was_asked(tmp_path: Path, status: Status) -> None:
    """A run that was cut off before a cell, say: what it would have been told is told here."""
    layer = builders.cell(api=Api.LAYER, epilogue=Epilogue.RELU)
    said = repro(stored(tmp_path, builders.failed(status, "not yet", of=layer)), str(layer))
    assert str(said.exception) == f"{layer}: api=layer can be measured with epilogue=none only"


SHAPES = (
    "n1 c4 k4 9x9 f3x3 p1x1", "n1 c4 k4 9 f3 p0-1", "transposed n1 c4 k4 5x5 f3x3 p1-0x0", "n1 c4 k8 9x9 f3x3 s2x2 g4",
    "transposed n1 c4 k4 5x5x5 f3x3x3 s2x2x2 p1x1x1 o1x1x1",
)  # fmt: skip
CHANGED = {
    "bias": (Bias.CHANNEL,), "epilogue": (Epilogue.RELU,), "api": (Api.LAYER, Api.DEPTHWISE), "autotune": (Autotune.ON,),
    "switch": (Switch.ONEDNN_OFF, Switch.YNN_OFF), "operands": (Values.DENORMAL,),
}  # fmt: skip


def every(backend: str) -> Iterator[Cell]:
    """The cells of a backend on the CPU in every combination of the axes, an option at its default and at other values."""
    steps = [(each, None) for each in Direction if each not in (Direction.TRAIN, Direction.NONE)]
    steps += [(Direction.TRAIN, optimizer) for optimizer in Optimizer]
    some = builders.cell(backend=backend)
    options = [[getattr(some, name), *values] for name, values in CHANGED.items()]
    for shape, (direction, optimizer), mode, precision, layout in itertools.product(SHAPES, steps, Mode, Precision, Layout):
        at = {"mode": mode, "precision": precision, "layout": layout, "optimizer": optimizer}
        for values in itertools.product(*options):
            yield Cell("one", parse_workload(shape), direction, backend, **at, **dict(zip(CHANGED, values, strict=True)))


@pytest.mark.parametrize("kind", [TorchBackend, JaxBackend, TensorFlowBackend])
def test_whatever_is_unsupported_has_no_program(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a build of TensorFlow has no kernel for it alone knows, and that a compiler is missing only the machine."""
    monkeypatch.setattr(TensorFlowBackend, "_try", lambda backend, asked: None)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    backend, refused, programs = object.__new__(kind), 0, 0
    for number, cell in enumerate(every(kind.name)):
        if unsupported(backend, cell):
            assert not isinstance(written(kind, cell), Script), cell
            refused += 1
        elif number % 5 == 0:
            assert isinstance(written(kind, cell), Script), cell
            programs += 1
    assert refused > 1000
    assert programs > 100


def test_an_issue_has_a_table_and_the_program_in_a_fence_of_its_own(tmp_path: Path) -> None:
    store = stored(tmp_path, builders.record(of=WGRAD, settings={"a|b": "```"}))
    said = repro(store, str(WGRAD), "--markdown")
    program = repro(store, str(WGRAD)).stdout
    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines()
    assert lines[0].startswith("**torch.conv2d: backward filter of n1 c1 k2 4x4 f3x3 p1x1")
    assert "| settings | a\\|b=\\`\\`\\` |" in lines
    assert "| versions | 3.11.7, torch 2.13, numpy 2.3 |" in lines
    assert "numpy and torch alone" in said.stdout
    fence = "````"  # longer than any in the program
    assert f"\n{fence}python\n{program}{fence}\n" in said.stdout


def test_the_environment_is_that_of_the_cell(tmp_path: Path) -> None:
    """Of several of its backend, as of two interpreters that were upgraded in between, it is the one that the row names."""
    store = two(tmp_path)
    folder = table.find(store, "latest")
    run = journal.read_run(folder)
    other = builders.environment(id="env-0", environ={"OMP_NUM_THREADS": "9"})
    journal.finish(folder, dataclasses.replace(run, environments=(other, *run.environments)))
    assert "'OMP_NUM_THREADS': '2'" in repro(store, str(ONE)).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["name one cell, by its id or by -k"]),
        ((str(ONE), "-k", "fprop"), ["name one cell, by its id or by -k"]),
        ((str(ONE).replace("fprop", "fporp"),), ["found", "did you mean", str(ONE)]),
        (("nope",), ['cell: found "nope"; allowed: what convbench show 2026', f"lists, such as {ONE}, {WGRAD}"]),
        (("-k", "conv or one"), ["-k: fits 2 of 2 cells, such as", "allowed: what fits one"]),
        (("-k", "nothing"), ["-k: fits 0 of 2 cells"]),
        (("-k", "fprop and"), ["-k: ", "expected a word"]),
    ],
)
def test_what_names_no_cell_is_told(tmp_path: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    said = repro(two(tmp_path), *arguments)
    assert isinstance(said.exception, UserError)
    assert [word for word in words if word not in str(said.exception)] == [], said.exception


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (builders.cell(cache=Cache.COLD), ["cold caches are not in a script"]),
        (builders.cell(spec=GemmSpec(2, 2, 2), direction=Direction.NONE), ["only a convolution"]),
        (builders.cell(backend="numpy"), ["numpy cannot write a script of conv/fprop/numpy"]),
        (builders.cell(backend="nobody"), ["'nobody' is not registered"]),
        (builders.cell(backend="torch@old"), ["knows no environment of torch@old"]),
    ],
)
def test_what_is_no_script_is_told(tmp_path: Path, of: Any, words: list[str]) -> None:
    said = repro(stored(tmp_path, builders.record(of=of)), str(of))
    assert isinstance(said.exception, UserError)
    assert said.stdout == ""
    assert [word for word in words if word not in str(said.exception)] == [], said.exception


def test_an_adapter_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(cell: object) -> None:
        raise ZeroDivisionError("of another package")

    monkeypatch.setattr(TorchBackend, "script", staticmethod(broken))
    said = repro(two(tmp_path), str(ONE))
    assert isinstance(said.exception, UserError)
    assert "torch cannot write a script of one/fprop/torch" in str(said.exception)
    assert "ZeroDivisionError: of another package" in str(said.exception)


def test_a_mistake_is_one_line_and_code_2(tmp_path: Path) -> None:
    from tests.command import convbench

    two(tmp_path)
    said = convbench(tmp_path, "repro", "latest", "-k", "one")
    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (2, "", 1)
    assert said.stderr.startswith("convbench: -k: fits 2 of 2 cells")
    assert "Example: convbench repro" in convbench(tmp_path, "repro", "--help").stdout
