"""`convbench capture` as a user gives it: what it prints, what it writes, and what it refuses."""

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.ask import suite
from harness.calls import Seen, Timing
from harness.captures.base import Input, Request
from harness.cli import app
from harness.execution import capturing
from tests.captures.planted import plant
from tests.captures.seen import FORWARD, SEEN, STEM_OF_ONEDNN, onednn
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
        "--arg", "norm='a=b'", "--framework", "torch", "--infer", "--no-weights", "--real", "--precision", "bf16",
        "--layout", "nhwc", "--python", "env/bin/python", "--timeout", "90s",
    )  # fmt: skip
    expected = Request(
        "net.py:build", "torch", (Input((8, 3, 224, 224)), Input((8, 77), "int64")), {"batch": 4},
        {"depth": "50", "norm": "'a=b'"}, gradients=False, weights=False, real=True, precision="bf16", layout="NHWC",
    )  # fmt: skip
    assert asked == [(expected, "env/bin/python", 90.0)]
    given("some.module:Net")
    assert asked[1] == (Request("some.module:Net"), None, 600.0)


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
    assert "a log of oneDNN: 1 call in a step, 1 shape" in given("verbose.txt")
    assert [work.name for work in suite.load(Path("verbose.toml")).workloads] == ["conv1"]
    Path("trace.json.gz").write_bytes(gzip.compress(json.dumps([FORWARD]).encode()))
    assert "wrote trace.toml" in given("trace.json.gz")
    said = CliRunner().invoke(
        app, ["capture", "-"], input=onednn("forward_training", STEM_OF_ONEDNN).encode(), catch_exceptions=False
    )
    assert (said.exit_code, Path("captured.toml").exists()) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["net.py:build", "--input", "8x3"], "--input: found '8x3'; allowed: a shape as in 8,3,224,224"),
        (["net.py:build", "--input", ""], "--input: found ''; allowed: a shape"),
        (["net.py:build", "--arg", "depth"], "--arg: found 'depth'; allowed: NAME=LITERAL"),
        (["net.py:build", "--precision", "f32"], '--precision: found "f32"; did you mean "fp32"?'),
        (["net.py:build", "--layout", "HWC"], '--layout: found "HWC"'),
        (["net.py:build", "--timeout", "soon"], "--timeout: found 'soon'"),
        (["model.pt2"], "model.pt2: opening it could run code of whoever made it; name a callable of yours that loads it"),
        (["there.pkl"], "there.pkl: opening it could run code"),
        (["net.onnx"], "no file net.onnx"),
        (["net.txt"], "net.txt: no such file; allowed: module:callable, file.py:callable"),
        (["there.py"], "there.py: no such file; name what makes the model, as in there.py:build"),
        (
            ["there.txt"],
            'no log that is known: no line of oneDNN\'s verbose mode, benchdnn or MIOpenDriver, no trace; the first is "hello"',
        ),
        (["there.txt", "--input", "1,2"], "a log has its shapes, and is parsed as it is; allowed with it: --anonymous, --out"),
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
    ):
        (tmp_path / name).write_bytes(data)
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
