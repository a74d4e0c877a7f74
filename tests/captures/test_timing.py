"""The share of a step: medians of whole and of watched steps, when it is refused, and what events of a profile come to."""

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from harness.calls import Timing
from harness.captures import jax_timing, tensorflow_timing, timing
from harness.captures.base import Notes
from harness.captures.timing import UnknownShareError, Watched, known, measured, of_events
from harness.errors import CaptureError
from harness.measure.attribute import Span
from harness.profile import Event, Kind, Level


class Clock:
    """A clock that stands still until a step moves it, in ns."""

    now = 0

    def moving(self, *lengths: int) -> Callable[[], None]:
        """A step, which takes these times one after the other, and the last one for good."""
        coming: Iterator[int] = itertools.chain(lengths, itertools.repeat(lengths[-1]))

        def step() -> None:
            self.now += next(coming)

        return step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(
        timing, "time", SimpleNamespace(perf_counter_ns=lambda: found.now, monotonic=lambda: found.now / 1e9)
    )  # fmt: skip
    return found


def watching(*told: Watched) -> Callable[[], Watched]:
    coming = itertools.chain(told, itertools.repeat(told[-1]))
    return lambda: next(coming)


def test_medians_of_both_kinds_of_step_are_told_and_the_first_step_counts_for_neither(clock: Clock) -> None:
    step = clock.moving(77_000_000_000, 4_000_000_000, 6_000_000_000, 5_000_000_000)
    told = watching(Watched(10, 5), Watched(30, 7, 5_000_000_000), Watched(20, 6, 6_000_000_000))
    assert measured(step, told) == Timing(5_000_000_000, 20, 3, 6)


def test_it_goes_on_for_its_time_and_never_beyond_so_many(clock: Clock) -> None:
    assert measured(clock.moving(2_000_000_000), watching(Watched(1))).steps == 5
    assert measured(clock.moving(1_000), watching(Watched(1))).steps == 20


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Watched(900, 0, 1260), r"^a step that is watched takes 1\.26× the time of one that is not$"),
        (Watched(1001, 0, 1100), "^the convolutions of watched steps took longer than whole steps"),
        (Watched(0, 0, 1000), "^nothing is told of the convolutions while a step runs$"),
    ],
)
def test_what_makes_no_share_is_said(clock: Clock, told: Watched, words: str) -> None:
    with pytest.raises(UnknownShareError, match=words):
        measured(clock.moving(1000), watching(told))


def test_convolutions_may_be_all_of_a_step_and_watching_may_cost_a_quarter_of_it(clock: Clock) -> None:
    assert measured(clock.moving(1000), watching(Watched(1000, 0, 1250))).convolutions_ns == 1000
    assert measured(clock.moving(1000), watching(Watched(400))).convolutions_ns == 400


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UnknownShareError("a step is short"), "a step is short"),
        (CaptureError("no such thing"), "no such thing"),
        (MemoryError(), "MemoryError: "),
        (RuntimeError("\x1b[31mno room\nfor it"), "RuntimeError: no room"),
    ],
)
@pytest.mark.fault("a real step of a captured model fails, or tells nothing", "a sentence stands instead of the share, code 0")
def test_a_share_that_is_not_known_is_a_note(error: Exception, words: str) -> None:
    def failing() -> Timing:
        raise error

    notes = Notes()
    assert known(notes, failing) is None
    assert list(notes.said) == [f"the convolutions' share of a step is not known: {words}"]
    assert known(notes, lambda: Timing(3, 2, 1)) == Timing(3, 2, 1)


# Events ------------------------------------------------------------------------------------------------------------------


def event(start: int, end: int, name: str = "c", level: Level = Level.COMPILED, kind: Kind = Kind.CONVOLUTION) -> Event:
    return Event(start, end, f"thread {start}", level, name, kind, "XLA")


def test_an_instant_in_which_several_convolutions_run_counts_once_and_none_outside_of_the_step() -> None:
    found = [(event(0, 20), False), (event(30, 60), False), (event(50, 80), True), (event(90, 120), False)]
    assert of_events(found, Span(10, 100)) == Watched(70, 30, 90)
    assert of_events([], Span(10, 100)) == Watched(0, 0, 90)


class Made:
    """A program whose operations were made of these."""

    def __init__(self, **parts: tuple[tuple[Kind, str], ...]) -> None:
        self.made_of = lambda name: parts.get(name, ())


CONV, OTHER = jax_timing.CONVOLUTION, "max"
PROGRAM = Made(
    plain=((Kind.CONVOLUTION, CONV),),
    as_product=((Kind.COPY, CONV), (Kind.GEMM, CONV)),
    moves=((Kind.TRANSPOSE, CONV),),
    library=((Kind.OTHER, CONV),),
    unnamed=((Kind.CONVOLUTION, ""),),
    fused=((Kind.CONVOLUTION, CONV), (Kind.ELEMENTWISE, OTHER), (Kind.COPY, "")),
    moved_within=((Kind.TRANSPOSE, CONV), (Kind.ELEMENTWISE, OTHER)),
    product=((Kind.GEMM, "dot_general"),),
    without=((Kind.COPY, ""),),
)


@pytest.mark.parametrize("name", ["plain", "as_product", "moves", "library", "unnamed"])
def test_an_operation_of_xla_that_was_made_of_a_convolution_is_one(name: str) -> None:
    one = event(0, 1, name)
    assert list(jax_timing.convolutions([one], PROGRAM)) == [(one, False)]  # type: ignore[arg-type]


def test_work_that_is_fused_into_a_convolution_is_told() -> None:
    one = event(0, 1, "fused")
    assert list(jax_timing.convolutions([one], PROGRAM)) == [(one, True)]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["moved_within", "product", "without", "unknown"])
def test_other_operations_are_not_even_where_they_move_what_a_convolution_reads(name: str) -> None:
    assert list(jax_timing.convolutions([event(0, 1, name)], PROGRAM)) == []  # type: ignore[arg-type]


def test_of_a_gpu_the_kernels_count_and_not_what_starts_them() -> None:
    """By construction: not run on a GPU."""
    host, device = event(0, 9, "plain"), event(5, 20, "plain", Level.PRIMITIVE)
    assert list(jax_timing.convolutions([host, device], PROGRAM)) == [(device, False)]  # type: ignore[arg-type]
    starting = event(0, 9, "Conv2D", Level.OPERATOR, Kind.FRAMEWORK)
    kernel = event(5, 20, "net/conv/Conv2D:Conv2D", Level.PRIMITIVE, Kind.GEMM)
    other = event(20, 30, "net/dense/MatMul:MatMul", Level.PRIMITIVE, Kind.GEMM)
    assert list(tensorflow_timing.convolutions([starting, kernel, other])) == [(kernel, False)]


def test_operators_of_tensorflow_that_have_a_bias_or_an_activation_in_them_are_told() -> None:
    names = ["_MklNativeFusedConv2D", "Conv2DBackpropFilter"]
    found = [event(0, 1, name, Level.OPERATOR) for name in names]
    assert list(tensorflow_timing.convolutions([*found, event(0, 1, "Relu", Level.OPERATOR, Kind.ELEMENTWISE)])) == [
        (found[0], True), (found[1], False),
    ]  # fmt: skip
