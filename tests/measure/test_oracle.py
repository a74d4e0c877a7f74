import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harness.axes import Bias, Device, Direction, Epilogue, Optimizer, Precision, Values
from harness.backends import numpy as reference
from harness.backends.base import LEARNING_RATE, Operands, Results
from harness.backends.numpy import NumpyBackend
from harness.measure import oracle
from harness.measure.operands import integer_operands, normal_operands, rounded, valued
from harness.measure.wrong import WrongResultError, check_of, sound
from harness.record import Check
from harness.spec import MIRRORED, Cell, ConvSpec, CopySpec, GemmSpec, WorkloadSpec, parse_workload
from tests import builders

SPECS = {
    "plain": "n2 c4 k6 7x6 f3x2 p1x0",
    "grouped": "n2 c6 k4 6x6 f3x3 p1x1 g2",
    "depthwise": "n2 c4 k8 6x6 f3x3 p1x1 g4",
    "strided": "n2 c3 k4 9x8 f3x3 s2x3 p1x1 d2x1",
    "asymmetric": "n3 c3 k4 7x7 f3x4 s2x1 p0-1x2-1",
    "one dimension": "n2 c3 k4 12 f5 s2 p2",
    "three dimensions": "n2 c2 k3 4x5x6 f3x2x3 p1x0-1x1",
    "transposed": "transposed n2 c4 k6 5x4 f3x2 s2x3 p1x0-1 o1x2",
    "transposed grouped": "transposed n2 c6 k4 4x4 f3x3 s2x2 p1x1 d2x1 g2",
}
SINGLE = (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)
RESULT = {Direction.FPROP: "y", Direction.DGRAD: "dx", Direction.WGRAD: "dw"}


def cell(
    spec: str | WorkloadSpec, direction: Direction = Direction.FPROP, precision: Precision = Precision.FP32,
    optimizer: Optimizer = Optimizer.SGD,
) -> Cell:  # fmt: skip
    found = parse_workload(spec) if isinstance(spec, str) else spec
    chosen = optimizer if direction is Direction.TRAIN else None
    return builders.cell(spec=found, direction=direction, precision=precision, optimizer=chosen, backend="numpy")


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def answer(asked: Cell, operands: Operands) -> Results:
    """What the reference makes of it, in the cell's own arithmetic."""
    prepared = NumpyBackend(Device("cpu"), 1).prepare(asked, operands)
    return prepared.fetch(prepared.launch())


def spotted(asked: Cell, change: Callable[[Results], Results] = lambda results: results) -> Check:
    """The spot check's word on a result after a change."""
    operands = normal_operands(asked, rng())
    return spot(asked, operands, change(answer(asked, operands)), rng(2))


def spot(asked: Cell, operands: Operands, results: Results, lots: np.random.Generator) -> Check:
    """The check that the engine makes of it, a result that is none included."""
    try:
        return check_of(oracle.spot(asked, operands, sound(asked, results), lots))
    except WrongResultError as wrong:
        return wrong.check


def exactly(asked: Cell, change: Callable[[Results], Results] = lambda results: results) -> tuple[bool, str]:
    """The exact check's word on a result after a change."""
    operands = integer_operands(asked, rng())
    return oracle.exact(asked, operands, change(answer(asked, operands)), rng(2))


def one_more(results: Results, name: str, at: int) -> Results:
    """The same but for a single element."""
    changed = getattr(results, name).copy()
    changed.flat[at % changed.size] += 1
    return replace(results, **{name: changed})


# What is right passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP64])
@pytest.mark.parametrize("direction", [direction for direction in Direction if direction is not Direction.NONE])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_right_results_pass_the_spot_check(spec: str, direction: Direction, precision: Precision) -> None:
    check = spotted(cell(spec, direction, precision))
    assert check.ok
    assert check.method == "spot"
    assert 0 <= check.max_rel_err <= check.tolerance


def test_right_adam_steps_pass_too() -> None:
    assert spotted(cell(SPECS["plain"], Direction.TRAIN, optimizer=Optimizer.ADAM)).ok


@pytest.mark.parametrize(("dense_flop", "method"), [(10**9, "exact"), (0, "exact_sums")])
@pytest.mark.parametrize("direction", SINGLE)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_right_integers_are_exact_element_by_element_and_by_sums(
    monkeypatch: pytest.MonkeyPatch, spec: str, direction: Direction, dense_flop: int, method: str
) -> None:
    monkeypatch.setattr(oracle, "_DENSE_FLOP", dense_flop)
    assert exactly(cell(spec, direction)) == (True, method)


@pytest.mark.parametrize("direction", SINGLE)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_of_a_large_convolution_a_part_is_recomputed(monkeypatch: pytest.MonkeyPatch, spec: str, direction: Direction) -> None:
    monkeypatch.setattr(oracle, "_SPOT_FLOP", 1)  # then it is one channel of one group
    asked = cell(spec, direction)
    of = MIRRORED[direction] if asked.spec.transposed else direction
    part, _ = oracle._part(asked.conv, of, rng())
    assert part.groups == 1
    assert (part.c if of is Direction.DGRAD else part.k) == 1
    assert spotted(asked).ok
    assert not spotted(asked, lambda results: one_more_everywhere(results, RESULT[direction])).ok


@pytest.mark.parametrize("direction", SINGLE)
def test_a_transposed_convolution_with_a_wrong_element_or_a_mirrored_filter_fails(direction: Direction) -> None:
    asked = cell(SPECS["transposed"], direction)
    assert not exactly(asked, lambda results: one_more(results, RESULT[direction], 5))[0]
    operands = normal_operands(asked, rng())
    mirrored = replace(operands, w=operands.w[..., ::-1, ::-1].copy())
    if direction is Direction.WGRAD:
        assert not spotted(asked, lambda results: replace(results, dw=results.dw[..., ::-1, ::-1].copy())).ok
    else:
        assert not spot(asked, operands, answer(asked, mirrored), rng(2)).ok


def one_more_everywhere(results: Results, name: str) -> Results:
    """Every element wrong, so that any part is."""
    return replace(results, **{name: getattr(results, name) + 1})


# Matrix products and copies -----------------------------------------------------------------------------------------------

PRODUCT, MOVE = GemmSpec(m=7, n=5, k=300), CopySpec(4096)


def ceiling(spec: GemmSpec | CopySpec, precision: Precision = Precision.FP32) -> Cell:
    return builders.cell(spec=spec, direction=Direction.NONE, precision=precision, backend="numpy")


@pytest.mark.parametrize("precision", Precision)
def test_operands_of_products_and_copies_have_their_shapes(precision: Precision) -> None:
    for draw in (normal_operands, integer_operands):
        operands = draw(ceiling(PRODUCT, precision), rng())
        assert (operands.x.shape, operands.w.shape, operands.dy.size) == ((7, 300), (300, 5), 0)
    operands = normal_operands(ceiling(MOVE, precision), rng())
    assert (operands.x.shape, operands.w.size, operands.dy.size) == ((4096 // precision.itemsize,), 0, 0)
    assert 0.8 < operands.x.std() < 1.2


def test_a_copy_of_any_size_has_values_that_come_again_late_and_off_every_block() -> None:
    operands = normal_operands(ceiling(CopySpec(2**23)), rng())
    assert operands.x.dtype == np.float32
    assert len(np.unique(operands.x[:1000])) == 1000
    assert not any(np.array_equal(operands.x[: 2**step], operands.x[2**step : 2 * 2**step]) for step in range(20))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP64])
@pytest.mark.parametrize("spec", [PRODUCT, GemmSpec(1, 1, 1), GemmSpec(1, 300, 2)], ids=str)
@pytest.mark.parametrize(("dense_flop", "method"), [(10**9, "exact"), (0, "exact_sums")])
def test_right_products_pass_both_checks(
    monkeypatch: pytest.MonkeyPatch, spec: GemmSpec, precision: Precision, dense_flop: int, method: str
) -> None:
    monkeypatch.setattr(oracle, "_DENSE_FLOP", dense_flop)
    assert oracle.asks_exact(ceiling(spec))
    assert exactly(ceiling(spec, precision)) == (True, method)
    check = spotted(ceiling(spec, precision))
    assert (check.ok, check.method) == (True, "spot")


@pytest.mark.parametrize("dense_flop", [10**9, 0], ids=["dense", "sums"])
def test_a_single_wrong_element_of_a_product_fails_both(monkeypatch: pytest.MonkeyPatch, dense_flop: int) -> None:
    monkeypatch.setattr(oracle, "_DENSE_FLOP", dense_flop)
    for at in (0, 17, -1):
        assert not exactly(ceiling(PRODUCT), lambda results, at=at: one_more(results, "y", at))[0]
        assert not spotted(ceiling(PRODUCT), lambda results, at=at: one_more(results, "y", at)).ok
    assert not exactly(ceiling(PRODUCT), lambda results: Results())[0]
    assert not spotted(ceiling(PRODUCT), lambda results: replace(results, y=results.y.T)).ok
    assert not spotted(ceiling(PRODUCT), lambda results: replace(results, y=results.y * np.nan)).ok


def test_of_a_large_product_some_rows_and_columns_are_recomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "_SPOT_FLOP", 1)  # then it is one of each
    assert spotted(ceiling(PRODUCT)).ok
    assert not spotted(ceiling(PRODUCT), lambda results: one_more_everywhere(results, "y")).ok


def test_a_product_in_less_precision_than_asked_for_is_wrong() -> None:
    def short(results: Results) -> Results:
        return replace(results, y=results.y.astype(np.float16).astype(np.float64))

    assert not spotted(ceiling(GemmSpec(64, 64, 8)), short).ok
    assert spotted(ceiling(GemmSpec(64, 64, 8), Precision.FP16), short).ok


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP64])
def test_a_copy_is_right_to_the_last_bit_or_wrong(monkeypatch: pytest.MonkeyPatch, precision: Precision) -> None:
    monkeypatch.setattr("harness.measure.wrong._PIECE", 100)  # the last piece is a short one
    asked = ceiling(MOVE, precision)
    assert not oracle.asks_exact(asked)
    right = spotted(asked)
    assert right == Check(True, "exact", 0.0, 0.0)
    least = 2.0**-23 if precision is Precision.FP32 else 2.0**-52

    def nudged(results: Results, at: int) -> Results:
        changed = results.y.copy()
        changed[at] *= 1 + least
        return replace(results, y=changed)

    for at in (0, 100, -1):
        wrong = spotted(asked, lambda results, at=at: nudged(results, at))
        assert not wrong.ok
        assert 0 < wrong.max_rel_err < 1e-5


@pytest.mark.parametrize(
    "change",
    [lambda y: y[:-1], lambda y: np.zeros_like(y), lambda y: np.roll(y, 1), lambda y: y * np.nan, lambda y: y[::-1]],
    ids=["short", "zeros", "shifted", "nan", "backwards"],
)
def test_a_copy_of_something_else_is_wrong(change: Callable[[np.ndarray], np.ndarray]) -> None:
    assert not spotted(ceiling(MOVE), lambda results: replace(results, y=change(results.y))).ok
    assert not spotted(ceiling(MOVE), lambda results: Results()).ok


def test_zeros_have_a_sign_that_a_copy_keeps() -> None:
    x = np.zeros(4, np.float32)
    operands, asked = Operands(x, x[:0], x[:0]), ceiling(CopySpec(16))
    assert spot(asked, operands, Results(y=np.zeros(4)), rng()).ok
    assert not spot(asked, operands, Results(y=-np.zeros(4)), rng()).ok


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_integers_of_a_long_product_are_thinned(precision: Precision) -> None:
    largest = {Precision.FP16: 2**11, Precision.BF16: 2**8}[precision]
    operands = integer_operands(ceiling(GemmSpec(50, 60, 4000), precision), rng())
    sums = operands.x @ operands.w
    assert np.abs(sums).max() < largest
    assert np.abs(sums).max() > 0


# What is wrong does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dense_flop", [10**9, 0], ids=["dense", "sums"])
@pytest.mark.parametrize("direction", SINGLE)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_single_wrong_element_fails_the_exact_check(
    monkeypatch: pytest.MonkeyPatch, spec: str, direction: Direction, dense_flop: int
) -> None:
    monkeypatch.setattr(oracle, "_DENSE_FLOP", dense_flop)
    for at in (0, 17, -1):
        right, _ = exactly(cell(spec, direction), lambda results, at=at: one_more(results, RESULT[direction], at))
        assert not right


@pytest.mark.parametrize("dense_flop", [10**9, 0], ids=["dense", "sums"])
def test_nan_is_not_exact(monkeypatch: pytest.MonkeyPatch, dense_flop: int) -> None:
    monkeypatch.setattr(oracle, "_DENSE_FLOP", dense_flop)
    right, _ = exactly(cell(SPECS["plain"]), lambda results: replace(results, y=np.full_like(results.y, np.nan)))
    assert not right


def test_two_exchanged_channels_fail_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "_DENSE_FLOP", 0)

    def exchanged(results: Results) -> Results:
        return replace(results, y=results.y[:, [1, 0, 2, 3, 4, 5]])

    asked = cell(SPECS["plain"])
    operands = integer_operands(asked, rng())
    # The signs of two channels are alike in half of the draws, then their sum does not tell: 2 ** -20 for all of 20.
    verdicts = [oracle.exact(asked, operands, exchanged(answer(asked, operands)), rng(seed))[0] for seed in range(20)]
    assert not all(verdicts)


def test_exact_is_for_single_passes_only() -> None:
    asked = cell(SPECS["plain"])
    operands = integer_operands(asked, rng())
    with pytest.raises(ValueError, match="no single pass"):
        oracle.exact(replace(asked, direction=Direction.BPROP), operands, Results(), rng())


SHIFTED = {"n2 c4 k6 7x6 f3x2 p1x0": "n2 c4 k6 7x6 f3x2 p0-2x0", SPECS["asymmetric"]: "n3 c3 k4 7x7 f3x4 s2x1 p1-0x1-2"}


@pytest.mark.parametrize("direction", SINGLE)
@pytest.mark.parametrize(("spec", "other"), SHIFTED.items())
def test_padding_on_the_wrong_side_is_wrong(spec: str, other: str, direction: Direction) -> None:
    asked = cell(spec, direction)
    operands = normal_operands(asked, rng())
    results = answer(cell(other, direction), operands)
    assert not spot(asked, operands, results, rng()).ok


@pytest.mark.parametrize("direction", SINGLE)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_flipped_filter_is_wrong(spec: str, direction: Direction) -> None:
    asked = cell(spec, direction)
    axes = tuple(range(2, 2 + asked.spec.ndim))
    operands = normal_operands(asked, rng())
    results = answer(asked, replace(operands, w=np.flip(operands.w, axes)))
    if direction is Direction.WGRAD:
        results = replace(results, dw=np.flip(results.dw, axes))
    assert not spot(asked, operands, results, rng()).ok


@pytest.mark.parametrize("direction", SINGLE)
@pytest.mark.parametrize("spec", [SPECS["grouped"], SPECS["depthwise"]])
def test_groups_in_the_wrong_order_are_wrong(spec: str, direction: Direction) -> None:
    def other_order(results: Results) -> Results:
        name = RESULT[direction]
        axis = 0 if direction is Direction.WGRAD else 1
        halves = np.split(getattr(results, name), 2, axis=axis)
        return replace(results, **{name: np.concatenate(halves[::-1], axis=axis)})

    assert not spotted(cell(spec, direction), other_order).ok


def test_channels_interleaved_over_groups_are_wrong() -> None:
    asked = cell(SPECS["grouped"])
    k, groups = asked.spec.k, asked.spec.groups
    interleaved = np.arange(k).reshape(groups, -1).T.reshape(-1)
    assert not spotted(asked, lambda results: replace(results, y=results.y[:, interleaved])).ok


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("direction", "name"),
    [
        *RESULT.items(),
        *itertools.product([Direction.BPROP], ["y", "dx", "dw"]),
        *itertools.product([Direction.TRAIN], ["dx", "w"]),
    ],
)
def test_what_is_not_finite_is_wrong(direction: Direction, name: str, bad: float) -> None:
    check = spotted(
        cell(SPECS["plain"], direction), lambda results: replace(results, **{name: np.full_like(getattr(results, name), bad)})
    )
    assert not check.ok
    assert not math.isfinite(check.max_rel_err)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_wrong(bad: float) -> None:
    assert not spotted(cell(SPECS["plain"], Direction.BPROP), lambda results: replace(results, loss=bad)).ok


def test_one_nan_among_many_numbers_is_found() -> None:
    def one_nan(results: Results) -> Results:
        y = results.y.copy()
        y[:, :, 3, 2] = np.nan
        return replace(results, y=y)

    assert not spotted(cell(SPECS["plain"]), one_nan).ok


@pytest.mark.parametrize("direction", [Direction.BPROP, Direction.TRAIN])
def test_results_of_nothing_but_zeros_are_wrong_and_no_division_by_zero(direction: Direction) -> None:
    def zeros(results: Results) -> Results:
        return Results(**{name: 0.0 if name == "loss" else np.zeros_like(value) for name, value in results.items().items()})

    assert not spotted(cell(SPECS["plain"], direction), zeros).ok


def test_a_wrong_loss_is_wrong() -> None:
    asked = cell(SPECS["plain"], Direction.BPROP)
    assert not spotted(asked, lambda results: replace(results, loss=results.loss * 1.01)).ok
    assert not spotted(asked, lambda results: replace(results, loss=results.loss * results.y.size)).ok  # a sum and no mean


@pytest.mark.parametrize("name", ["dx", "dw"])
def test_a_gradient_without_the_factor_of_the_mean_is_wrong(name: str) -> None:
    asked = cell(SPECS["plain"], Direction.BPROP)
    assert not spotted(asked, lambda results: replace(results, **{name: getattr(results, name) * 2})).ok


# How much is too much -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", SINGLE)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_an_error_within_the_tolerance_passes_and_a_hundred_times_the_tolerance_does_not(
    spec: str, direction: Direction
) -> None:
    asked, name = cell(spec, direction), RESULT[direction]
    size = math.sqrt(asked.spec.products(direction))  # of a sum of that many products of N(0, 1)
    tolerance = spotted(asked).tolerance

    def off_by(factor: float) -> Callable[[Results], Results]:
        return lambda results: replace(results, **{name: getattr(results, name) + factor * tolerance * size})

    assert spotted(asked, off_by(0.1)).ok
    assert not spotted(asked, off_by(100)).ok


def test_the_tolerance_grows_with_the_root_of_the_reduction_length() -> None:
    spec = ConvSpec.parse("n8 c1 k1 16x16 f1x1")
    forward, filters = spotted(cell(spec, Direction.FPROP)), spotted(cell(spec, Direction.WGRAD))
    unit = Precision.FP32.unit_roundoff
    assert forward.tolerance == pytest.approx(16 * (1 + 1) * unit)
    assert filters.tolerance == pytest.approx(16 * (math.sqrt(8 * 256) + 1) * unit)


def test_short_formats_are_allowed_their_own_roundoff_and_no_more() -> None:
    asked = cell(SPECS["plain"], precision=Precision.BF16)
    operands = normal_operands(asked, rng())
    exact_result = reference.fprop(asked.spec, operands.x.astype(np.float64), operands.w.astype(np.float64))
    short = rounded(exact_result.astype(np.float32), Precision.BF16).astype(np.float64)
    assert spot(asked, operands, Results(y=short), rng()).ok
    assert not spot(replace(asked, precision=Precision.FP32), operands, Results(y=short), rng()).ok


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_float32_results_fail_where_float64_was_asked_for(spec: str) -> None:
    def short(results: Results) -> Results:
        return replace(results, y=results.y.astype(np.float32).astype(np.float64))

    assert not spotted(cell(spec, precision=Precision.FP64), short).ok


# The optimizer's step -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.1, -1.0])
@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_a_wrong_learning_rate_is_wrong(optimizer: Optimizer, factor: float) -> None:
    asked = cell(SPECS["plain"], Direction.TRAIN, optimizer=optimizer)
    operands = normal_operands(asked, rng())
    results = answer(asked, operands)
    step = operands.w - results.w
    assert spot(asked, operands, results, rng()).ok
    assert not spot(asked, operands, replace(results, w=operands.w - factor * step), rng()).ok


def test_one_optimizer_is_not_the_other() -> None:
    asked = cell(SPECS["plain"], Direction.TRAIN, optimizer=Optimizer.SGD)
    operands = normal_operands(asked, rng())
    other = answer(replace(asked, optimizer=Optimizer.ADAM), operands)
    assert not spot(asked, operands, other, rng()).ok


def test_a_second_step_is_not_the_first() -> None:
    asked = cell(SPECS["plain"], Direction.TRAIN)
    operands = normal_operands(asked, rng())
    prepared = NumpyBackend(Device("cpu"), 1).prepare(asked, operands)
    prepared.launch()
    assert not spot(asked, operands, prepared.fetch(prepared.launch()), rng()).ok


def test_both_conventions_of_adams_epsilon_are_right() -> None:
    asked = cell(SPECS["plain"], Direction.TRAIN, Precision.FP64, Optimizer.ADAM)
    operands = normal_operands(asked, rng())
    results = answer(asked, operands)
    dw = results.dw
    late = LEARNING_RATE * dw / (np.abs(dw) + 1e-8 / math.sqrt(1 - 0.999))  # TensorFlow's epsilon hat
    assert spot(asked, operands, replace(results, w=operands.w - late), rng()).ok


# Other values than random ones ----------------------------------------------------------------------------------------------


def valued_check(asked: Cell, change: Callable[[Results], Results] = lambda results: results) -> Check:
    operands = valued(asked, normal_operands(asked, rng()))
    return spot(asked, operands, change(answer(asked, operands)), rng(2))


@pytest.mark.parametrize("values", Values)
@pytest.mark.parametrize("direction", SINGLE)
def test_right_results_of_any_values_pass(direction: Direction, values: Values) -> None:
    assert valued_check(replace(cell(SPECS["plain"], direction), operands=values)).ok


@pytest.mark.parametrize("values", [Values.ONES, Values.SPARSE, Values.ZEROS])
def test_wrong_elements_among_other_values_are_wrong(values: Values) -> None:
    asked = replace(cell(SPECS["plain"]), operands=values)
    assert not valued_check(asked, lambda results: one_more_everywhere(results, "y")).ok


def test_a_kernel_may_take_denormal_numbers_for_zero_and_no_more() -> None:
    asked = replace(cell(SPECS["plain"]), operands=Values.DENORMAL)
    assert valued_check(asked, lambda results: replace(results, y=np.zeros_like(results.y))).ok
    assert not valued_check(asked, lambda results: replace(results, y=results.y + 1e-30)).ok


# A bias and an epilogue -----------------------------------------------------------------------------------------------------

BIASED = [direction for direction in Direction if direction not in (Direction.DGRAD, Direction.NONE)]
WITH = [(Bias.CHANNEL, Epilogue.NONE), (Bias.NONE, Epilogue.RELU), (Bias.CHANNEL, Epilogue.RELU)]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP64])
@pytest.mark.parametrize("direction", BIASED)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_right_results_with_a_bias_pass(spec: str, direction: Direction, precision: Precision) -> None:
    asked = replace(cell(spec, direction, precision), bias=Bias.CHANNEL)
    assert spotted(asked).ok
    assert not oracle.asks_exact(asked) or exactly(asked) == (True, "exact")


@pytest.mark.parametrize(("bias", "epilogue"), WITH)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_of_a_large_convolution_sums_have_a_bias_and_of_an_epilogue_there_are_none(
    monkeypatch: pytest.MonkeyPatch, spec: str, bias: Bias, epilogue: Epilogue
) -> None:
    asked = replace(cell(spec), bias=bias, epilogue=epilogue)
    assert exactly(asked) == (True, "exact")
    monkeypatch.setattr(oracle, "_DENSE_FLOP", 0)
    method = "exact_sums" if epilogue is Epilogue.NONE else "exact_part"
    assert exactly(asked) == (True, method)
    assert exactly(asked, lambda results: one_more(results, "y", 0)) == (False, method)
    monkeypatch.setattr(oracle, "_SPOT_FLOP", 1)  # then a part is one channel of one group
    assert exactly(asked) == (True, method)
    assert spotted(asked).ok


@pytest.mark.parametrize("dense_flop", [10**9, 0], ids=["dense", "sums"])
@pytest.mark.parametrize(("bias", "epilogue"), WITH)
@pytest.mark.parametrize("spec", [SPECS["grouped"], SPECS["transposed"]])
def test_a_bias_or_an_epilogue_that_is_missing_is_wrong(
    monkeypatch: pytest.MonkeyPatch, spec: str, bias: Bias, epilogue: Epilogue, dense_flop: int
) -> None:
    monkeypatch.setattr(oracle, "_DENSE_FLOP", dense_flop)
    asked = replace(cell(spec), bias=bias, epilogue=epilogue)
    for operands, check in ((integer_operands(asked, rng()), "exact"), (normal_operands(asked, rng()), "spot")):
        bare = answer(cell(spec), replace(operands, b=None))
        others = [bare]
        if operands.b is not None:  # the bias of another channel
            others.append(answer(asked, replace(operands, b=np.roll(operands.b, 1))))
        for wrong in others:
            if check == "exact":
                assert not oracle.exact(asked, operands, wrong, rng(2))[0]
            else:
                assert not spot(asked, operands, wrong, rng(2)).ok


@pytest.mark.parametrize("direction", [Direction.WGRAD, Direction.BPROP, Direction.TRAIN])
@pytest.mark.parametrize("spec", [SPECS["grouped"], SPECS["transposed"]])
def test_one_wrong_element_of_the_gradient_of_a_bias_is_wrong(spec: str, direction: Direction) -> None:
    asked = replace(cell(spec, direction), bias=Bias.CHANNEL)
    for at in (0, -1):
        found = spotted(asked, lambda results, at=at: one_more(results, "db", at))
        assert (found.ok, found.method) == (False, "spot")
    assert not spotted(asked, lambda results: replace(results, db=results.db * np.nan)).ok
    if direction is Direction.WGRAD:
        assert not exactly(asked, lambda results: one_more(results, "db", 1))[0]
    assert spotted(asked, lambda results: replace(results, db=results.db[:-1])).method == "shape"


def test_a_gradient_of_a_bias_is_exact_where_its_format_has_not_every_integer() -> None:
    asked = replace(cell("n1 c1 k16 1000000 f1", Direction.WGRAD, Precision.BF16), bias=Bias.CHANNEL)
    operands = integer_operands(asked, rng())
    sums = answer(replace(asked, precision=Precision.FP64), operands)
    held = {name: rounded(array.astype(np.float32), Precision.BF16) for name, array in sums.items().items()}
    assert np.array_equal(held["dw"], sums.dw)
    (moved,), (kept,) = np.nonzero(held["db"] != sums.db), np.nonzero(np.abs(sums.db) < 256)
    right = replace(sums, **held)
    assert oracle.exact(asked, operands, right, rng(2)) == (True, "exact")
    for at, step in ((moved[0], 2), (kept[0], 1)):  # the next value of the format
        db = held["db"].copy()
        db[at] += step
        assert not oracle.exact(asked, operands, replace(right, db=db), rng(2))[0]


@pytest.mark.parametrize("factor", [0.0, 0.5, -1.0])
@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_a_bias_that_is_not_stepped_rightly_is_wrong(optimizer: Optimizer, factor: float) -> None:
    asked = replace(cell(SPECS["plain"], Direction.TRAIN, optimizer=optimizer), bias=Bias.CHANNEL)
    operands = normal_operands(asked, rng())
    results = answer(asked, operands)
    assert spot(asked, operands, results, rng()).ok
    step = operands.b - results.b
    assert not spot(asked, operands, replace(results, b=operands.b - factor * step), rng()).ok


@pytest.mark.parametrize("direction", [Direction.FPROP, Direction.WGRAD])
def test_denormal_operands_may_be_taken_for_zero_beside_a_bias_too(direction: Direction) -> None:
    asked = replace(cell(SPECS["plain"], direction), operands=Values.DENORMAL, bias=Bias.CHANNEL)
    assert valued_check(asked).ok
    assert valued_check(asked, lambda results: Results(**{name: 0 * value for name, value in results.items().items()})).ok
