"""Runs in which a backend has a Python interpreter of its own."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.backends import packages, registry
from harness.cli import app
from harness.errors import SelectionError, SuiteError, UserError
from harness.execution import discovery, execute
from harness.isolate.wire import Adapter
from harness.record import Record, Status
from harness.store import journal
from tests import foreign

SUITE = """
[suite]
name = "small"
{suite}

[axes]
backend = ["numpy"]
direction = ["fprop"]

[budget]
trials = 1
visits = 2
visit_s = 1e-4
warmup_cpu_s = 0
warmup_max_s = 0.01

[[workload]]
name = "conv"
n = 1
c = 2
k = 2
spatial = [4, 4]
kernel = 3
padding = 1
{more}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.environment(tmp_path_factory.mktemp("elsewhere") / "secret")


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., Path]:
    def write(suite: str = "", more: str = "") -> Path:
        path = tmp_path / "small.toml"
        path.write_text(SUITE.format(suite=suite, more=more))
        return path

    return write


def measured(folder: Path) -> dict[str, Record]:
    return {record.cell.backend: record for record in journal.read(folder)[0]}


def only_run(out: Path) -> Path:
    (folder,) = (out / "runs").iterdir()
    return folder


def test_a_label_is_measured_beside_and_no_path_is_told(
    suite: Callable[..., Path], python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["run", str(suite()), "--python", f"numpy@other={python}", f"--python=numpy={python}", "--no-ceilings"]
    monkeypatch.setattr(sys, "argv", ["convbench", *arguments])
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    folder = only_run(tmp_path / "results")
    assert {backend: record.status for backend, record in measured(folder).items()} == {
        "numpy": Status.OK,
        "numpy@other": Status.OK,
    }
    run = journal.read_run(folder)
    assert {environment.backend for environment in run.environments} == {"numpy", "numpy@other"}
    assert "--python numpy@other=PATH --python=numpy=PATH" in run.command
    secret = str(python.parents[1])
    assert foreign.told_of(folder, secret) == ["plan.json"]
    assert foreign.told_of(tmp_path / "reports", secret) == []
    assert list((tmp_path / "reports").rglob("*.html"))
    assert secret not in done.output


def test_a_resumed_run_and_one_measured_further_know_the_interpreters(
    suite: Callable[..., Path], python: Path, tmp_path: Path
) -> None:
    given = {"numpy@other": str(python)}
    selection = execute.select({"python": given})
    loaded = execute.suites.load(suite())
    with pytest.raises(execute.Interrupted):
        execute.execute(loaded, selection, out=tmp_path / "out", ceilings=False, watcher=_Raising())
    folder = only_run(tmp_path / "out")
    assert journal.read_plan(folder).interpreters == given
    run = execute.resume(folder)
    assert all(record.status is Status.OK for record in measured(folder).values())
    assert {environment.backend for environment in run.environments} == {"numpy", "numpy@other"}
    execute.more(folder, time_s=1e-9)
    assert journal.read_plan(folder).interpreters == given


class _Raising(execute.Watcher):
    """Ends a run at its first record, as Ctrl-C does."""

    def recorded(self, record: Record) -> None:
        raise KeyboardInterrupt


def test_a_suite_names_interpreters_relative_to_itself(suite: Callable[..., Path], python: Path, tmp_path: Path) -> None:
    (tmp_path / "env").symlink_to(python.parents[1])
    run = execute.run(suite(more='[python]\n"numpy@other" = "env/bin/python"'), out=tmp_path / "out", ceilings=False)
    folder = tmp_path / "out" / "runs" / run.id
    assert journal.read_plan(folder).interpreters == {"numpy@other": str(tmp_path / "env/bin/python")}
    assert {backend: record.status for backend, record in measured(folder).items()} == dict.fromkeys(
        ["numpy", "numpy@other"], Status.OK
    )


def test_the_twins_of_a_standard_have_the_interpreter_of_their_label(suite: Callable[..., Path], tmp_path: Path) -> None:
    broken = foreign.script(tmp_path / "python", "exit 3")
    path = suite('standard = "pinned"', f'[python]\n"numpy@pinned" = "{broken}"')
    run = execute.run(path, out=tmp_path / "out", ceilings=False)
    told = measured(tmp_path / "out" / "runs" / run.id)
    assert {backend: record.status for backend, record in told.items()} == {
        "numpy": Status.OK,
        "numpy@pinned": Status.ERROR,
    }
    assert "its interpreter ended: exit code 3" in told["numpy@pinned"].reason


@pytest.mark.fault(
    "an interpreter that is named is no file, or may not be executed", "one line says so, and nothing is measured"
)
@pytest.mark.parametrize("command", [("run", "--dry-run"), ("run",), ("tune",), ("profile",), ("nightly", "--wait", "0s")])
def test_a_path_at_which_nothing_can_be_started_is_a_mistake(
    command: tuple[str, ...], suite: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("")
    for name, path, why in (
        ("numpy", "nope", "is no file"), ("numpy@old", "text", "may not be executed"), ("numpy", ".", "is no file"),
    ):  # fmt: skip
        found = (
            f'{name}: found "{tmp_path / path}", which {why}; allowed: the path of a Python interpreter, as in env/bin/python'
        )
        done = CliRunner().invoke(app, [command[0], str(suite()), *command[1:], "--python", f"{name}={path}"])
        assert (type(done.exception), str(done.exception)) == (SelectionError, f"--python: {found}")
        told = suite(more=f'[python]\n"{name}" = "{path}"')
        done = CliRunner().invoke(app, [command[0], str(told), *command[1:]])
        assert (type(done.exception), str(done.exception)) == (SuiteError, f"{told}: [python]: {found}")
    assert not (tmp_path / "results").exists()


def test_of_a_suite_s_interpreters_those_that_are_used_have_to_be_there(suite: Callable[..., Path], tmp_path: Path) -> None:
    path = suite('standard = "pinned"', '[python]\ntorch = "nope"')
    with pytest.raises(SelectionError, match=r"^--python: torch: found .*/no\", which is no file"):  # what is typed is meant
        execute.prepare(execute.suites.load(path), execute.select({"python": {"torch": "no"}}), 0)
    plan, _ = execute.prepare(execute.suites.load(path), execute.select({}), 0)
    assert {cell.backend for cell in plan.cells} == {"numpy", "numpy@pinned"}
    path = suite('standard = "pinned"', '[python]\n"numpy@pinned" = "nope"')
    with pytest.raises(UserError, match=r"\[python\]: numpy@pinned: found .*/nope\", which is no file"):
        execute.prepare(execute.suites.load(path), execute.select({}), 0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("numpy@aa=x", 'found "numpy@aa"; allowed: NAME or NAME@LABEL'),
        ("numpy@=x", 'found "numpy@"'),
        ("@old=x", 'found "@old"'),
        ("numpy@OLD=x", 'found "numpy@OLD"'),
        ("numpy", 'found "numpy"; allowed: NAME=PATH'),
        ("numpy@old=", 'numpy@old: found ""; allowed: the path'),
        ("nunpy@old=x", 'found "nunpy@old"'),
        ("nunpy=x", 'found "nunpy"'),
    ],
)
def test_a_mistake_is_told_at_once(given: str, told: str, suite: Callable[..., Path]) -> None:
    done = CliRunner().invoke(app, ["run", str(suite()), "--python", given, "--dry-run"])
    assert isinstance(done.exception, UserError)
    assert told in str(done.exception)


def test_a_suite_is_told_so_too(suite: Callable[..., Path]) -> None:
    with pytest.raises(execute.UserError, match=r"\[python\]: numpy@old: found 3; allowed: the path"):
        execute.suites.load(suite(more='[python]\n"numpy@old" = 3'))
    with pytest.raises(execute.UserError, match=r"python: found 3; allowed: a table \[python\]"):
        execute.suites.load(_written(suite))


def _written(suite: Callable[..., Path]) -> Path:
    path = suite()
    path.write_text("python = 3\n" + path.read_text())
    return path


def test_labels_of_a_suite_join_where_their_adapter_is_measured(suite: Callable[..., Path], tmp_path: Path) -> None:
    path = suite(more='[python]\n"numpy@old" = "old"\n"torch@old" = "old"')
    narrowed = execute.narrow(execute.suites.load(path), execute.select({}))
    assert narrowed.also == ("numpy@old",)
    assert discovery.concerned(narrowed) == ("numpy", "numpy@old")
    asked = execute.select({"python": {"jax@new": "new"}, "backend": "torch"})
    narrowed = execute.narrow(execute.suites.load(path), asked)
    assert narrowed.also == ("torch@old", "jax@new")
    assert narrowed.interpreters["jax@new"] == str(Path.cwd() / "new")


def test_an_environment_beside_this_one_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = foreign.environment(tmp_path / ".venv-numpy")
    monkeypatch.setattr(discovery.sys, "prefix", str(tmp_path / ".venv"))
    assert discovery.interpreters(["numpy@old", "torch"]) == {}  # numpy is installed here
    monkeypatch.setattr(registry, "installed", lambda name: False)
    assert discovery.interpreters(["numpy@old", "torch"]) == {"numpy": str(python)}
    assert discovery.interpreters(["numpy"], {"numpy": "other"}) == {"numpy": "other"}
    assert not discovery.needs_no_process(["numpy"])
    monkeypatch.setattr(packages, "present", lambda name: False)  # in this process, not in that one
    told = discovery.adapters(["numpy"])["numpy"]
    assert isinstance(told, Adapter)
    assert told.installed
    assert discovery.discover(["numpy"])


def test_an_interpreter_without_the_package_says_how_to_mend_that(tmp_path: Path) -> None:
    python = foreign.environment(tmp_path / "empty", packages=())
    told = discovery.adapters(["numpy", "numpy@old"], {"numpy@old": str(python)})
    assert isinstance(told["numpy"], Adapter)
    assert told["numpy"].installed
    assert told["numpy@old"] == Adapter("numpy", {}, "pip install numpy for its interpreter", told["numpy"].modes)


# What a PyTorch for another vendor's devices tells of itself, each with what the row says.
BUILDS = {
    "hip='7.0.2', cuda=None": "AMD's GPUs (ROCm 7.0.2)",
    "hip=None, cuda=None": "Intel's GPUs (XPU)",
}
TORCH = """
from types import SimpleNamespace

__version__ = "2.13.0"
version = SimpleNamespace({build})
xpu = SimpleNamespace(is_available=lambda: True)
backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False))
"""


@pytest.mark.parametrize("build", BUILDS)
def test_on_a_gpu_a_build_for_another_vendor_is_a_row_that_says_not_measured(
    build: str, suite: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    python = foreign.environment(tmp_path / "there")
    next((tmp_path / "there").glob("lib/*/site-packages")).joinpath("torch.py").write_text(TORCH.format(build=build))
    path = suite()
    path.write_text(path.read_text().replace('["numpy"]', '["torch"]'))
    done = CliRunner().invoke(app, ["run", str(path), "--device", "gpu", "--python", f"torch={python}", "--no-ceilings"])
    assert done.exit_code == 5, done.output
    (row,) = measured(only_run(tmp_path / "results")).values()
    told = f"not measured: this PyTorch is built for {BUILDS[build]}, and convbench measures GPUs of NVIDIA alone"
    assert row.status is Status.ERROR
    assert row.reason.endswith(told)
    assert told in " ".join(done.output.split())
