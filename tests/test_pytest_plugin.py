"""The plug-in in real sessions of pytest, on the reference and on scripted backends, and with each framework once."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.axes import Device, Direction, Optimizer
from harness.backends import registry
from harness.execution import host
from harness.pytest_plugin import worker
from tests import builders

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
# A session takes five times as long to start where the plug-ins of these tests are loaded too, of which it uses none.
OTHERS = ("cacheprovider", "hypothesispytest", "xdist", "xdist.looponfail", "pytest_cov")
QUICK = ("--benchmark-max-time=0.001", "--benchmark-min-rounds=3", *(f"-pno:{name}" for name in OTHERS))
OUT = "--benchmark-json=out.json"

SUITE = """
[suite]
name = "tiny"
[axes]
direction = ["fprop", "wgrad", "train"]
backend = ["plain", "other"]
[budget]
timeout_s = 60.0
[[workload]]
name = "conv"
n = 1
c = 2
k = 3
spatial = [5, 5]
kernel = [3, 3]
padding = "same"
"""

# Each row tells the process that made it; the moods go by the workload's name.
BACKENDS = """
import os, signal, subprocess, sys
from harness.backends.numpy import NumpyBackend, NumpyConvolution

class Once(NumpyConvolution):
    used = True  # until it is reset

    def reset(self):
        super().reset()
        self.used = False

    def launch(self):
        if self.used and self._cell.optimizer:
            raise RuntimeError("it was not reset")
        self.used = True
        return super().launch()

class Plain(NumpyBackend):
    @staticmethod
    def environ(device, threads, cache=""):
        return {"PLAIN_THREADS": str(threads)}

    def __init__(self, device, threads):
        assert "numpy" not in sys.modules and "PLAIN_THREADS" in os.environ
        super().__init__(device, threads)

    def prepare(self, cell, operands):
        getattr(self, cell.workload, lambda: None)()
        prepared = Once(self._np, cell, operands)
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        prepared.settings = {"pid": str(os.getpid()), "threads": os.environ["OMP_NUM_THREADS"], "cores": cores}
        if cell.workload == "wrong":
            fetch = prepared.fetch
            prepared.fetch = lambda handle: type(fetch(handle))(y=fetch(handle).y + 1)
        if cell.workload == "later":
            launch, calls = prepared.launch, iter(range(1000000))
            prepared.launch = lambda: (next(calls) == 5 and prepared._x.__imul__(2), launch())[1]
        return prepared

    def crash(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def leaves(self):
        os._exit(3)

    def hang(self):
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        print(child.pid, file=open("child.pid", "w"), flush=True)
        signal.pause()

    def fails(self):
        raise ValueError("cannot do this one")

class Graphics(Plain):
    autotunes = True

    def supports(self, cell):
        return None

    def prepare(self, cell, operands):
        prepared = super().prepare(cell, operands)
        prepared.settings["autotune"] = os.environ.get("CONVBENCH_AUTOTUNE", "default")
        return prepared

class Other(Plain):
    pass

class Broken(Plain):
    def __init__(self, device, threads):
        raise ImportError("no such library")

class Absent(Plain):
    distributions = ("no_such_package_anywhere",)

class Early(Plain):
    distributions = ("early",)
"""

Run = Callable[..., pytest.RunResult]


def workload(name: str) -> str:
    return SUITE[SUITE.index("[[workload]]") :].replace('"conv"', f'"{name}"')


def registered(*backends: str) -> None:
    """Register the plug-in as pyproject.toml says, and these of the backends above, at each of which a process is to look."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    scripted = {name: f"scripted:{name.capitalize()}" for name in backends}
    text = "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
        for group, entries in {"pytest11": points, "harness.backends": scripted}.items()
    )
    Path("installed/planted-0.dist-info/entry_points.txt").write_text(text)


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A session in a folder of its own, where the plug-in is registered and two backends are."""
    info = pytester.mkdir("installed") / "planted-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 0\n")
    (info.parent / "scripted.py").write_text(BACKENDS)
    registered("plain", "other")
    pytester.mkdir("suites").joinpath("tiny.toml").write_text(SUITE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(info.parent)]))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess(*QUICK, *arguments)

    return run


def with_one_backend() -> None:
    """Three cells instead of six, in one process instead of two."""
    registered("plain")
    Path("suites/tiny.toml").write_text(SUITE.replace('"plain", "other"', '"plain"'))


def written() -> dict[str, Any]:
    return json.loads(Path("out.json").read_text())


def facts(name: str) -> dict[str, set[str]]:
    """A setting that the rows tell, by backend."""
    found: dict[str, set[str]] = {}
    for benchmark in written()["benchmarks"]:
        found.setdefault(benchmark["extra_info"]["backend"], set()).add(benchmark["extra_info"]["settings"][name])
    return found


# What is asked for, and what comes of it ----------------------------------------------------------------------------------


def test_every_cell_is_a_test_in_the_process_of_its_framework_and_carries_its_columns(session: Run) -> None:
    session("--convbench", "tiny", OUT).assert_outcomes(passed=6)
    data = written()
    ids = [f"conv/{way}/{backend}/eager/cpu/fp32/nhwc/hot/t0{slots}"
           for way, slots in (("fprop", ""), ("wgrad", ""), ("train", "/sgd")) for backend in ("plain", "other")]  # fmt: skip
    assert [benchmark["name"] for benchmark in data["benchmarks"]] == ids
    assert [benchmark["fullname"] for benchmark in data["benchmarks"]] == [f"suites/tiny.toml::{id}" for id in ids]
    assert {benchmark["group"] for benchmark in data["benchmarks"]} == {"conv fprop", "conv wgrad", "conv train"}
    assert all(len(benchmark["stats"]["data"]) >= 3 for benchmark in data["benchmarks"])
    assert all(benchmark["options"]["disable_gc"] for benchmark in data["benchmarks"])
    pids = facts("pid")
    assert {backend: len(found) for backend, found in pids.items()} == {"plain": 1, "other": 1}
    assert pids["plain"] != pids["other"]
    assert facts("threads")["plain"] == {str(len(os.sched_getaffinity(0)))}
    columns = data["benchmarks"][4]["extra_info"]
    assert (columns["suite"], columns["workload"], columns["shape"]) == ("tiny", "conv", "n1 c2 k3 5x5 f3x3 p1x1")
    assert (columns["direction"], columns["optimizer"], columns["layout"], columns["count"]) == ("train", "sgd", "NHWC", 1)
    assert columns["check_method"] == "spot"
    assert columns["max_rel_err"] <= columns["tolerance"]
    assert columns["op"].startswith("harness.backends.numpy: train")
    assert columns["op_reason"] == ""
    assert columns["environment_id"] in {environment["id"] for environment in data["convbench"]["environments"]}
    assert {environment["backend"] for environment in data["convbench"]["environments"]} == {"plain", "other"}


def test_threads_have_processes_and_cores_of_their_own(session: Run) -> None:
    Path("suites/tiny.toml").write_text(SUITE.replace("[budget]", "threads = [1, 0, 4096]\n[budget]"))
    result = session("--convbench", "tiny", "--convbench-backend", "plain", "-k", "fprop", "-rs", OUT)
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["*unsupported: asks for 4096 threads; this process may use * cores"])
    assert len(facts("pid")["plain"]) == 2
    assert facts("threads")["plain"] == {"1", str(len(os.sched_getaffinity(0)))}
    assert "1" in {str(len(cores.split(","))) for cores in facts("cores")["plain"]}


def test_on_a_gpu_no_process_holds_both_sides_of_tf32_or_of_autotuning(session: Run) -> None:
    """TensorFlow keeps the plan that cuDNN was fastest with, whatever the precision, and reads at its import what to try."""
    registered("graphics")
    axes = 'direction = ["fprop", "wgrad"]\nbackend = ["graphics"]\ndevice = ["gpu"]\nprecision = ["fp32", "tf32"]\n'
    asked = SUITE.replace('direction = ["fprop", "wgrad", "train"]\nbackend = ["plain", "other"]\n', axes)
    Path("suites/tiny.toml").write_text(asked.replace("[budget]", 'autotune = ["default", "on"]\n[budget]'))
    session("--convbench", "tiny", OUT).assert_outcomes(passed=8)
    rows = [benchmark["extra_info"] for benchmark in written()["benchmarks"]]
    held: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        held.setdefault(row["settings"]["pid"], []).append((row["precision"], row["settings"]["autotune"]))
    assert sorted(map(set, held.values()), key=sorted) == [
        {("fp32", "default")}, {("fp32", "on")}, {("tf32", "default")}, {("tf32", "on")}
    ]  # fmt: skip
    assert {row["autotune"] for row in rows} == {"", "on"}


@pytest.mark.fault(
    "pytest --convbench begins while a run measures",
    "it ends at once and names the run",
)
def test_a_session_is_refused_while_a_run_measures_and_holds_the_lock_itself(session: Run, tmp_path: Path) -> None:
    with_one_backend()
    with host.alone() as lock:
        lock.tell("the-first")
        assert "3 tests collected" in str(session("--convbench", "tiny", "--collect-only", "-q").outlines)
        refused = session("--convbench", "tiny", "-k", "fprop")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stdout.fnmatch_lines(["*convbench: another run is measuring on this host*: run the-first, pid *"])
    held = "from harness.execution import host\ndef test_it():\n    assert not host.Lock().take()\n"
    Path("test_held.py").write_text(held)
    session("--convbench", "tiny", "-k", "fprop or test_it", "suites/tiny.toml", "test_held.py").assert_outcomes(passed=2)
    with host.alone():
        pass


def test_ids_are_listed_and_chosen_from_as_those_of_any_tests(session: Run) -> None:
    listed = session("--convbench", "tiny", "--collect-only", "-q").outlines
    assert "suites/tiny.toml::conv/train/other/eager/cpu/fp32/nhwc/hot/t0/sgd" in listed
    session("--convbench", "tiny", "-k", "wgrad and not other").assert_outcomes(passed=1, deselected=5)
    session("--convbench", "tiny", "--convbench-backend", "other").assert_outcomes(passed=3)
    session("--convbench", "tiny", "--convbench-backend=numpy", "-k", "fprop").assert_outcomes(passed=1, deselected=2)
    session("--convbench", "tiny", listed[0]).assert_outcomes(passed=1)


def test_cells_stand_beside_ordinary_tests_whose_fixtures_are_down_meanwhile(session: Run, pytester: pytest.Pytester) -> None:
    with_one_backend()
    pytester.makeconftest("""
        import pytest

        @pytest.fixture(scope="session", autouse=True)
        def server():
            open("server", "w").close()
            yield
            __import__("os").remove("server")
    """)
    pytester.makepyfile(
        test_a="def test_a(benchmark): benchmark(dict)",
        test_b="from harness.pytest_plugin import Cells\n\ntest_tiny = Cells('tiny')\n",
        test_c="import os\n\ndef test_c(): assert os.path.exists('server')",
    )
    session(OUT).assert_outcomes(passed=5)
    names = [benchmark["fullname"] for benchmark in written()["benchmarks"]]
    assert names[0] == "test_a.py::test_a"
    assert names[1] == "test_b.py::conv/fprop/plain/eager/cpu/fp32/nhwc/hot/t0"
    assert len(names) == 4
    session("--convbench", "tiny", "test_a.py").assert_outcomes(passed=4)  # what is named, and the suite
    session("--convbench", "tiny").assert_outcomes(passed=3)  # the suite alone
    assert not Path("server").exists()


def test_pytest_benchmark_compares_the_file_and_its_switches_work(session: Run) -> None:
    with_one_backend()
    session("--convbench", "tiny", OUT).assert_outcomes(passed=3)
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "out.json", "--columns=median,rounds"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "conv wgrad" in told
    assert "conv/wgrad/plain/eager/cpu/fp32/nhwc/hot/t0" in told
    session("--convbench", "tiny", "--benchmark-only").assert_outcomes(passed=3)
    session("--convbench", "tiny", "--benchmark-skip").assert_outcomes(skipped=3)
    session("--convbench", "tiny", "--benchmark-disable").assert_outcomes(passed=3)


# What goes wrong ----------------------------------------------------------------------------------------------------------


def moods(*names: str, backends: str = '"plain"', timeout_s: float = 60.0) -> None:
    head = SUITE[: SUITE.index("[[workload]]")].replace('"fprop", "wgrad", "train"', '"fprop"')
    head = head.replace('"plain", "other"', backends).replace("60.0", str(timeout_s))
    Path("suites/tiny.toml").write_text(head + "".join(map(workload, names)))


def test_a_process_that_dies_fails_its_test_and_the_next_gets_a_new_one(session: Run) -> None:
    moods("before", "crash", "leaves", "after")
    result = session("--convbench", "tiny", OUT)
    result.assert_outcomes(passed=2, failed=2)
    deaths = [
        "*crashed: its process was killed by SIGSEGV in the first call*",
        "*its process left with code 3 in the first call*",
    ]
    result.stdout.fnmatch_lines(deaths)
    data = written()
    assert [row["status"] for row in data["convbench"]["unmeasured"]] == ["crashed", "crashed"]
    assert [benchmark["extra_info"]["workload"] for benchmark in data["benchmarks"]] == ["before", "after"]
    assert len(facts("pid")["plain"]) == 2


def test_the_first_failure_ends_the_session_where_that_was_asked_for(session: Run) -> None:
    moods("before", "crash", "after")
    result = session("--convbench", "tiny", "-x")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])


def test_a_process_that_falls_silent_is_ended_with_what_it_started(session: Run) -> None:
    moods("hang", "after", timeout_s=5.0)
    result = session("--convbench", "tiny")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*timeout: took longer than 5.001 s and was ended in the first call*"])
    child = Path("child.pid").read_text().strip()
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_a_framework_throws_is_told_and_costs_no_process(session: Run) -> None:
    moods("before", "fails", "after")
    result = session("--convbench", "tiny", OUT)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E *ValueError: cannot do this one"])
    (row,) = written()["convbench"]["unmeasured"]
    assert (row["status"], row["reason"]) == ("error", "ValueError: cannot do this one")
    assert len(facts("pid")["plain"]) == 1
    session("--convbench", "tiny", "--pdb").assert_outcomes(passed=2, failed=1)


@pytest.mark.fault("a result is wrong under pytest", "the test fails untimed, and the next has a fresh process")
def test_a_wrong_result_fails_and_is_not_timed_and_the_next_test_gets_a_new_process(session: Run) -> None:
    moods("before", "wrong", "after")
    result = session("--convbench", "tiny", OUT)
    result.assert_outcomes(passed=2, failed=1)
    assert len(facts("pid")["plain"]) == 2
    result.stdout.fnmatch_lines(["*incorrect: spot check: y is wrong in 75 of 75 elements compared, the first at *"])
    assert [benchmark["extra_info"]["workload"] for benchmark in written()["benchmarks"]] == ["before", "after"]


@pytest.mark.fault("a result goes wrong while pytest-benchmark times it", "the test fails, and has no time")
def test_a_result_that_goes_wrong_while_it_is_timed_fails_and_has_no_time(session: Run) -> None:
    moods("later", "after")
    result = session("--convbench", "tiny", OUT)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*incorrect: right in the first call, wrong in one made after the clock had stopped: y is wrong*"]
    )
    assert [benchmark["extra_info"]["workload"] for benchmark in written()["benchmarks"]] == ["after"]
    (row,) = written()["convbench"]["unmeasured"]
    assert (row["workload"], row["status"]) == ("later", "incorrect")
    assert written()["benchmarks"][0]["extra_info"]["results_vary"] == 0


def test_what_cannot_be_measured_is_skipped_with_the_reason(session: Run) -> None:
    registered("plain", "absent")
    moods("conv", backends='"plain", "absent"')
    axes = 'mode = ["eager", "compiled"]\ncache = ["hot", "cold"]\n[budget]'
    Path("suites/tiny.toml").write_text(Path("suites/tiny.toml").read_text().replace("[budget]", axes))
    result = session("--convbench", "tiny", "-rs", OUT)
    result.assert_outcomes(passed=1, skipped=7)
    told = [
        "*unsupported: pytest-benchmark cannot overwrite the caches between calls*",
        "*unsupported: numpy has no mode compiled",
        "*skipped: absent is not installed: pip install no_such_package_anywhere",
    ]
    result.stdout.fnmatch_lines_random(told)
    assert len(written()["convbench"]["unmeasured"]) == 7


def test_a_backend_with_an_interpreter_of_its_own_is_skipped_with_the_reason(session: Run) -> None:
    """The processes are forks of the session: its cells would be another version's than the suite names."""
    moods("conv", backends='"plain", "other"')
    pythons = '\n[python]\n"other" = "nowhere/bin/python"\n"plain@old" = "nowhere/bin/python"\n'
    Path("suites/tiny.toml").write_text(Path("suites/tiny.toml").read_text() + pythons)
    result = session("--convbench", "tiny", "-rs", OUT)
    result.assert_outcomes(passed=1, skipped=2)
    told = [f"*skipped: {name} has an interpreter of its own, and under pytest*" for name in ("other", "plain@old")]
    result.stdout.fnmatch_lines_random(told)
    assert [row["status"] for row in written()["convbench"]["unmeasured"]] == ["skipped"] * 2


def test_one_whose_package_is_in_an_environment_beside_the_session_s_is_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / ".venv-numpy" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert worker._elsewhere("numpy", {}) is None  # it is in the session's as well
    monkeypatch.setattr(registry, "installed", lambda name: False)
    assert str(worker._elsewhere("numpy", {})).startswith(
        "numpy has an interpreter of its own, and under pytest cells run in the"
    )


def test_a_backend_that_cannot_be_set_up_fails_with_one_line(session: Run) -> None:
    registered("broken")
    moods("conv", backends='"broken"')
    result = session("--convbench", "tiny")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*error: broken could not be set up: ImportError: no such library"])


def test_a_framework_that_the_project_imported_already_is_refused(session: Run, pytester: pytest.Pytester) -> None:
    registered("plain", "early")
    moods("conv", backends='"plain"')
    (pytester.path / "installed" / "early.py").write_text("")
    pytester.makeconftest("import early")
    result = session("--convbench", "tiny")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*error: early was imported by a conftest.py or a plug-in, before*--noconftest"])
    session("--convbench", "tiny", "--noconftest").assert_outcomes(passed=1)


def test_warnings_of_a_framework_are_no_errors_of_the_project(session: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nfilterwarnings = error")
    moods("wrong")  # fails before the fixture is used, of which the fixture warns
    session("--convbench", "tiny").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--convbench", "tinny"], 'no suite "tinny"; did you mean "tiny"?'),
        (["--convbench", "tiny", "--convbench-backend", "plian"], 'backend: found "plian"'),
        (["--convbench", "tiny", "-p", "no:benchmark"], "cells are timed by pytest-benchmark: pip install 'convbench[pytest]'"),
        (
            ["--convbench", "tiny", "--benchmark-cprofile=tottime"],
            "--benchmark-cprofile: found beside cells; each is timed alone",
        ),
        (["test_typo.py"], 'no suite "tinny"'),
    ],
)
def test_a_mistake_is_told_in_a_line(session: Run, pytester: pytest.Pytester, arguments: list[str], words: str) -> None:
    pytester.makepyfile(test_typo="from harness.pytest_plugin import Cells\n\ntest_tiny = Cells('tinny')\n")
    if "no:benchmark" in arguments:
        result = pytester.runpytest_subprocess(*arguments)
    else:
        result = session(*arguments)
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED)
    lines = [line for line in [*result.outlines, *result.errlines] if words in line]
    assert lines
    assert not any("Traceback" in line or "pytest_plugin.py" in line for line in [*result.outlines, *result.errlines])


def test_distributed_tests_are_refused(session: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_configure(config): config.workerinput = {}")  # what marks a worker of pytest-xdist
    result = session("--convbench", "tiny")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*-n: found beside cells*"])


# What it costs those who do not ask ---------------------------------------------------------------------------------------

WATCH = """
import sys

HEAVY = {"numpy", "pandas", "pyarrow", "pydantic", "typer", "torch", "tensorflow", "jax"}

def pytest_terminal_summary(terminalreporter):
    found = {name.partition(".")[0] for name in sys.modules} & HEAVY | {name for name in sys.modules if "harness" in name}
    terminalreporter.write_line(f"LOADED {sorted(found)}")
"""


def test_nothing_is_loaded_where_nobody_asks(session: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(WATCH)
    pytester.makepyfile("def test_nothing(): pass")
    result = session()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["LOADED ?'harness', 'harness.pytest_plugin'?"])


def test_the_session_itself_loads_no_numpy_so_that_a_fork_can_settle_its_threads(
    session: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(WATCH)
    result = session("--convbench", "tiny", OUT)
    result.assert_outcomes(passed=6)
    (loaded,) = [line for line in result.outlines if line.startswith("LOADED")]
    assert "'pydantic'" in loaded
    assert [name for name in ("'numpy'", "'pandas'", "'torch'", "'jax'") if name in loaded] == []


# What the fixture times ---------------------------------------------------------------------------------------------------


class Scripted:
    """A prepared call and a fixture that note what happens in which order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def launch(self) -> str:
        self.events.append("launch")
        return "handle"

    def wait(self, handle: Any) -> None:
        self.events.append(f"wait {handle}")

    def reset(self) -> None:
        self.events.append("reset")

    def __call__(self, call: Callable[[], object]) -> None:
        self.events.append("begin")
        assert call() is None
        self.events.append("end")

    def pedantic(self, call: Callable[[], object], *, setup: Callable[[], object], rounds: int) -> None:
        assert setup() is None
        self.events += ["begin"]
        assert call() is None
        self.events += ["end", f"{rounds} rounds or more" if rounds == 7 else "more rounds"]


@pytest.mark.parametrize(
    ("direction", "device", "events"),
    [
        (Direction.FPROP, "cpu", ["begin", "launch", "wait handle", "end"]),
        (Direction.TRAIN, "cpu", ["reset", "launch", "wait handle"]),
        (Direction.TRAIN, "gpu", ["reset", "wait None", "launch", "wait handle"]),
    ],
)
def test_launch_and_wait_are_timed_and_nothing_else(direction: Direction, device: str, events: list[str]) -> None:
    scripted = Scripted()
    optimizer = Optimizer.SGD if direction is Direction.TRAIN else None
    cell = builders.cell(direction=direction, optimizer=optimizer, device=Device(device))
    options = {"benchmark_min_rounds": 7, "benchmark_max_time": "0.0"}
    test: Any = SimpleNamespace(cell=cell, config=SimpleNamespace(getoption=options.get))
    wall_ns, cpu_ns = worker._clocked(test, scripted, scripted)  # type: ignore[arg-type]
    if direction is Direction.TRAIN:  # once for the number of rounds, then in the fixture, with the reset before its clock
        before, call = events[:-2], events[-2:]
        events = [*events, *before, "begin", *call, "end", "7 rounds or more"]
    assert scripted.events == events
    assert wall_ns > 0
    assert cpu_ns >= 0


# The real thing -----------------------------------------------------------------------------------------------------------


def test_the_shipped_tests_of_the_first_suite_are_its_cells(session: Run) -> None:
    listed = session(str(ROOT / "suites" / "test_first.py"), "--rootdir", str(ROOT), "-c", os.devnull, "--collect-only", "-q")
    ids = [line.partition("::")[2] for line in listed.outlines if "::" in line]
    assert len(ids) == 102
    assert {id.split("/")[2] for id in ids} == {"tensorflow", "torch", "jax"}


@pytest.mark.parametrize("backend", [name for name in registry.names() if registry.installed(name)])
def test_each_framework_passes(session: Run, backend: str) -> None:
    """A call that waits, a training step that is reset, and what the rows tell."""
    chosen = ("--convbench-backend", backend, "-k", "tiny_3x3_s2 and (dgrad or train)")
    session("--convbench", str(ROOT / "suites" / "smoke.toml"), *chosen, OUT).assert_outcomes(passed=2, deselected=13)
    for benchmark in written()["benchmarks"]:
        assert benchmark["extra_info"]["status"] == "ok"
        assert benchmark["extra_info"]["op"]
        assert benchmark["stats"]["median"] > 0


def test_the_plug_in_is_documented_where_pytest_users_look(session: Run) -> None:
    helped = session("--help").stdout.str()
    assert "--convbench=SUITE" in helped
    assert "Only the cells of these backends: torch,jax." in helped
