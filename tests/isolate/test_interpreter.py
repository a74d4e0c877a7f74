"""Workers under foreign interpreters."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.axes import Device
from harness.isolate import interpreter, launcher, process
from harness.isolate.bench import start
from harness.isolate.launcher import Launcher, probe
from harness.isolate.wire import Hello, Setup
from harness.measure import environment
from harness.plan import Plan, Step
from harness.record import Environment, Record, Status
from tests import builders, foreign
from tests.isolate.conftest import TINY
from tests.nvml import Nvml, card

NUMPY = "harness.backends.numpy:NumpyBackend"
STANDIN = "standin:Backend"
CELL = builders.cell(backend="numpy@other")


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., list[Record]]:
    """What becomes of a cell of a backend under that interpreter, beside one of numpy under this one."""

    def measure(python: Path, target: str = NUMPY, *, beside: bool = True) -> list[Record]:
        cells = [*([builders.cell(backend="numpy")] if beside else []), CELL]
        steps = tuple(Step(0, order, cell) for order, cell in enumerate(cells))
        plan = Plan("suite", steps, 0, TINY, interpreters={"numpy@other": str(python)})
        run = Launcher("run", tmp_path / "logs", targets={"numpy": NUMPY, "numpy@other": target})
        found = sorted((row for row in run.execute(plan) if isinstance(row, Record)), key=lambda row: row.order)
        assert not beside or found[0].status is Status.OK, found[0].reason
        assert foreign.told_of(tmp_path / "logs", str(python.parent.parent)) == []
        assert str(python.parent) not in repr(found)
        return found

    return measure


def said(row: Record) -> str:
    return row.reason.removeprefix("numpy@other could not be set up: ")


def test_a_cell_is_measured_by_the_interpreter_that_its_backend_has(tmp_path: Path) -> None:
    old, new = (foreign.environment(tmp_path / version, standin=version) for version in ("1.5", "2.5"))
    names = dict.fromkeys(("standin", "standin@old"), STANDIN)
    steps = tuple(Step(0, order, builders.cell(backend=name)) for order, name in enumerate([*names, "numpy"]))
    plan = Plan("suite", steps, 0, TINY, interpreters={"standin": str(new), "standin@old": str(old)})
    answers = list(Launcher("run", tmp_path / "logs", targets={**names, "numpy": NUMPY}).execute(plan))
    assert [row.status for row in answers if isinstance(row, Record)] == [Status.OK] * 3
    environments = {answer.backend: answer for answer in answers if isinstance(answer, Environment)}
    assert environments["standin"].packages["standin"] == "2.5"
    assert environments["standin@old"].packages["standin"] == "1.5"
    assert "standin" not in environments["numpy"].packages
    assert str(tmp_path / "1.5") not in repr(answers)


@pytest.mark.fault("a backend's interpreter is absent, too old, ends or hangs", "its rows say so, the others are measured")
def test_a_path_that_is_none_is_a_row(rows: Callable[..., list[Record]], tmp_path: Path) -> None:
    _, other = rows(tmp_path / "nowhere" / "bin" / "python")
    assert other.status is Status.ERROR
    assert said(other) == "its interpreter cannot be started: No such file or directory"


def test_one_that_ends_at_once_is_a_row(rows: Callable[..., list[Record]], tmp_path: Path) -> None:
    python = foreign.script(tmp_path / "python", f"echo {tmp_path}/python: broken >&2", "exit 3")
    _, other = rows(python)
    assert other.status is Status.ERROR
    assert said(other) == "its interpreter ended: exit code 3; last output: its interpreter: broken"


def test_one_that_hangs_is_a_row(rows: Callable[..., list[Record]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_TIMEOUT_S", 0.2)
    (other,) = rows(foreign.script(tmp_path / "python", "exec tail -f /dev/null"), beside=False)
    assert other.status is Status.ERROR
    assert said(other) == "the worker was not ready within 0.2 s"


def test_one_that_is_too_old_is_a_row(rows: Callable[..., list[Record]], tmp_path: Path) -> None:
    _, other = rows(foreign.old_python(tmp_path / "python"))
    assert other.status is Status.ERROR
    assert "exit code 1; last output: convbench needs Python 3.11 or newer, and this is 3.10" in other.reason


def test_one_without_the_package_is_a_row(rows: Callable[..., list[Record]], tmp_path: Path) -> None:
    _, other = rows(foreign.environment(tmp_path / "empty", packages=()))
    assert other.status is Status.SKIPPED
    assert said(other) == "numpy is not installed: pip install numpy for its interpreter"


def test_one_without_numpy_is_a_row(rows: Callable[..., list[Record]], tmp_path: Path) -> None:
    _, other = rows(foreign.environment(tmp_path / "empty", packages=(), standin="1"), STANDIN)
    assert other.status is Status.ERROR
    assert said(other) == "ModuleNotFoundError: No module named 'numpy'"


def test_a_framework_from_outside_its_environment_is_refused(rows: Callable[..., list[Record]], tmp_path: Path) -> None:
    python = foreign.environment(tmp_path / "inside")
    outside = foreign.environment(tmp_path / "outside", packages=(), standin="9")
    site = next((tmp_path / "outside").glob("lib/*/site-packages"))
    next((tmp_path / "inside").glob("lib/*/site-packages")).joinpath("more.pth").write_text(f"{site}\n")
    _, other = rows(python, STANDIN)
    assert other.status is Status.ERROR
    assert said(other) == "ImportError: standin was loaded from outside its interpreter's environment"
    assert outside.exists()


def test_it_is_shown_this_package_alone(tmp_path: Path) -> None:
    own = {"PYTHONPATH": "/ours", "PYTHONHOME": "/usr", "VIRTUAL_ENV": "/ours", "LD_LIBRARY_PATH": "/cuda", "PATH": "/bin"}
    told = interpreter.environ("/there/bin/python", own)
    assert os.listdir(told.pop("PYTHONPATH")) == ["harness"]
    assert told == {"LD_LIBRARY_PATH": "/cuda", "PATH": "/bin", "PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1"}
    assert interpreter.environ(None, own) == own


def test_a_foreign_interpreter_is_asked_for_its_own_versions(tmp_path: Path) -> None:
    python = foreign.environment(tmp_path / "there", standin="7.5")
    found = probe({"standin": STANDIN, "numpy": NUMPY}, tmp_path / "logs", {"standin": str(python)})
    assert all(isinstance(answer, Hello) for answer in found.values()), found
    assert found["standin"].environment.packages["standin"] == "7.5"
    assert found["standin"].devices == (Device("cpu"),)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/home/me/env/bin/python: no", "its interpreter: no"),
        ("/home/me/env/lib/x.so: no", "(its environment)/lib/x.so: no"),
        ("/home/you: no", "/home/you: no"),
    ],
)
def test_no_path_of_an_interpreter_is_told(text: str, hidden: str) -> None:
    assert interpreter.hidden(text, "/home/me/env/bin/python") == hidden
    assert interpreter.hidden(text, None) == text


def test_the_root_folder_is_no_environment_to_hide() -> None:
    assert interpreter.hidden("/lib/x.so", "/bin/python") == "/lib/x.so"


# A GPU --------------------------------------------------------------------------------------------------------------------

BOARDED = """
from standin import Backend as Standin


class Backend(Standin):
    def board(self):
        return {{"name": "Some GPU", "uuid": "{uuid}"}}
"""


@pytest.mark.fault("a backend's interpreter has no nvidia-ml-py", "its rows say so, its GPU and driver are told all the same")
@pytest.mark.parametrize("uuid", ["0a0b-cdef", "9999-cdef"])
def test_without_nvml_of_its_own_it_is_told_which_gpu_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uuid: str
) -> None:
    """Otherwise it would be another machine's. Facts of a board that its framework does not measure on are left out."""
    library = Nvml(card(0, nvmlDeviceGetPowerManagementLimit=300_000))
    monkeypatch.setattr(library, "nvmlSystemGetDriverVersion", lambda: b"570.1", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    python = foreign.environment(tmp_path / "there", standin="1")
    next((tmp_path / "there").glob("lib/*/site-packages")).joinpath("boarded.py").write_text(BOARDED.format(uuid=uuid))
    cores = tuple(launcher.physical_cores_first()[:1])
    setup = Setup("boarded:Backend", "standin", Device("gpu", 0), cores, TINY, 1, "run")
    worker = start(setup, tmp_path, "standin", str(python))
    assert isinstance(worker, process.Worker)
    try:
        hello = worker.hello()
    finally:
        worker.stop()
    assert isinstance(hello, Hello), hello
    told = hello.environment
    assert (told.gpu, told.driver) == ("1 x Some GPU", "570.1")
    assert told.machine_id == environment.describe("", ()).machine_id
    assert told.board["NVML"].startswith("NVML is not available: ModuleNotFoundError: No module named 'pynvml'")
    assert told.board["uuid by framework"] == uuid
    limits = {name: told.board.get(name) for name in ("name", "uuid", "power limit mW")}
    same = {"name": "Some GPU", "uuid": "GPU-0a0b-cdef", "power limit mW": "300000"}
    assert limits == (same if uuid == "0a0b-cdef" else dict.fromkeys(same))
    assert library.open == 0
