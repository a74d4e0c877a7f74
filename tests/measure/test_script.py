"""The frame of a script, which is the same for every framework, around calls of the reference."""

import ast
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.axes import Bias, Direction, Epilogue, Optimizer, Precision, Values
from harness.backends.base import Script
from harness.measure.operands import draw
from harness.measure.script import program
from harness.spec import Cell, parse_workload
from tests import builders

SPECS = (
    "n2 c3 k4 8x9 f3x3 p1x1", "n1 c2 k2 7x6 f3x2 s2x3 p0-1x2-1", "n2 c4 k6 8x8 f3x3 p2x2 d2x2 g2", "n2 c4 k8 6x6 f3x3 s2x2 g4",
    "n3 c2 k3 12 f5 s2 p3 d2", "n1 c2 k3 4x5x6 f3x1x2 s1x2x1 p1x0x0-1", "n1 c1 k1 1x1 f1x1",
    "transposed n2 c4 k6 5x4 f3x4 s2x2 p1x0-1 o1x0 g2", "transposed n1 c3 k2 6 f4 s3 p1 d2",
)  # fmt: skip
SINGLE = (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)
IMPORTS = ("from harness.backends.numpy import passes", "from harness.spec import parse_workload")
# A training step of the reference, in float64 but for what it is told of the filter.
LOSS = (
    "def launch():",
    "    y = forward(tx, tw)",
    "    dy = 2 * y / y.size",
    "    dx, dw = dgrad(tw, dy), wgrad(tx, dy)",
    "    return {'y': y, 'loss': np.mean(np.square(y)), 'dx': dx, 'dw': dw, **added(dy)}",
)


def of_reference(cell: Cell, spoil: str = "") -> Script:
    """The call of the reference. `spoil` is a line that may do something to the arrays of a result, `got`, by their names."""
    spec = f"fprop, dgrad, wgrad = passes(parse_workload({str(cell.spec)!r}))"
    needed = ("x", "w", *(name for name in ("dy", "b") if name in cell.reads))
    tensors = [f"t{name} = {name}.astype(np.float64)" for name in needed]
    y = "fprop(x, w)" + " + tb.reshape(-1, *(1,) * (tx.ndim - 2))" * ("b" in cell.reads)
    y = f"np.maximum({y}, 0)" if cell.epilogue is Epilogue.RELU else y
    tensors += ["def forward(x, w):", f"    return {y}"]
    added = "{'db': dy.sum(axis=(0, *range(2, dy.ndim)))}" if "db" in cell.outputs else "{}"
    tensors += ["def added(dy):", f"    return {added}"]
    match cell.direction:
        case Direction.FPROP:
            call: tuple[str, ...] = ("def launch():", "    return {'y': forward(tx, tw)}")
        case Direction.DGRAD:
            call = ("def launch():", "    return {'dx': dgrad(tw, tdy)}")
        case Direction.WGRAD:
            call = ("def launch():", "    return {'dw': wgrad(tx, tdy), **added(tdy)}")
        case Direction.BPROP:
            call = LOSS
        case _:
            step = "0.01 * got['dw']"
            if cell.optimizer is Optimizer.ADAM:
                step += " / (abs(got['dw']) + 1e-8)"
            call = (
                *(line.replace("launch", "both").replace("tw", "now") for line in LOSS),
                "def reset():", "    global now", "    now = tw.copy()",
                "def launch():", "    global now", "    got = both()", f"    now = now - {step}",
                "    return {**got, 'w': now}",
            )  # fmt: skip
    copied = "    got = {name: np.array(value) for name, value in handle.items()}"
    result = ("def result(handle):", copied, f"    {spoil or 'pass'}", "    return got")
    return Script((*IMPORTS, spec), tuple(tensors), call, result, "a call", versions=(("numpy again", "np.__version__"),))


@pytest.mark.parametrize("told", ["abc", "-1", "nan", "inf", "1e3", "."])
def test_what_is_no_number_of_seconds_is_refused_in_one_line(told: str, tmp_path: Path):
    cell = Cell("a", parse_workload(SPECS[0]), Direction.FPROP, "numpy")
    text = program(cell, of_reference(cell), [], builders.environment(), 7)
    (tmp_path / "report.py").write_text(text)
    said = subprocess.run([sys.executable, "report.py", told], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == f"report.py: found {told!r}; allowed: a number of seconds, such as 10 or 0.5\n"


def run(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: str = "0", **given: Any
) -> dict[str, Any]:  # fmt: skip
    """The names that a program leaves, run in this process."""
    monkeypatch.setattr(sys, "argv", ["report.py", seconds])
    names: dict[str, Any] = {"__name__": "__main__", **given}
    exec(compile(text, str(tmp_path / "report.py"), "exec"), names)
    return names


def cell(spec: str, direction: Direction, **axes: Any) -> Cell:
    return builders.cell(workload="one", spec=parse_workload(spec), direction=direction, **axes)


@pytest.fixture(autouse=True)
def _unchanged() -> Iterator[None]:
    """A program changes the cores of its process, and its collection of garbage."""
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)
    gc.enable()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("direction", [*SINGLE, Direction.BPROP])
def test_a_right_result_is_right_by_the_definition(spec, direction, tmp_path, monkeypatch, capsys):
    asked = cell(spec, direction)
    run(program(asked, of_reference(asked), ["a head"], builders.environment(), 7), tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "a call"
    assert "WRONG" not in said
    assert all(said.count(f"{name}: ") == 2 for name in direction.outputs)  # the first call and the last


WITH = [(Bias.CHANNEL, Epilogue.NONE), (Bias.NONE, Epilogue.RELU), (Bias.CHANNEL, Epilogue.RELU)]


@pytest.mark.parametrize(("bias", "epilogue"), WITH)
@pytest.mark.parametrize("spec", [SPECS[1], SPECS[2], SPECS[7]])
def test_the_definition_has_a_bias_and_an_epilogue(spec, bias, epilogue, tmp_path, monkeypatch, capsys):
    asked = cell(spec, Direction.FPROP, bias=bias, epilogue=epilogue)
    run(program(asked, of_reference(asked), [], builders.environment(), 7), tmp_path, monkeypatch)
    assert "WRONG" not in capsys.readouterr().out
    bare = of_reference(cell(spec, Direction.FPROP))
    run(program(asked, bare, [], builders.environment(), 7), tmp_path, monkeypatch)
    assert "WRONG y[" in capsys.readouterr().out


@pytest.mark.parametrize("direction", [Direction.WGRAD, Direction.BPROP])
@pytest.mark.parametrize("spec", [SPECS[1], SPECS[2], SPECS[7]])
def test_the_gradient_of_a_bias_is_compared(spec, direction, tmp_path, monkeypatch, capsys):
    asked = cell(spec, direction, bias=Bias.CHANNEL)
    run(program(asked, of_reference(asked), [], builders.environment(), 7), tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert "WRONG" not in said
    assert said.count("db: ") == 2
    run(program(asked, of_reference(asked, "got['db'] += 1"), [], builders.environment(), 7), tmp_path, monkeypatch)
    assert "WRONG db[" in capsys.readouterr().out


@pytest.mark.parametrize("optimizer", Optimizer)
def test_a_right_training_step_is_right(optimizer, tmp_path, monkeypatch, capsys):
    asked = cell(SPECS[0], Direction.TRAIN, optimizer=optimizer)
    run(program(asked, of_reference(asked), [], builders.environment(), 7), tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert "WRONG" not in said
    assert said.count("w after the step: ") == 2


@pytest.mark.parametrize(("direction", "name"), [*zip(SINGLE, ("y", "dx", "dw"), strict=True)])
def test_a_wrong_result_shows_its_wrong_elements(direction, name, tmp_path, monkeypatch, capsys):
    """Every element is off, so that whichever is drawn is wrong."""
    asked = cell(SPECS[0], direction)
    text = program(asked, of_reference(asked, f"got[{name!r}] += 1"), [], builders.environment(), 7)
    names = run(text, tmp_path, monkeypatch)
    told = [line.split() for line in capsys.readouterr().out.splitlines() if "WRONG" in line]
    assert 15 <= len(told) / 2 <= 24
    value, wanted = float(told[0][-5].rstrip(",")), float(told[0][-1])
    assert value == pytest.approx(wanted + 1)
    assert names["first"][name].shape == asked.results[name]


def test_what_the_run_found_wrong_is_looked_at_first_of_all(tmp_path, monkeypatch, capsys):
    """One element of 576 is off. The run named it, by the sentence that it tells of a wrong result."""
    from harness.measure.wrong import held

    asked = cell(SPECS[0], Direction.FPROP)
    got = np.zeros(asked.results["y"])
    got[1, 2, 3, 4] = 1.0
    reason = f"spot check: {held('y', got, np.zeros_like(got), 1.0, 0.5)}"
    text = program(asked, of_reference(asked, "got['y'][1, 2, 3, 4] += 9"), [], builders.environment(), 7, reason)
    run(text, tmp_path, monkeypatch)
    assert capsys.readouterr().out.count("WRONG y[1, 2, 3, 4]: ") == 2


@pytest.mark.parametrize("reason", ["timeout", "spot check: y is wrong in 3 of 8 elements, the first at [9, 9]: got 1"])
def test_a_reason_that_names_no_element_of_the_result_changes_nothing(reason):
    asked = cell(SPECS[0], Direction.FPROP)
    texts = {program(asked, of_reference(asked), [], builders.environment(), 7, why) for why in ("", reason)}
    assert len(texts) == 1


def test_what_is_not_finite_is_found_wherever_it_is(tmp_path, monkeypatch, capsys):
    asked = cell(SPECS[0], Direction.FPROP)
    spoil = "got['y'][0, 3, 7, 8], got['y'][1, 0, 0, 5] = np.nan, np.inf"
    with np.errstate(invalid="ignore"):
        run(program(asked, of_reference(asked, spoil), [], builders.environment(), 7), tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert said.count("WRONG y[0, 3, 7, 8]: nan") == said.count("WRONG y[1, 0, 0, 5]: inf") == 2


@pytest.mark.parametrize(
    ("spoil", "told"),
    [("got['loss'] *= 2", "WRONG loss"), ("got['w'][0, 0, 0, 0] += 1e-3", "WRONG w after"), ("got['dx'] *= 2", "WRONG dx")],
)
def test_a_wrong_step_is_told(spoil, told, tmp_path, monkeypatch, capsys):
    asked = cell(SPECS[0], Direction.TRAIN, optimizer=Optimizer.SGD)
    run(program(asked, of_reference(asked, spoil), [], builders.environment(), 7), tmp_path, monkeypatch)
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("precision", [precision for precision in Precision if precision is not Precision.TF32])
@pytest.mark.parametrize("values", Values)
def test_the_operands_are_those_of_the_run(values, precision, tmp_path, monkeypatch):
    asked = cell(SPECS[0], Direction.WGRAD, precision=precision, operands=values)
    names = run(program(asked, of_reference(asked), [], builders.environment(), 11), tmp_path, monkeypatch)
    operands, _ = draw(asked, 11)
    for name in ("x", "w", "dy"):
        drawn = getattr(operands, name)
        assert (names[name].dtype, names[name].tobytes()) == (drawn.dtype, drawn.tobytes())


@pytest.mark.parametrize("precision", [Precision.FP64, Precision.BF16])
@pytest.mark.parametrize("values", Values)
def test_the_bias_is_that_of_the_run(values, precision, tmp_path, monkeypatch):
    """It is drawn behind dy, which the forward pass does not read."""
    asked = cell(SPECS[0], Direction.FPROP, precision=precision, operands=values, bias=Bias.CHANNEL)
    names = run(program(asked, of_reference(asked), [], builders.environment(), 11), tmp_path, monkeypatch)
    operands, _ = draw(asked, 11)
    for name in ("x", "w", "b"):
        drawn = getattr(operands, name)
        assert (names[name].dtype, names[name].tobytes()) == (drawn.dtype, drawn.tobytes())


@pytest.mark.parametrize(("values", "right"), [(Values.DENORMAL, True), (Values.NORMAL, False)])
def test_a_kernel_may_take_denormal_numbers_for_zero(values, right, tmp_path, monkeypatch, capsys):
    asked = cell(SPECS[0], Direction.FPROP, operands=values)
    text = program(asked, of_reference(asked, "got['y'] *= 0"), [], builders.environment(), 7)
    run(text, tmp_path, monkeypatch)
    assert ("WRONG" not in capsys.readouterr().out) == right


def test_cores_and_variables_are_set_before_anything_else_is_imported():
    asked = cell(SPECS[0], Direction.FPROP)
    environ = {"OMP_NUM_THREADS": "2", **{f"XLA_FLAG_{n}": "a 'quoted' value" for n in range(9)}}
    tree = ast.parse(program(asked, of_reference(asked), [], builders.environment(environ=environ, affinity=(3, 5)), 7))
    kinds = [ast.unparse(node) for node in tree.body]
    first_import = next(at for at, text in enumerate(kinds) if text.startswith(("import ", "from ")) and text != "import os")
    before = kinds[:first_import]
    assert before[0] == "import os"
    assert ast.literal_eval(tree.body[1].value.args[0]) == environ
    assert before[2:] == ["THREADS = 2", "os.sched_setaffinity(0, {3, 5} & os.sched_getaffinity(0) or os.sched_getaffinity(0))"]


def test_variables_that_a_process_cannot_set_for_itself_stand_in_its_command():
    asked = cell(SPECS[0], Direction.FPROP)
    environ = {"MALLOC_ARENA_MAX": "1", "LD_PRELOAD": "/a b.so", "OMP_NUM_THREADS": "2"}
    text = program(asked, of_reference(asked), [], builders.environment(environ=environ), 7)
    assert "# MALLOC_ARENA_MAX=1 LD_PRELOAD='/a b.so' python report.py" in text
    assert "os.environ.update({\n    'OMP_NUM_THREADS': '2',\n})" in text


def test_nothing_that_the_head_says_is_run():
    asked = cell(SPECS[0], Direction.FPROP)
    told = ["a reason\nimport evil", "\x1b[31mred\r\nimport evil", '"""', ""]
    text = program(asked, of_reference(asked), told, builders.environment(environ={}), 7)
    assert "evil" not in "".join(map(ast.unparse, ast.parse(text).body))
    assert text.splitlines()[:4] == ["# a reason import evil", "# red  import evil", '# """', "#"]


CLOCK = """
class time:
    now = 0
    def perf_counter_ns():
        time.now += 10
        return time.now
"""


def test_a_block_lasts_50_us_and_the_figures_are_those_of_the_blocks(tmp_path, monkeypatch, capsys):
    """By a clock that goes on by 9,990 ns in each call, and by 10 ns when it is read."""
    asked = cell(SPECS[0], Direction.FPROP)
    real = of_reference(asked)
    call = (*real.call, "really = launch", "def launch():", "    time.now += 9_990", "    return really()")
    script = Script((*real.imports, *CLOCK.splitlines()), real.operands, call, real.result, "a call", versions=real.versions)
    names = run(program(asked, script, [], builders.environment(), 7), tmp_path, monkeypatch, seconds="0.001")
    said = capsys.readouterr().out
    assert names["calls"] == 6  # of 9,992 ns, after a first one of 10,000
    assert 12 <= len(names["times"]) <= 17
    assert set(names["times"]) == {(6 * 9_990 + 10) / 6}
    assert "median 10.0 us, 95 % 10.0 to 10.0 us in this process" in said
    flop = 2 * 2 * 4 * 8 * 9 * 3 * 9
    assert f"{flop / names['took']:.3g} GFLOP/s" in said
    assert f"numpy again {np.__version__}" in said


@pytest.mark.parametrize("wait", ["", "handles.append"])
def test_a_call_is_waited_for_where_it_is_not_done(wait, tmp_path, monkeypatch):
    asked = cell(SPECS[0], Direction.FPROP)
    real = of_reference(asked)
    script = Script((*real.imports, "handles = []"), real.operands, real.call, real.result, "a call", wait)
    names = run(program(asked, script, [], builders.environment(), 7), tmp_path, monkeypatch)
    assert bool(names["handles"]) == bool(wait)
    if wait:
        assert len(names["handles"]) >= 4  # the first call, a block of one, the blocks, the last one
