"""A model's own process: what it is asked, what it answers, and what is said of all that can go wrong."""

import os
import socket
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness.axes import Direction
from harness.calls import Call, Seen, layer
from harness.captures import base
from harness.captures.base import Input, Request
from harness.errors import CaptureError
from harness.execution import capturing
from tests import foreign
from tests.captures.planted import plant


def ask(target: str, *shapes: tuple[int, ...], python: str | None = None, timeout_s: float = 120.0, **more: object) -> Seen:
    request = Request(target, inputs=tuple(map(Input, shapes)), **more)  # type: ignore[arg-type]
    return capturing.in_process(request, python, timeout_s)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes net.py into an empty working directory; `net.py:build` names what is in it."""
    monkeypatch.chdir(tmp_path)

    def written(text: str) -> str:
        Path("net.py").write_text(text)
        return "net.py:build"

    return written


TORCH = """
import sys
from torch import nn
import helper  # beside this file
print("what users print", "is not an answer" * 10000)
print("nor this", file=sys.stderr)

def build(width, depth=1):
    return nn.Sequential(nn.Conv2d(3, width, 3), *[nn.Conv2d(width, width, 3) for _ in range(depth)])

def pair():
    import torch
    return build(2), torch.zeros(1, 3, 9, 9)

model = build(5)
"""


def test_a_model_is_made_and_seen_in_its_own_process(net: Callable[[str], str]) -> None:
    pytest.importorskip("torch")
    target = net(TORCH)
    Path("helper.py").write_text("")
    seen = ask(target, (1, 3, 9, 9), arguments={"width": "4", "depth": "2"})
    assert {(str(call.spec), call.direction): call.times for call in seen.calls} == {
        ("n1 c3 k4 9x9 f3x3", Direction.FPROP): 1, ("n1 c3 k4 9x9 f3x3", Direction.WGRAD): 1,
        ("n1 c4 k4 7x7 f3x3", Direction.FPROP): 1, ("n1 c4 k4 7x7 f3x3", Direction.DGRAD): 1,
        ("n1 c4 k4 7x7 f3x3", Direction.WGRAD): 1, ("n1 c4 k4 5x5 f3x3", Direction.FPROP): 1,
        ("n1 c4 k4 5x5 f3x3", Direction.DGRAD): 1, ("n1 c4 k4 5x5 f3x3", Direction.WGRAD): 1,
    }  # fmt: skip
    assert ask("net.py:model", (1, 3, 9, 9)).calls[0].spec.k == 5
    assert ask("net.py:pair").calls[0].spec.k == 2


def test_a_function_of_jax_is_itself_the_model(net: Callable[[str], str]) -> None:
    pytest.importorskip("jax")
    net(
        "import jax.numpy as jnp\nfrom jax import lax\n"
        "def loss(x):\n    return lax.conv(x, jnp.ones((2, 3, 3, 3)), (1, 1), 'SAME').sum()\n"
        "def pair():\n    p = [jnp.ones((2, 3, 3, 3))]\n    f = lambda p, x: lax.conv(x, p[0], (1, 1), 'SAME')\n"
        "    return f, (p, jnp.ones((1, 3, 8, 8)))\n"
    )
    by_name, guessed = ask("net.py:loss", (1, 3, 8, 8), framework="jax"), ask("net.py:loss", (1, 3, 8, 8))
    assert by_name == guessed
    assert [call.direction for call in ask("net.py:pair").calls] == [Direction.FPROP, Direction.WGRAD]


MODELS = "a model of torch, tensorflow, jax, onnx"


@pytest.mark.parametrize(
    ("text", "target", "more", "words"),
    [
        ("", "nowhere.py:build", {}, "^no file nowhere.py$"),
        (
            "",
            "no_such_module_at_all:build",
            {},
            "^no module no_such_module_at_all for this Python; --python names another one$",
        ),
        ("", "json.no_such_part:build", {}, "^no module json.no_such_part for this Python"),
        ("", "net.py:other", {}, "^net.py has no other$"),
        ("build = 3", "", {}, "^net.py:build: found int; allowed: a callable"),
        (
            "def build(depth, width=2): pass",
            "",
            {},
            "missing a required argument: 'depth'; it takes depth: give --arg depth=VALUE",
        ),
        ("def build(): pass", "", {"arguments": {"width": "2"}}, "got an unexpected keyword argument 'width'"),
        ("def build(width): pass", "", {"arguments": {"width": "__import__('os')"}}, "--arg width: found .*allowed: a number"),
        ("def build():\n    raise RuntimeError('no\\nweights')", "", {}, r"^RuntimeError: no \(net.py, line 2\)$"),
        ("import missing_package", "", {}, r"^ModuleNotFoundError: No module named 'missing_package' \(net.py, line 1\)$"),
        ("build = lambda: 3", "", {}, f"^net.py:build gives int; allowed: {MODELS}$"),
        ("def build():\n    pass", "", {}, f"^net.py:build gives None; allowed: {MODELS}$"),
        ("def build():\n    yield 1", "", {}, f"^net.py:build gives generator; allowed: {MODELS}$"),
        ("async def build():\n    pass", "", {}, f"^net.py:build gives coroutine; allowed: {MODELS}$"),
        (
            "class Net:\n    pass\n\n\ndef build():\n    return Net",
            "",
            {},
            "^net.py:build gives the class Net; allowed: a model of ",
        ),
        (
            "build = lambda: print",
            "",
            {},
            "^net.py:build gives builtin_function_or_method, of which the framework is not clear; --framework says it: torch, ",
        ),
        ("build = lambda: 3", "", {"framework": "caffe"}, "--framework: found 'caffe'; allowed: torch, tensorflow, jax, onnx"),
        ("import os\nos._exit(7)", "", {}, "^net.py:build: its process ended: exit code 7$"),
        (
            "import sys\n\n\ndef build():\n    sys.exit(0)",
            "",
            {},
            r"^net.py:build: its code ended the process: SystemExit: 0 \(net.py, line 5\)$",
        ),
        (
            "raise SystemExit('no data')",
            "",
            {},
            r"^net.py:build: its code ended the process: SystemExit: no data \(net.py, line 1\)$",
        ),
        (
            "",
            "../o/net.onnx:build",
            {},
            r"^../o/net.onnx: no module and no Python file; allowed: module:callable, file.py:callable, ",
        ),
        ("", ".net:build", {}, "^.net: no module and no Python file; allowed: module:callable"),
        (
            "open('net.txt', 'w').close()",
            "net.txt:build",
            {},
            "^net.txt: no module and no Python file; allowed: module:callable",
        ),
        ("import os\nprint('last words', flush=True)\nos.abort()", "", {}, "killed by SIGABRT; last output: last words$"),
    ],
)
@pytest.mark.fault("the code of a model that is captured fails, exits or crashes", "a line says what and where, code 2")
def test_what_goes_wrong_is_one_line(
    net: Callable[[str], str], text: str, target: str, more: dict[str, object], words: str
) -> None:
    told = net(text)
    with pytest.raises(CaptureError, match=words) as caught:
        ask(target or told, **more)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.fault("a model that is captured hangs", "it is ended with all that it started, and a line says so, code 2")
def test_one_that_takes_too_long_is_ended_with_all_that_it_started(net: Callable[[str], str]) -> None:
    text = "import subprocess, sys, time\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    target = net(text + "open('child', 'w').write(str(child.pid))\ntime.sleep(600)\n")
    with pytest.raises(CaptureError, match=r"took longer than 5 s and was ended; --timeout gives it more time"):
        ask(target, timeout_s=5.0)
    left = Path(f"/proc/{Path('child').read_text()}/cmdline")
    assert not left.exists() or left.read_bytes() == b""  # it may not have been waited for yet


def test_an_interpreter_that_has_no_framework_says_so(net: Callable[[str], str], tmp_path: Path) -> None:
    python = foreign.environment(tmp_path / "env", packages=())
    with pytest.raises(
        CaptureError, match=r"^torch cannot be imported by this Python: ModuleNotFoundError: .*--python names another one$"
    ):
        ask(net("def build(): pass"), python=str(python), framework="torch")
    with pytest.raises(CaptureError, match=r"^--python: /nowhere/python: No such file or directory$"):
        ask("net.py:build", python="/nowhere/python")
    with pytest.raises(CaptureError, match=r"last output: convbench needs Python 3.11 or newer, and this is 3.10"):
        ask("net.py:build", python=str(foreign.old_python(tmp_path / "old")))


@pytest.mark.parametrize("option", [{"real": True}, {"precision": "bf16"}, {"layout": "NHWC"}])
def test_options_of_pytorch_alone(net: Callable[[str], str], option: dict[str, object]) -> None:
    pytest.importorskip("jax")
    target = net("import jax\nbuild = lambda: jax.jit(lambda x: x)")
    with pytest.raises(CaptureError, match=r"^--\w+: found with jax; allowed: with torch$"):
        ask(target, (1,), **option)


def test_a_file_is_parsed_and_so_has_no_step_that_could_be_timed() -> None:
    pytest.importorskip("onnx")
    words = r"^--time: found with onnx, whose file is parsed and not run; allowed: with torch, tensorflow, jax$"
    with pytest.raises(CaptureError, match=words):
        ask("net.onnx", timed=True)
    with pytest.raises(CaptureError, match=r"^--arg: found with a file; allowed: with a callable$"):
        ask("net.onnx", arguments={"depth": "3"})


def test_arguments_go_to_a_function_that_is_the_model_and_not_to_what_is_made_already(net: Callable[[str], str]) -> None:
    pytest.importorskip("jax")
    net(
        "import jax, jax.numpy as jnp\nfrom jax import lax\n"
        "def loss(x, depth):\n"
        "    for _ in range(depth):\n        x = lax.conv(x, jnp.ones((3, 3, 3, 3)), (1, 1), 'SAME')\n    return x\n"
        "made = jax.jit(loss)\n"
    )
    seen = ask("net.py:loss", (1, 3, 8, 8), arguments={"depth": "4"}, gradients=False)
    assert [call.times for call in seen.calls] == [4]
    with pytest.raises(CaptureError, match=r"^--arg: net.py:made is a model already; allowed: with a callable that makes one$"):
        ask("net.py:made", (1, 3, 8, 8), arguments={"depth": "4"})


@pytest.mark.parametrize(
    ("package", "text", "words"),
    [
        (
            "torch",
            "import torch.nn as nn\n\nclass build(nn.Module):\n    def forward(self, x):\n        return x if x.sum() else x\n",
            r"needs the result of aten::_local_scalar_dense to go on; --real .* \(net.py, line 5\)$",
        ),
        (
            "jax",
            "import jax.numpy\n\ndef build(x):\n    return x if x.sum() > 0 else -x\n",
            r"needs the values of an array to go on, .* \(net.py, line 4\)$",
        ),
        (
            "tensorflow",
            "import tensorflow\n\ndef build(x):\n    return x if tensorflow.reduce_sum(x) > 0 else -x\n",
            r"needs the values of a tensor to go on, .* \(net.py, line 4\)$",
        ),
    ],
)
def test_where_a_model_looks_at_its_data_is_told(net: Callable[[str], str], package: str, text: str, words: str) -> None:
    pytest.importorskip(package)
    with pytest.raises(CaptureError, match=words):
        ask(net(text), (1, 3), framework=package)


# Captures of other packages ----------------------------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package, beside those of this interpreter."""
    plant(tmp_path / "installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "installed"), *sys.path]))


@pytest.mark.usefixtures("planted")
def test_another_package_adds_a_capture(net: Callable[[str], str]) -> None:
    target = net("import planted\nbuild = planted.Model\n")
    assert ask(target, (4, 5)).source == "planted Model"
    assert ask("net.planted", (4, 5), real=True).source == "planted str"
    assert ask(target, (4, 5), framework="planted").calls[0].spec.spatial == (4, 5)
    with pytest.raises(CaptureError, match=r"^--time: found with planted; allowed: with torch, tensorflow, jax$"):
        ask(target, (4, 5), timed=True)
    with pytest.raises(CaptureError, match=r"^--framework: found 'caffe'; allowed: torch, tensorflow, jax, onnx, planted$"):
        ask(target, framework="caffe")


@pytest.mark.parametrize(
    ("framework", "words"),
    [
        ("broken", "no_such_module:Broken cannot be had: ModuleNotFoundError: No module named 'no_such_module'$"),
        ("wrong", "json:JSONDecoder cannot be had: TypeError: json:JSONDecoder is no class that inherits from "),
    ],
)
@pytest.mark.usefixtures("planted")
@pytest.mark.fault("a capture of another package is broken", "others go on; a line says so where it is named, code 2")
def test_a_broken_one_is_told_of_where_it_is_named(framework: str, words: str) -> None:
    with pytest.raises(CaptureError, match=rf"^--framework {framework}: its capture {words}"):
        ask("net.planted", (4, 5), framework=framework)


def test_it_is_found_in_the_interpreter_that_has_the_model(net: Callable[[str], str], tmp_path: Path) -> None:
    python = foreign.environment(tmp_path / "env", packages=())
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    plant(site)
    assert ask(net("import planted\nbuild = planted.Model\n"), (4, 5), python=str(python)).source == "planted Model"


def test_nobody_takes_the_name_of_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(name, f"planted:{name}", base.GROUP) for name in ("zeta", "jax", "alpha", "alpha")]
    monkeypatch.setattr(base.metadata, "entry_points", lambda group: points if group == base.GROUP else [])
    assert base.known() == {**base.CAPTURES, "alpha": "planted:alpha", "zeta": "planted:zeta"}
    assert list(base.known()) == ["torch", "tensorflow", "jax", "onnx", "alpha", "zeta"]


@pytest.mark.parametrize("module", ["keras.applications", "tensorflow.keras.applications", "keras.applications.resnet"])
def test_keras_applications_fetch_nothing_unless_asked(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    from harness.captures import worker

    given: dict[str, object] = {}
    spec = layer((1, 3, 8, 8), (4, 3, 3, 3), [1], [(0, 0)], [1])
    seen = Seen("x", (Call(spec, Direction.FPROP),), notes=("more",))
    monkeypatch.setattr(worker, "_callable", lambda target: lambda weights="imagenet": given.update(weights=weights))
    monkeypatch.setattr(worker, "of_model", lambda *rest: seen)
    assert worker.seen(Request(f"{module}:ResNet50")).notes == (
        "weights=None: nothing is fetched; --arg weights=... says otherwise",
        "more",
    )
    assert given == {"weights": None}
    assert worker.seen(Request(f"{module}:ResNet50", arguments={"weights": "'imagenet'"})).notes == ("more",)
    assert given == {"weights": "imagenet"}


@pytest.mark.fault("`capture` is killed", "the process of the model ends, too")
def test_it_ends_with_whoever_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    from harness import codec
    from harness.isolate import interpreter

    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("import time\nopen('begun', 'w').close()\ntime.sleep(600)\n")
    ours, theirs = socket.socketpair()
    with theirs:
        command = [*interpreter.command(None, capturing.WORKER), str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
    ours.sendall(codec.dumps(Request("net.py:build")).encode() + b"\n")
    until = time.monotonic() + 60
    while not Path("begun").exists() and time.monotonic() < until:
        os.sched_yield()
    ours.close()
    assert process.wait(60) == 1
