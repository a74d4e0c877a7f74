"""What each framework tells of its calls while they are watched: real frameworks, each in a process as a profile is made in."""

import json
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from harness import flops
from harness.axes import Direction, Mode
from harness.backends import registry
from harness.profile import Event, Kind, Level, Role
from harness.spec import ConvSpec

CALLS = 4
EXAMPLE, POINT = ConvSpec.parse("n1 c3 k16 14x14 f5x5 p2x2"), ConvSpec.parse("n1 c8 k8 6x6 f1x1")
CHILD = """
import json, os, sys, time
from dataclasses import asdict
from harness.axes import Device, Direction, Mode, Optimizer
from harness.backends import registry
from harness.spec import Cell, ConvSpec

name, place, calls, cases = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
kind, device = registry.resolve(registry.find(name)), Device("cpu")
os.environ.update({**kind.environ(device, 1), **kind.profile_environ(device, 1), "OMP_NUM_THREADS": "1"})
import numpy as np
from harness.backends.base import Operands

backend = kind(device, 1)
rng, found = np.random.default_rng(0), []
for text, direction, mode in cases:
    spec = ConvSpec.parse(text)
    arrays = (rng.standard_normal(shape).astype("float32") for shape in (spec.x_shape, spec.w_shape, spec.y_shape))
    optimizer = Optimizer.SGD if direction == "train" else None
    cell = Cell("a", spec, Direction(direction), name, mode=Mode(mode), threads=1, optimizer=optimizer)
    call = backend.prepare(cell, Operands(*arrays))
    for _ in range(3):
        call.wait(call.launch())
    with call.watched() as read:
        spans = []
        for _ in range(calls):
            begin = time.time_ns()
            call.wait(call.launch())
            spans.append([begin, time.time_ns()])
    call.wait(call.launch())  # which nothing may tell of
    events = [asdict(event) for event in read()]
    found.append({"spans": spans, "events": events, "sources": call.sources, "flops": call.compiled_flops()})
    call.close()
with open(place, "w") as file:
    json.dump(found, file)
"""
SINGLE = (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)
EXTRA = {"torch": [(POINT, Direction.FPROP, Mode.EAGER), (EXAMPLE, Direction.TRAIN, Mode.EAGER)]}
QUICK = {"torch": [Mode.EAGER], "tensorflow": [Mode.EAGER, Mode.COMPILED], "jax": [Mode.EAGER, Mode.COMPILED]}
SLOW = {"torch": [Mode.COMPILED], "tensorflow": [Mode.XLA]}
Case = tuple[str, Mode, Direction]
PARTS = [
    pytest.param((name, mode, direction), id=f"{name}-{mode}-{direction}", marks=marks)
    for modes, marks in ((QUICK, ()), (SLOW, pytest.mark.long))
    for name in modes
    for mode in modes[name]
    for direction in SINGLE
]


class Watched:
    """The calls of one cell, by the child's own clock, and the events that were told of them."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.spans: list[list[int]] = told["spans"]
        self.sources: list[str] = told["sources"]
        self.flops: float | None = told["flops"]
        self.events = [
            Event(**{**each, "level": Level(each["level"]), "kind": Kind(each["kind"]), "role": Role(each["role"])})
            for each in told["events"]
        ]

    def calls_of(self, event: Event) -> list[int]:
        """The calls that the middle of an event lies in."""
        middle = (event.start_ns + event.end_ns) // 2
        return [number for number, (begin, end) in enumerate(self.spans) if begin <= middle <= end]

    @property
    def convolutions(self) -> list[Event]:
        """Those of operators, compiled operations and primitives."""
        return [event for event in self.events if event.kind is Kind.CONVOLUTION and event.level >= Level.OPERATOR]


@cache
def process(name: str, modes: tuple[Mode, ...], extra: bool) -> dict[tuple[ConvSpec, Mode, Direction], Watched]:
    """What a process of a framework tells of each cell; skips where it is not installed."""
    if not registry.installed(name):
        pytest.skip(f"{name} is not installed")
    cases = [(EXAMPLE, direction, mode) for mode in modes for direction in SINGLE] + (EXTRA.get(name, []) if extra else [])
    with TemporaryDirectory() as folder:
        place, log = Path(folder) / "found.json", Path(folder) / "log"
        asked = json.dumps([[str(spec), direction, mode] for spec, direction, mode in cases])
        command = [sys.executable, "-c", CHILD, name, str(place), str(CALLS), asked]
        with log.open("w") as output:
            done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        told = [Watched(each) for each in json.loads(place.read_text())]
    return {(spec, mode, direction): each for (spec, direction, mode), each in zip(cases, told, strict=True)}


def watched(case: Case) -> Watched:
    name, mode, direction = case
    quick = mode in QUICK[name]
    return process(name, tuple(QUICK[name] if quick else SLOW[name]), quick)[EXAMPLE, mode, direction]


@pytest.mark.parametrize("case", PARTS)
def test_each_call_has_one_convolution_whose_kernel_is_named(case: Case):
    found = watched(case)
    assert len(found.spans) == CALLS
    counted = Counter(call for event in found.convolutions for call in found.calls_of(event))
    assert counted == dict.fromkeys(range(CALLS), 1)
    assert len(found.convolutions) == CALLS
    assert {bool(event.implementation) for event in found.convolutions} == {True}
    assert len({event.implementation for event in found.convolutions}) == 1


@pytest.mark.parametrize("case", PARTS)
def test_what_was_told_happened_in_the_calls(case: Case):
    """All of what computes or moves; the framework's own spans may reach beyond, as threads that wait do."""
    found = watched(case)
    outside = [event for event in found.events if event.level > Level.SPAN and not found.calls_of(event)]
    assert outside == []
    assert {event.start_ns <= event.end_ns for event in found.events} == {True}


@pytest.mark.parametrize("case", [part for part in PARTS if part.values[0][0] in ("torch", "tensorflow")])
def test_primitives_lie_inside_the_operators_that_call_them(case: Case):
    found = watched(case)
    around = [event for event in found.events if event.level in (Level.OPERATOR, Level.COMPILED)]
    for primitive in (event for event in found.events if event.source == "oneDNN"):
        middle = (primitive.start_ns + primitive.end_ns) // 2
        assert [event for event in around if event.start_ns <= middle <= event.end_ns], primitive


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch", [r"torch\.profiler \d+\.\d+\S*", r"oneDNN \d+\.\d+\.\d+ verbose"]),
        ("tensorflow", [r"TensorFlow's profiler \d+\.\d+\S*", r"oneDNN \d+\.\d+\.\d+ verbose"]),
        ("jax", [r"XLA's profiler, JAX \d+\.\d+\S*"]),
    ],
)
def test_sources_are_named_with_their_versions(name: str, expected: list[str]):
    sources = watched((name, Mode.EAGER, Direction.FPROP)).sources
    assert len(sources) == len(expected)
    for source, pattern in zip(sources, expected, strict=True):
        assert re.fullmatch(pattern, source)


@pytest.mark.parametrize("name", ["torch", "tensorflow"])
def test_the_convolution_is_onednn_s_and_its_reorders_say_which_tensor(name: str):
    for direction in SINGLE:
        found = watched((name, Mode.EAGER, direction))
        assert {(event.level, event.source) for event in found.convolutions} == {(Level.PRIMITIVE, "oneDNN")}
        assert {event.detail.split()[0] for event in found.convolutions} == {"f32"}
        moves = [event for event in found.events if event.kind is Kind.REORDER and event.level is Level.PRIMITIVE]
        assert Role.UNKNOWN not in {event.role for event in moves}


def test_torch_computes_a_point_for_one_image_on_one_thread_by_itself():
    found = process("torch", tuple(QUICK["torch"]), True)[POINT, Mode.EAGER, Direction.FPROP]
    assert {(event.name, event.implementation, event.level) for event in found.convolutions} == {
        ("aten::_slow_conv2d_forward", "_slow_conv2d", Level.OPERATOR)
    }
    assert len(found.convolutions) == CALLS


def test_a_training_step_of_torch_has_an_optimizer_and_both_gradients():
    found = process("torch", tuple(QUICK["torch"]), True)[EXAMPLE, Mode.EAGER, Direction.TRAIN]
    assert len([event for event in found.convolutions if event.level is Level.PRIMITIVE]) == 3 * CALLS
    assert Kind.OPTIMIZER in {event.kind for event in found.events}


def test_jax_s_compiled_program_has_the_flop_of_the_convolution():
    """XLA counts only the taps inside x, as the exact count does."""
    found = watched(("jax", Mode.COMPILED, Direction.FPROP))
    assert found.flops == pytest.approx(flops.exact(EXAMPLE), rel=0.02)
    assert watched(("jax", Mode.EAGER, Direction.FPROP)).flops is None


@pytest.mark.parametrize("direction", SINGLE)
def test_jax_s_convolution_is_known_by_the_text_of_its_program(direction: Direction):
    found = watched(("jax", Mode.COMPILED, direction))
    assert {(event.level, event.source) for event in found.convolutions} == {(Level.COMPILED, "XLA")}
    assert {event.detail.split()[0] for event in found.convolutions} == {"f32"}
