"""scripts/gpu_acceptance: against answers that are scripted, and whole against a GPU that is none."""

import html
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.axes import Device, Mode, Precision
from harness.measure.gpu import State
from harness.measure.gpu import Told as Answer
from harness.plan import Plan
from harness.record import Check, Record, Status
from harness.spec import CopySpec, GemmSpec
from scripts.gpu_acceptance import checks, command, loops, page, place
from scripts.gpu_acceptance.place import BROKEN, HOLDS, NOT_MADE, Framework, LostError, SaidError, Told
from tests import accelerated, builders, foreign

ROOT = Path(__file__).parents[1]
GPU = Device("gpu", 0)
FACTS = {"name": "NVIDIA H200", "uuid": "GPU-0a0b-cdef", "power limit mW": "700000"}
WORKING = State(1950, 1980, (), 60)


class Board:
    """A GPU that tells what it is told to."""

    def __init__(self, states: Iterator[State] | None = None, watts: float = 600.0) -> None:
        self.reason, self.mig, self.states, self.watts, self.mj = "", False, states, watts, 0.0
        self.free, self.used = Answer(100 * 2**30), Answer(2**30)

    def facts(self) -> dict[str, str]:
        return FACTS

    def read(self) -> State:
        return next(self.states) if self.states else WORKING

    def energy_mj(self) -> Answer:
        self.mj += self.watts * 1e3 * checks.LOOK_S
        return Answer(int(self.mj))

    def free_bytes(self) -> Answer:
        return self.free

    def used_bytes(self) -> Answer:
        return self.used


class Scripted:
    """A place whose processes answer from a script: a value, an error to raise, or a function of what is asked."""

    def __init__(self, board: Board | None = None, **answers: Any) -> None:
        self.frameworks = {"torch": Framework("torch", "", "")}
        self.device, self.left_s, self.used_bytes, self.lacking, self.cores = GPU, 100.0, 2**30, "", (0,)
        self.gpu, self.answers, self.ended, self.out = board or Board(), answers, list[str](), Path("out")

    def begin(self, reserved_s: float) -> float:
        return 200.0 - reserved_s

    def ask(self, name: str, what: str, key: str = "main", meanwhile: Callable[[], None] | None = None, **more: Any) -> Any:
        for _ in range(60 if meanwhile else 0):
            meanwhile()
        answer = self.answers[what]
        answer = answer(key=key, **more) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def start(self, name: str, key: str = "main", **environ: str) -> None:
        return

    def hello(self, name: str, key: str = "main") -> Any:
        return self.ask(name, "hello", key)

    def end(self, name: str, key: str = "main") -> None:
        self.ended.append(key)


def told(number: int, board: Board | None = None, **answers: Any) -> Told:
    """What a check finds with these answers."""
    (check,) = (check for check in checks.CHECKS if check.number == number)
    return check.made(Scripted(board, **answers), 0.0)


# Each of them ------------------------------------------------------------------------------------------------------------

HELLO = {
    "devices": ["cpu", "gpu:0"], "board": {"name": "NVIDIA H200", "uuid": "0a0b-cdef"}, "cuda": "12.9", "packages": {},
}  # fmt: skip
CUDNN = "/env/lib/python3.11/site-packages/nvidia/cudnn/lib/libcudnn.so.9"


@pytest.mark.parametrize(
    ("hello", "libraries", "outcome", "words"),
    [
        ({}, {}, HOLDS, "torch has loaded nvidia/cudnn/lib/libcudnn.so.9"),
        ({"devices": ["cpu"]}, {}, BROKEN, "torch sees cpu"),
        ({}, {"cudnn": []}, BROKEN, "torch has loaded no cuDNN"),
        ({}, {"cudnn": [CUDNN, "/usr/lib/libcudnn.so.9"]}, BROKEN, "libcudnn.so.9, /usr/lib/libcudnn.so.9"),
        ({"cuda": "13.0"}, {}, BROKEN, "is built for CUDA 13.0 and has loaded libraries of CUDA 12"),
        ({"cuda": ""}, {}, HOLDS, "built for CUDA of no version"),
    ],
)
def test_1_a_framework_without_the_gpu_or_with_another_cudnn_is_found(
    hello: dict[str, Any], libraries: dict[str, Any], outcome: str, words: str
) -> None:
    found = told(1, hello=HELLO | hello, libraries={"cudnn": [CUDNN], "cuda": ["12"]} | libraries)
    assert found.outcome == outcome
    assert words in " ".join(found.lines)


@pytest.mark.parametrize(
    ("board", "outcome"),
    [
        ({}, HOLDS), ({"uuid": ""}, HOLDS), ({"uuid": "9999"}, BROKEN), ({"name": "Tesla T4"}, BROKEN),
    ],
)  # fmt: skip
def test_2_another_board_is_found(monkeypatch: pytest.MonkeyPatch, board: dict[str, str], outcome: str) -> None:
    mine = SimpleNamespace(uuid=FACTS["uuid"], reason="", close=lambda: None)
    monkeypatch.setattr(checks, "Gpu", lambda index, environ: mine)
    assert told(2, hello=HELLO | {"board": HELLO["board"] | board}).outcome == outcome
    mine.uuid, mine.reason = "", "fits 0 GPUs"
    assert told(2, hello=HELLO).broken == [f"NVML finds {FACTS['uuid']} by its UUID: fits 0 GPUs"]


TRUE = {Precision.FP32: 2e-7, Precision.TF32: 4e-4, Precision.BF16: 2e-3, Precision.FP16: 2e-4}


@pytest.mark.parametrize(
    ("instead", "outcome"),
    [({}, HOLDS), ({Precision.TF32: 2e-7}, BROKEN), ({Precision.FP32: 4e-4}, BROKEN), ({Precision.BF16: None}, HOLDS)],
)
def test_3_a_precision_that_is_another_one_is_found(instead: dict[Precision, float | None], outcome: str) -> None:
    keys = set()

    def error(key: str, cell: Any) -> dict[str, Any]:
        keys.add((key, cell.precision))
        value = (TRUE | instead)[cell.precision]
        return {"unsupported": "no arithmetic"} if value is None else {"error": value}

    found = told(3, error=error)
    assert found.outcome == outcome
    assert ("tf32", Precision.TF32) in keys  # in a process of its own
    assert len(found.lines) == 5
    if None in instead.values():
        assert "torch bf16: unsupported: no arithmetic" in found.lines


def beside(**instead: Any) -> dict[str, Any]:
    times = {"latency": [1.5e6, 1.52e6], "loop": [1.5e6], "throughput": [1.49e6], "device": [1.48e6], "stay": []}
    return {"status": "ok", "reason": "", **times, **instead}


@pytest.mark.parametrize(
    ("instead", "outcome", "words"),
    [
        ({}, HOLDS, "plain loop 1.500 ms"),
        ({"loop": [1.4e6]}, BROKEN, "plain loop 1.400 ms"),
        ({"throughput": [1.6e6]}, BROKEN, "throughput 1.600 ms"),
        ({"device": [1.6e6]}, BROKEN, "device 1.600 ms"),
        ({"device": []}, BROKEN, "no device was read"),
        ({"status": "unsupported", "reason": "no arithmetic"}, HOLDS, "unsupported: no arithmetic"),
        ({"status": "incorrect", "reason": "y is wrong"}, BROKEN, "incorrect: y is wrong"),
        ({"latency": [1e6], "loop": [1e6], "throughput": [1e6], "device": [1e6]}, BROKEN, "1.1e+15 a second of 9.9e+14"),
        (SaidError("no memory"), BROKEN, "torch gemm: no memory"),
    ],
)
def test_4_a_time_that_a_plain_loop_does_not_have_is_found(instead: Any, outcome: str, words: str) -> None:
    found = told(4, beside=instead if isinstance(instead, Exception) else beside(**instead))
    assert found.outcome == outcome
    assert words in " ".join(found.lines)


@pytest.mark.parametrize(
    ("instead", "outcome"),
    [
        ({}, HOLDS), ({"device": [1e6, None, 1e6, 1e6, 1e6]}, BROKEN), ({"device": [1.1e6] * 5}, BROKEN),
        ({"throughput": 1.2e6}, BROKEN), ({"kernels": 0.9e6}, BROKEN), ({"kernels": 0.99e6}, HOLDS),
    ],
)  # fmt: skip
def test_5_a_device_clock_that_disagrees_or_loses_events_is_found(instead: dict[str, Any], outcome: str) -> None:
    clocks = {"device": [1e6] * 5, "throughput": 1.01e6, "kernels": None, "method": "events", **instead}
    assert told(5, clocks=clocks).outcome == outcome


@pytest.mark.parametrize(
    ("instead", "outcome", "words"),
    [
        ({}, HOLDS, "2 of 72 cells: 2 ok"),
        ({"status": Status.INCORRECT, "reason": "y is wrong", "check": None}, BROKEN, "incorrect: y is wrong"),
        ({"status": Status.UNSUPPORTED, "check": None}, HOLDS, "1 ok, 1 unsupported"),
        ({"check": Check(True, "spot", 0.75, 1.0)}, HOLDS, "fprop/torch/eager/cpu/fp32/nchw/hot/t0: 75.0 % of its tolerance"),
    ],
)
def test_6_a_wrong_result_is_found_and_a_close_one_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, instead: dict[str, Any], outcome: str, words: str
) -> None:
    plans = []

    class Launched:
        def __init__(self, run_id: str, logs: Path, targets: dict[str, str]) -> None: ...

        def execute(self, plan: Plan) -> Iterator[Record]:
            plans.append(plan)
            yield builders.record()
            yield replace(builders.record(), **instead)

    monkeypatch.setattr(checks, "Launcher", Launched)
    found = told(6)
    assert found.outcome == outcome, found.lines
    assert words in " ".join(found.lines)
    (plan,) = plans
    axes = {(str(step.cell.spec), step.cell.direction, step.cell.precision, step.cell.layout) for step in plan}
    assert len(axes) == len(plan) == 3 * 3 * 4 * 2
    assert {(step.trial, step.cell.device, step.cell.mode) for step in plan} == {
        (1, GPU, Mode.EAGER)
    }  # nothing is measured alone


def test_7_a_call_that_is_longer_after_a_trace_is_found() -> None:
    traced = {"before": [1000, 1010], "after": [1005, 1015], "read": True, "method": "events"}
    assert told(7, traced=traced).outcome == HOLDS
    assert told(7, traced=traced | {"after": [1100]}).outcome == BROKEN


STICKY, STARVED = "RuntimeError: CUDA error: unspecified launch failure", "RuntimeError: CUDA out of memory. Tried to allocate"
KEPT = {
    "hold": "",
    "let_go": None,
    "memory": [10, 20, "counter", 2**30],
    "fault": [STICKY],
    "error": {"error": 1e-7},
    "hello": HELLO,
}


def beside_only(nbytes: int, key: str) -> str:
    return STARVED if nbytes < 70 * 2**30 else ""


@pytest.mark.parametrize(
    ("instead", "outcome", "words"),
    [
        ({}, HOLDS, "a broken context is known by: RuntimeError: CUDA error: unspecified launch failure"),
        ({"hold": beside_only}, HOLDS, "torch cannot take 60.6 GiB beside the others: RuntimeError: CUDA out of memory"),
        ({"hold": "RuntimeError: no"}, BROKEN, "cannot take 60.6 GiB beside the others: RuntimeError: no"),
        ({"hold": STARVED}, BROKEN, "cannot take 90.0 GiB alone"),
        ({"memory": [10, 2**31, "counter", 2**30]}, BROKEN, "peak 2.00 GiB by counter, 1.00 GiB held"),
        ({"memory": None}, HOLDS, "the next process computes"),
        ({"fault": ["RuntimeError: what?"]}, BROKEN, "a broken context is known by: RuntimeError: what?"),
        ({"fault": ["", ""]}, BROKEN, "a broken context is known by: nothing"),
        (
            {"fault": LostError("fault: its process ended")},
            HOLDS,
            "a broken context ends the process: fault: its process ended",
        ),
        ({"error": SaidError(STICKY)}, BROKEN, "torch: RuntimeError: CUDA error"),
    ],
)
def test_8_memory_that_is_not_told_and_errors_that_stay_are_found(instead: dict[str, Any], outcome: str, words: str) -> None:
    found = told(8, **KEPT | instead)
    assert found.outcome == outcome
    assert words in " ".join(found.lines)


def test_8_memory_that_does_not_come_back_is_found() -> None:
    board = Board()
    board.used = Answer(2**31)
    assert told(8, board, **KEPT).broken == ["1.00 GiB are missing after all processes have ended"]
    board.used = Answer(None, "Not Supported")
    assert told(8, board, **KEPT).outcome == NOT_MADE


def clocked(state: Callable[[int], State]) -> Iterator[State]:
    """The states of the 100 looks whose cost is measured, then those under load."""
    yield from (WORKING for _ in range(100))
    number = 0
    while True:
        yield state(number)
        number += 1


CAPPED = replace(WORKING, clock_mhz=1200, reasons=("SwPowerCap",))


@pytest.mark.parametrize(
    ("state", "watts", "outcome", "words"),
    [
        (lambda number: WORKING, 600.0, HOLDS, "0 of 60 looks would be set aside"),
        (lambda number: WORKING if number < 5 else CAPPED, 600.0, HOLDS, "55 were at the power limit"),
        (lambda number: replace(WORKING, clock_mhz=1200), 600.0, BROKEN, "59 of 60 looks would be set aside"),
        (lambda number: WORKING if number < 20 else replace(WORKING, clock_mhz=1800), 600.0, BROKEN, "1950 MHz after 0.5 s"),
        (lambda number: WORKING, 900.0, BROKEN, "900 W on average; the limit is 700 W"),
        (lambda number: replace(WORKING, reasons=("GpuIdle",)), 600.0, BROKEN, "was never seen at work in 60 looks"),
    ],
)
def test_9_an_unsteady_clock_and_looks_that_are_set_aside_for_no_reason_are_found(
    monkeypatch: pytest.MonkeyPatch, state: Callable[[int], State], watts: float, outcome: str, words: str
) -> None:
    ticks = (number * checks.LOOK_S for number in range(10_000))
    monkeypatch.setattr(checks.time, "monotonic", lambda: next(ticks))
    monkeypatch.setattr(checks.time, "perf_counter_ns", iter(range(0, 10**9, 1000)).__next__)
    found = told(9, Board(clocked(state), watts), under_load={"calls": 7, "ns": 7})
    assert found.outcome == outcome, found.lines
    assert words in " ".join(found.lines)


def test_9_a_look_that_takes_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.time, "perf_counter_ns", iter(range(0, 10**12, 200_000)).__next__)
    assert "a look at the GPU takes 200 µs" in told(9, under_load={"calls": 7, "ns": 7}).broken


# All of them -------------------------------------------------------------------------------------------------------------


def test_they_are_ten_in_their_order_and_fit_into_eight_minutes() -> None:
    assert [check.number for check in checks.CHECKS] == list(range(1, 11))
    assert checks.LIMIT_S == 480
    assert sum(check.share_s for check in checks.CHECKS) < checks.LIMIT_S
    assert [check.number for check in checks.CHECKS if check.runs] == [10]


def test_what_one_raises_costs_its_own_line_and_no_later_one() -> None:
    made = [replace(check, make=make) for check, make in zip(checks.CHECKS[:3], (_fine, _raises, _fine), strict=True)]
    found = list(checks.all_of(Scripted(), made))
    assert [each.outcome for each in found] == [HOLDS, BROKEN, HOLDS]
    assert found[1].broken == ["_raises: ZeroDivisionError: no such thing"]
    assert page.summary(found) == "2 holds, 1 DOES NOT HOLD"


def _fine(place: Any, told: Told) -> None:
    told.must(True, "well")


def _raises(place: Any, told: Told) -> None:
    raise ZeroDivisionError("no\n such thing")


def test_later_ones_keep_their_share_of_the_time() -> None:
    here = Scripted()
    here.begin = lambda reserved_s: 100.0 - reserved_s
    (late,) = checks.all_of(here, [replace(checks.CHECKS[0], make=_fine)])
    assert late.outcome == HOLDS
    first, _ = checks.all_of(here, [replace(checks.CHECKS[0], make=_fine), replace(checks.CHECKS[1], share_s=101)])
    assert (first.outcome, first.lines) == (NOT_MADE, ["no time was left"])


def test_runs_are_not_made_without_what_convbench_needs_and_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pydantic" else find(name))
    line = "check 10 is a run of convbench and is not made: pydantic is not installed (pip install pydantic)"
    assert command.lacking() == line
    here = Scripted()
    here.lacking = command.lacking()
    found = checks.CHECKS[9].made(here, 0.0)
    assert (found.outcome, found.lines) == (NOT_MADE, [line])


def test_the_page_escapes_what_frameworks_said() -> None:
    found = Told(1, "Is it <fine>?")
    found.must(False, "torch: <script>alert(1)</script>")
    text = page.page("a <board>", [found], ["reports/a&b.html"])
    assert "<script>" not in text
    assert html.escape("<script>alert(1)</script>") in text
    assert 'href="reports/a&amp;b.html"' in text


def test_each_framework_that_is_known_has_an_adapter_and_a_plain_loop() -> None:
    for each in place.KNOWN:
        module, _, name = each.loop.partition(":")
        kind = getattr(sys.modules[module], name)
        assert issubclass(kind, loops.Cuda)
        assert {"gemm", "copy", "hold"} <= set(vars(kind))
        assert each.target == f"harness.backends.{each.name}:{each.target.partition(':')[2]}"


class Driver:
    """CUDA's driver as a library: it takes programs for these targets, and notes what was called."""

    def __init__(self, *targets: str) -> None:
        self.targets, self.called = targets, list[str]()

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.called.append(name)
            text = arguments[1].value.decode() if name == "cuModuleLoadData" else ""
            return 218 if text and not any(f".target {target}\n" in text for target in self.targets) else 0

        return call


@pytest.mark.parametrize(("targets", "loads"), [(("sm_75", "sm_50"), 1), (("sm_50",), 2)])
def test_a_context_is_broken_by_a_program_that_the_driver_takes(
    monkeypatch: pytest.MonkeyPatch, targets: tuple[str, ...], loads: int
) -> None:
    driver = Driver(*targets)
    monkeypatch.setattr(loops.ctypes, "CDLL", lambda name: driver)
    loops.trap(0)
    assert driver.called.count("cuModuleLoadData") == loads
    assert driver.called[-1] == "cuLaunchKernel"
    driver.targets = ()
    with pytest.raises(RuntimeError, match="no program for sm_75, sm_50 is taken"):
        loops.trap(0)


# Without a GPU -----------------------------------------------------------------------------------------------------------


def script(*options: str, python: tuple[str, ...] = (), **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, str(ROOT / "scripts" / "gpu_acceptance"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})


def test_without_a_gpu_it_ends_with_code_5_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("def nvmlInit():\n    raise RuntimeError('Driver Not Loaded')\n")
    done = script(PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "gpu_acceptance: no GPU can be asked: NVML: Driver Not Loaded\n"


def test_without_numpy_too() -> None:
    done = script(python=("-S", "-E"))
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "gpu_acceptance: numpy is not installed, and nothing is measured without it\n"


def test_a_gpu_that_no_framework_sees_is_code_5_and_each_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setitem(sys.modules, "pynvml", accelerated.nvml())
    targets = {"torch": "tests.isolate.backends:Plain", "jax": "tests.isolate.backends:Refusing"}
    monkeypatch.setattr(place, "KNOWN", [Framework(name, target, "") for name, target in targets.items()])
    assert command.main(["--backend", "torch,jax,caffe"]) == 5
    told = "caffe: no check knows it; torch: built for the CPU; jax: RuntimeError: built for another CPU"
    assert capsys.readouterr().err == f"gpu_acceptance: no framework here sees gpu:0: {told}\n"


# With one that is none ---------------------------------------------------------------------------------------------------

SUITE = """
[suite]
name = "tiny"
[axes]
direction = ["fprop"]
mode = ["eager"]
[budget]
trials = 1
visits = 2
visit_s = 0.001
warmup_gpu_s = 0.0
warmup_max_s = 0.02
throughput_block_s = 0.001
energy_window_s = 0.0
[[workload]]
name = "rn50_tiny"
n = 1
c = 2
k = 3
spatial = [5, 5]
kernel = 3
padding = "same"
"""


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, dict[str, Any], list[str]]]:
    """Makes checks on a GPU that is none: the exit code, what the file holds of them, and the names in it."""
    accelerated.plant(tmp_path, "torch", "jax")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    monkeypatch.setenv(accelerated.CUDNN, str(tmp_path / "libcudnn.so.9"))
    monkeypatch.setitem(sys.modules, "pynvml", accelerated.nvml())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SUITE)
    sizes = {
        "LONG": checks.SHORT, "GEMM": GemmSpec(64, 64, 64), "COPY": CopySpec(2**16), "LONG_CALLS": 2, "SHORT_CALLS": 3,
        "READINGS": 2, "STRETCH_S": 0.1, "LOAD_S": 0.8, "REPEAT_S": 3.0, "TINY": checks.TINY[2:],
        "REPEATED": (str(tmp_path / "tiny.toml"),),
    }  # fmt: skip
    for name, value in sizes.items():
        monkeypatch.setattr(checks, name, value)

    def make(*names: str, only: str = "") -> tuple[int, dict[str, Any], list[str]]:
        known = [Framework(name, accelerated.ADAPTER, accelerated.LOOP) for name in names]
        monkeypatch.setattr(place, "KNOWN", known)
        code = command.main(["--to", str(tmp_path / "all.tar.gz"), *(["--check", only] if only else [])])
        with tarfile.open(tmp_path / "all.tar.gz") as file:
            inside = file.extractfile("all/acceptance.json")
            assert inside
            return code, json.load(inside), file.getnames()

    return make


def test_what_needs_no_time_holds_on_a_gpu_that_is_none(there: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    code, found, names = there("torch", only="1,2,3,6,8")
    said = capsys.readouterr().out
    assert {each["number"]: each["outcome"] for each in found["checks"]} == dict.fromkeys((1, 2, 3, 6, 8), HOLDS), said
    assert code == 0
    assert "Some GPU, driver 570.1, torch" in said
    assert {"all/acceptance.html", "all/acceptance.txt", "all/logs/torch.log"} <= set(names)


BARE = """
import sys
from scripts.gpu_acceptance import command, place
place.KNOWN = [place.Framework("torch", "{adapter}", "{loop}")]
sys.exit(command.main(["--check", "1,10", "--to", "{to}"]))
"""


def test_where_numpy_alone_is_installed_it_checks_all_but_the_run(tmp_path: Path) -> None:
    """Not even convbench is: its files are there."""
    python = foreign.environment(tmp_path / "env")
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    accelerated.plant(fakes, "torch")
    code = BARE.format(adapter=accelerated.ADAPTER, loop=accelerated.LOOP, to=tmp_path / "all.tar.gz")
    environ = {"PATH": os.environ["PATH"], accelerated.CUDNN: str(fakes / "libcudnn.so.9")}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(fakes)])
    done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=False, env=environ)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[1].startswith(
        "check 10 is a run of convbench and is not made: jinja2, matplotlib, pandas, pyarrow, pydantic, "
    )
    assert [line for line in lines if line.startswith((" 1 holds", "10 not made"))][1:]
    assert lines[-2] == "1 holds, 1 not made"


@pytest.mark.long
def test_all_ten_are_made_on_a_gpu_that_is_none(there: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Those that hold two times against each other may fail on a busy machine; that they were made is told by their figures."""
    code, found, names = there("torch", "jax")
    said = capsys.readouterr().out
    made = {each["number"]: each for each in found["checks"]}
    assert list(made) == list(range(1, 11))
    assert {number: made[number]["outcome"] for number in (1, 2, 3, 6, 8)} == dict.fromkeys((1, 2, 3, 6, 8), HOLDS), said
    assert code == int(any(each["outcome"] == BROKEN for each in found["checks"]))
    assert not [line for each in found["checks"] for line in each["lines"] if "Error" in line and each["number"] != 8], said
    for number in (4, 5, 7):
        assert set(made[number]["figures"]) == {"torch", "jax"}, said
    assert made[9]["figures"]["torch"]["calls"] > 0
    assert "W on average; the limit is 300 W" in " ".join(made[9]["lines"])
    assert made[6]["figures"]["all"]["counts"] == {"ok": 3 * 4 * 2 * 2}
    assert "called different" in " ".join(made[10]["lines"])
    assert len([name for name in names if name.startswith("all/reports/") and name.endswith(".html")]) >= 1
