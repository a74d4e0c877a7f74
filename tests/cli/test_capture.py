"""`convbench capture` as a user gives it: what it prints, what it writes, and what it refuses."""

import gzip
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.ask import suite
from harness.axes import Layout
from harness.calls import Seen, Timing
from harness.captures.base import Input, Request
from harness.cli import app
from harness.execution import capturing
from tests.captures.planted import plant
from tests.captures.seen import FORWARD, SEEN, STEM_OF_ONEDNN, UP, onednn
from tests.command import ROOT, convbench


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Request, str | None, float]]:
    """An empty working directory, and models that are seen without being made: what is asked of them."""
    monkeypatch.chdir(tmp_path)
    known: list[tuple[Request, str | None, float]] = []

    def seen(request: Request, python: str | None, timeout_s: float) -> Seen:
        known.append((request, python, timeout_s))
        timing = Timing(10_000_000, 6_100_000, 5, 2_000_000 * request.real) if request.timed else None
        return Seen(SEEN.source, SEEN.calls, SEEN.left_out, {}, ("a note",), timing)

    monkeypatch.setattr(capturing, "in_process", seen)
    return known


def given(*arguments: str) -> str:
    said = CliRunner().invoke(app, ["capture", *arguments], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    return said.stdout


def test_options_become_a_request(asked: list[tuple[Request, str | None, float]]) -> None:
    given(
        "net.py:build", "--input", "8,3,224,224", "--input", "8,77:int64", "--input", "batch=4", "--arg", "depth=50",
        "--arg", "norm='a=b'", "--framework", "torch", "--infer", "--real", "--precision", "bf16",
        "--layout", "nwc", "--python", "env/bin/python", "--timeout", "90s",
    )  # fmt: skip
    expected = Request(
        "net.py:build", "torch", (Input((8, 3, 224, 224)), Input((8, 77), "int64")), {"batch": 4},
        {"depth": "50", "norm": "'a=b'"}, gradients=False, real=True, precision="bf16", layout="NHWC",
    )  # fmt: skip
    assert asked == [(expected, "env/bin/python", 90.0)]
    given("some.module:Net", "--no-weights", "--input", "999999999,003")
    expected = Request("some.module:Net", inputs=(Input((999_999_999, 3)),), weights=False)
    assert asked[1] == (expected, None, 600.0)


def test_what_was_seen_and_what_was_left_out_is_told(asked: list[tuple[Request, str | None, float]]) -> None:
    told = given("nets/my_net.py:build", "--time")
    assert asked[0][0].timed
    for words in (
        "stem.conv.1", "n2 c4 k4 4x5 f3x3 p1x1 g4", "2 with bias, which -a bias=none,channel measures, too",
        "my_net, PyTorch 2.13.0: 11 calls in a step, 3 shapes",
        "left out: 4 x aten::deform: deformable (d1, d2)",
        "transposed n2 c4 k3 4x5 f2x2 s2x2",
        "a note", "convolutions take 61.0 % of a step: 6.100 ms of 10.00 ms, medians of 5 steps", "wrote my_net.toml",
        "wrote shapes/my_net.csv", "convbench run my_net.toml",
    ):  # fmt: skip
        assert words in told
    assert "nets/" not in Path("my_net.toml").read_text() + Path("shapes/my_net.csv").read_text()
    assert "operations" not in told
    fused = "6.100 ms of 10.00 ms, medians of 5 steps; 2.000 ms of it in operations that have other work in them\n"
    assert fused in given("nets/my_net.py:build", "--time", "--real")
    assert len(suite.load(Path("my_net.toml")).workloads) == 3
    assert "wrote model.toml" in given("secret/net.py:SecretNet", "--anonymous")
    assert "secret" not in (Path("model.toml").read_text() + Path("shapes/model.csv").read_text()).lower()
    assert "wrote out/other.toml" in given("net:Net", "--out", "out/other.toml", "--anonymous")
    assert [work.name for work in suite.load(Path("out/other.toml")).workloads] == ["conv3", "conv1", "conv2"]


def test_logs_are_read_wherever_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("verbose.txt").write_text(onednn("forward_training", STEM_OF_ONEDNN))
    told = given("verbose.txt")
    assert "verbose, a log of oneDNN: 1 call in the whole log, whose steps are not marked, 1 shape; forward" in told
    assert "--steps N says that N steps are in the log, and divides the counts" in told
    assert "in a step" not in told + Path("verbose.toml").read_text()
    assert "a log of oneDNN: 1 call in a step, 1 shape" in given("verbose.txt", "--steps", "1")
    assert "1 call in a step" in suite.load(Path("verbose.toml")).description
    assert [work.name for work in suite.load(Path("verbose.toml")).workloads] == ["conv1"]
    Path("trace.json.gz").write_bytes(gzip.compress(json.dumps([FORWARD]).encode()))
    assert "wrote trace.toml" in given("trace.json.gz")
    said = CliRunner().invoke(
        app, ["capture", "-"], input=onednn("forward_training", STEM_OF_ONEDNN).encode(), catch_exceptions=False
    )
    assert (said.exit_code, Path("captured.toml").exists()) == (0, True)


@pytest.mark.parametrize(
    ("out", "command"),
    [
        ("r.toml", "convbench run r.toml r-fp32-nchw.toml"),
        ("ü n.toml", "convbench run 'ü n.toml' n-fp32-nchw.toml"),
        ("-r", "convbench run ./-r r-fp32-nchw.toml"),
        ("-r.toml", "convbench run ./-r.toml r-fp32-nchw.toml"),
        ("out/r", "convbench run out/r out/r-fp32-nchw.toml"),
    ],
)
def test_the_command_in_the_end_measures_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    calls = [replace(call, layout=Layout.CHANNELS_FIRST) if call.spec == UP else call for call in SEEN.calls]
    monkeypatch.setattr(capturing, "in_process", lambda *_: replace(SEEN, calls=tuple(calls)))
    told = given("net.py:build", f"--out={out}").splitlines()[-1]
    assert told == command
    words = shlex.split(told)[2:]
    assert sum(len(suite.load(word).workloads) for word in words) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["net.py:build", "--input", "8x3"], "--input: found '8x3'; allowed: a shape as in 8,3,224,224"),
        (["net.py:build", "--input", ""], "--input: found ''; allowed: a shape"),
        (["net.py:build", "--arg", "depth"], "--arg: found 'depth'; allowed: NAME=LITERAL"),
        (["net.py:build", "--precision", "f32"], '--precision: found "f32"; did you mean "fp32"?'),
        (["net.py:build", "--layout", "HWC"], '--layout: found "HWC"'),
        (["net.py:build", "--layout", "NHCW"], '--layout: found "NHCW"; did you mean "NCHW"?'),
        (["net.py:build", "--timeout", "soon"], "--timeout: found 'soon'"),
        (["net.py:build", "--input", "batch=2147483648"], "--input: found 'batch=2147483648'; allowed: sizes below 10^9"),
        (["net.py:build", "--input", "1,3,99999999999,16"], "--input: found '1,3,99999999999,16'; allowed: sizes below 10^9"),
        (["net.py:build", "--input", "1000000000"], "--input: found '1000000000'; allowed: sizes below 10^9"),
        (["net.py:build", "--input", "batch=2", "--input", "batch=3"], "--input: found batch twice; allowed: once"),
        (["net.py:build", "--arg", "width=8", "--arg", "width=9"], "--arg: found width twice; allowed: once"),
        (["net.py:build", "--real", "--no-weights"], "--no-weights: found beside --real, which computes a step with weights"),
        (["net.py:build", "--time", "--no-weights"], "--no-weights: found beside --time, which computes a step with weights"),
        (["net.py:build", "--steps", "3"], "--steps: found with a model, of which one step is seen; allowed: with a log"),
        (
            ["twice.txt", "--steps", "3"],
            "twice.txt: --steps: found 3; n1 c3 k64 224x224 f7x7 s2x2 p3x3, fprop, is 2 times in the log",
        ),
        (["twice.txt", "--steps", "0"], "--steps"),
        (["model.pt2"], "model.pt2: opening it could run code of whoever made it; name a callable of yours that loads it"),
        (["there.pkl"], "there.pkl: opening it could run code"),
        (["net.onnx"], "net.onnx: no such file; allowed: module:callable, file.py:callable, an .onnx file"),
        (["net.txt"], "net.txt: no such file; allowed: module:callable, file.py:callable"),
        (["net.py"], "net.py: no such file; allowed: module:callable, file.py:callable"),
        (["there.py"], "there.py: names no model; say which function or object makes it, as in there.py:build"),
        (["folder"], "folder: a folder; allowed: module:callable"),
        (["folder.onnx"], "folder.onnx: a folder; allowed: module:callable"),
        (["/dev/null"], "/dev/null: a pipe or a device; allowed: module:callable"),
        (["empty.txt"], "empty.txt: it is empty"),
        (
            ["there.txt"],
            "there.txt: no log that is known: no line of oneDNN's verbose mode, benchdnn or MIOpenDriver, no trace; the first",
        ),
        (
            ["there.txt", "--input", "1,2"],
            "a log has its shapes, and is parsed as it is; allowed with it: --anonymous, --out, --steps",
        ),
        (["there.txt", "--time"], "a log has its shapes, and is parsed"),
        (["there.txt", "--infer"], "a log has its shapes, and is parsed"),
        (["broken.gz"], "broken.gz: cannot be read"),
        (["nowhere.py:build"], "no file nowhere.py"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    for name, data in (
        ("there.pkl", b"cos\nsystem\n"),
        ("there.py", b""),
        ("there.txt", b"hello\n"),
        ("broken.gz", b"\x1f\x8b12"),
        ("empty.txt", b""),
        ("twice.txt", "\n".join([onednn("forward_training", STEM_OF_ONEDNN)] * 2).encode()),
    ):
        (tmp_path / name).write_bytes(data)
    for name in ("folder", "folder.onnx"):
        (tmp_path / name).mkdir()
    said = convbench(tmp_path, "capture", *arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert len(said.stderr.splitlines()) == 1
    assert words in said.stderr
    assert not list(tmp_path.glob("*.toml"))


def test_a_file_that_another_package_reads_is_no_log(tmp_path: Path) -> None:
    plant(tmp_path / "installed")
    (tmp_path / "net.planted").write_bytes(b"hello\n")
    words = ("capture", "net.planted", "--input", "4,5", "--framework", "planted")
    said = convbench(tmp_path, *words, PYTHONPATH=f"{ROOT}:{tmp_path / 'installed'}")
    assert said.returncode == 0, said.stderr
    assert "net, planted str: 1 call in a step, 1 shape" in said.stdout
    assert [str(work.spec) for work in suite.load(tmp_path / "net.toml").workloads] == ["n1 c2 k3 4x5 f1x1"]
    said = convbench(tmp_path, *words)
    assert (said.returncode, said.stdout, len(said.stderr.splitlines())) == (2, "", 1)
    assert "--framework: found 'planted'; allowed: torch, tensorflow, jax, onnx" in said.stderr


def test_pytorch_to_a_suite_that_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build(width):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.Conv2d(width, 4, 1), nn.Conv2d(4, 4, 1))\n"
    )
    said = convbench(tmp_path, "capture", "net.py:build", "--input", "2,3,9,8", "--arg", "width=4", "--out", "small.toml")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == "convbench run small.toml"
    (tmp_path / "small.toml").write_text(
        (tmp_path / "small.toml").read_text() + "\n[budget]\ntrials = 1\nvisits = 1\nvisit_s = 0.01\n"
    )
    ran = convbench(tmp_path, "run", "small.toml", "--backend", "numpy", "--no-ceilings", "--no-report", "--threads", "1")
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(convbench(tmp_path, "show", "--format", "json").stdout)
    assert {(row["workload"], row["direction"]): row["count"] for row in rows} == {
        ("0", "fprop"): 1, ("0", "wgrad"): 1, ("1", "fprop"): 2, ("1", "dgrad"): 2, ("1", "wgrad"): 2,
    }  # fmt: skip
    assert all(row["status"] == "ok" for row in rows)
