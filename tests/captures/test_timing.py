"""The share of a step: medians of whole and of watched steps, when it is refused, and what events of a profile come to."""

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from harness.backends import hlo
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
    assert measured(clock.moving(25_000_000_000), watching(Watched(1))).steps == 3
    assert measured(clock.moving(35_000_000_000), watching(Watched(1))).steps == 2
    assert measured(clock.moving(70_000_000_000), watching(Watched(1))).steps == 1


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


# A program in which XLA has fused, replaced and moved, as it does on a CPU.
NAMED, MAX = 'metadata={op_name="jit(step)/conv_general_dilated"}', 'metadata={op_name="jit(step)/max"}'
PROGRAM = hlo.Program(f"""\
%fused (a: f32[4,4], b: f32[4,4]) -> f32[4,4] {{
  %inner.1 = f32[4,4]{{1,0}} convolution(%a, %b), window={{size=1}}, dim_labels=bf_io->bf
  ROOT %inner.2 = f32[4,4]{{1,0}} maximum(%inner.1, %a), {MAX}
}}
%moved_within (a: f32[4,4]) -> f32[4,4] {{
  %inner.3 = f32[4,4]{{1,0}} transpose(%a), dimensions={{1,0}}, {NAMED}
  ROOT %inner.4 = f32[4,4]{{1,0}} maximum(%inner.3, %a), {MAX}
}}
%turned (a: f32[4,4]) -> f32[4,4] {{
  %inner.5 = f32[4,4]{{1,0}} reverse(%a), dimensions={{0}}, metadata={{op_name="jit(step)/transpose(jvp())/rev"}}
  ROOT %inner.6 = f32[4,4]{{0,1}} copy(%inner.5)
}}
ENTRY %main (x: f32[4,4], w: f32[4,4]) -> f32[4,4] {{
  %x = f32[4,4]{{1,0}} parameter(0)
  %w = f32[4,4]{{1,0}} parameter(1)
  %far = f32[4,4]{{0,1}} copy(%x)
  %before = f32[4,4]{{1,0}} transpose(%far), dimensions={{1,0}}
  %bitcast = f32[4,4]{{1,0}} bitcast(%before)
  %joined = f32[4,4]{{1,0}} concatenate(%w), dimensions={{0}}
  %turn = f32[4,4]{{0,1}} fusion(%w), kind=kLoop, calls=%turned
  %plain = f32[4,4]{{1,0}} convolution(%bitcast, %turn, %joined), window={{size=1}}, dim_labels=bf_io->bf
  %after = f32[4,4]{{1,0}} transpose(%plain), dimensions={{1,0}}
  %users = f32[4,4]{{1,0}} transpose(%plain), dimensions={{1,0}}, metadata={{op_name="jit(step)/transpose"}}
  %max = f32[4,4]{{1,0}} maximum(%after, %users), {MAX}
  %nowhere = f32[4,4]{{0,1}} copy(%max)
  %within = f32[4,4]{{1,0}} fusion(%max), kind=kLoop, calls=%moved_within
  %as_product = f32[4,4]{{1,0}} dot(%within, %w), {NAMED}
  %library = f32[4,4]{{1,0}} custom-call(%max, %w), custom_call_target="anything", {NAMED}
  %both = f32[4,4]{{1,0}} fusion(%max, %w), kind=kCustom, calls=%fused
  ROOT %product = f32[4,4]{{1,0}} dot(%both, %nowhere), metadata={{op_name="jit(step)/dot_general"}}
}}
""")


def operations(*names: str) -> dict[str, bool]:
    """Those that are of a convolution among the operations of these names, each with whether other work is in it."""
    found = jax_timing.convolutions([event(0, 1, name) for name in names], PROGRAM)
    return {event.name: shared for event, shared in found}


def test_what_computes_a_convolution_is_one_whatever_xla_has_made_of_it() -> None:
    names = ("plain", "as_product", "library", "both", "product", "max", "unknown")
    assert operations(*names) == {"plain": False, "as_product": False, "library": False, "both": True}


def test_what_only_moves_its_arrays_is_part_of_it() -> None:
    names = ("far", "before", "turn", "plain", "after", "users", "joined", "nowhere", "within", "max")
    assert operations(*names) == dict.fromkeys(("far", "before", "turn", "plain", "after"), False)
    assert operations("far", "before", "turn") == {}


def test_of_a_gpu_the_kernels_count_and_not_what_starts_them() -> None:
    """By construction: not run on a GPU."""
    host, device = event(0, 9, "plain"), event(5, 20, "plain", Level.PRIMITIVE)
    assert list(jax_timing.convolutions([host, device], PROGRAM)) == [(device, False)]
    starting = event(0, 9, "Conv2D", Level.OPERATOR, Kind.FRAMEWORK)
    kernel = event(5, 20, "net/conv/Conv2D:Conv2D", Level.PRIMITIVE, Kind.GEMM)
    other = event(20, 30, "net/dense/MatMul:MatMul", Level.PRIMITIVE, Kind.GEMM)
    assert list(tensorflow_timing.convolutions([starting, kernel, other])) == [(kernel, False)]


def test_operators_of_tensorflow_that_have_a_bias_or_an_activation_in_them_are_told() -> None:
    names = ["_MklNativeFusedConv2D", "Conv2DBackpropFilter", "_MklNativePadWithConv2D"]
    found = [event(0, 1, name, Level.OPERATOR) for name in names]
    assert list(tensorflow_timing.convolutions([*found, event(0, 1, "Relu", Level.OPERATOR, Kind.ELEMENTWISE)])) == [
        (found[0], True), (found[1], False), (found[2], True),
    ]  # fmt: skip


def test_all_of_a_program_of_convolutions_is_of_them_and_nothing_of_others() -> None:
    functions = tensorflow_timing.Functions(["__forward__conv_xla_12", "__inference_f_1"])
    kinds = {
        module: functions.operation("fusion", module).kind
        for module in ("a_forward__conv_xla_12__.1", "a_forward__conv_xla_128__.1", "jit_f", "")
    }
    assert kinds == dict.fromkeys(kinds, Kind.OTHER) | {"a_forward__conv_xla_12__.1": Kind.CONVOLUTION}
    assert functions.missing == {"__inference_f_1"}
