"""Which settings of a suite compete in `convbench tune`: the values of the axes named by `--over`, the default first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.ask import axes as axis_values
from harness.ask.suite import Exclude, Suite
from harness.ask.wording import not_one_of, show
from harness.axes import Layout, Mode, Precision
from harness.errors import SelectionError

AXES = ("layout", "mode", "precision", "threads")
DEFAULT = ("layout", "mode")  # what is tuned where no axis is named
UNTIL = 0.02  # how well a comparison must be known, where nobody says so: what counts as equal
FIRST_TRIALS = 4  # before which nothing is decided


def parse(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The axes of `--over`, each with the values named for it: `{"layout": (), "precision": ("fp32", "bf16")}`.

    The form is `layout,precision=fp32,bf16`; a word that is no axis is one more value of the axis before it. Raises
    SelectionError for what is no axis of AXES, or stands there twice.
    """
    over: dict[str, list[str]] = {}
    open_axis = ""  # the one that takes more values
    for word in (word.strip() for text in texts for word in text.split(",")):
        axis, equals, value = (part.strip() for part in word.partition("="))
        if open_axis and not equals and axis not in AXES:
            over[open_axis].append(word)
            continue
        if axis not in AXES:
            raise SelectionError(f"--over: {not_one_of(axis, AXES)}")
        if axis in over:
            raise SelectionError(f"--over: axis {show(axis)} is named twice; write {axis}=value,value")
        over[axis] = [value] if equals else []
        open_axis = axis if equals else ""
    if any(not value for values in over.values() for value in values):
        raise SelectionError("--over: found an empty value; allowed: axis, or axis=value,value")
    return {axis: tuple(values) for axis, values in over.items()}


def tuned(suite: Suite, over: Mapping[str, Sequence[str]], modes: Mapping[str, Collection[Mode]], cores: int) -> Suite:
    """The narrowed suite whose settings compete on the axes of `parse`, the default value of each standing first.

    The values are those named, even where the suite states others, else those that the suite states, else all: both layouts,
    the modes that any of the backends has by `modes`, and threads by powers of two up to the `cores` of this process. What the
    suite excludes by such an axis is not excluded, since it is asked which value is best; a backend has no cell in a mode that
    it lacks, and no twin beside it. Raises SelectionError for a suite without convolutions and for an axis that leaves nothing
    to choose.
    """
    if not any(workload.spec.is_convolution for workload in suite.workloads):
        raise SelectionError(f"suite {show(suite.name)}: holds no convolution; only settings of convolutions can be tuned")
    found = {str(mode) for of_backend in modes.values() for mode in of_backend}
    for axis, named in over.items():
        if named:
            suite = _replaced(suite, axis, _parsed(axis, named))
        elif axis not in suite.stated:
            suite = _replaced(suite, axis, _every(axis, cores))
        values = [value for value in getattr(suite.axes, axis) if axis != "mode" or not found or value in found]
        if len(values) < 2:
            told = f"found {', '.join(map(str, values)) or 'no value that a backend has'}"
            raise SelectionError(f"--over {axis}: {told}: nothing to choose from; name values as {axis}=value,value")
        first = _default(axis, values)
        suite = _replaced(suite, axis, (first, *(value for value in values if value != first)))
    lacking = {backend: [mode for mode in suite.axes.mode if mode not in known] for backend, known in modes.items()}
    excludes = [
        Exclude((("backend", (backend,)), ("mode", tuple(map(str, absent))))) for backend, absent in lacking.items() if absent
    ]
    return replace(
        suite,
        standard="",
        excludes=(*(each for each in suite.excludes if not over.keys() & dict(each.conditions).keys()), *excludes),
        compare=tuple(dict.fromkeys([*suite.compare, *over])),
        tuned={axis: str(getattr(suite.axes, axis)[0]) for axis in over},
    )


def budget(suite: Suite, trials: int | None) -> Suite:
    """The suite with a budget for a race: until all is decided within UNTIL, where neither it nor an option says how long.

    `trials` are those that were asked for: no more than these are made.
    """
    now = suite.budget
    if trials is not None:
        now = replace(now, trials=min(trials, FIRST_TRIALS), most_trials=trials)
    return replace(suite, budget=now if now.races else replace(now, until=UNTIL))


def _replaced(suite: Suite, axis: str, values: tuple[Any, ...]) -> Suite:
    return replace(suite, axes=replace(suite.axes, **{axis: values}), stated=suite.stated | {axis})


def _parsed(axis: str, values: Sequence[str]) -> tuple[Any, ...]:
    try:
        return axis_values.parse_all(axis, list(values))
    except ValueError as error:
        raise SelectionError(f"--over {axis}: {error}") from None


def _every(axis: str, cores: int) -> tuple[Any, ...]:
    """All values of an axis that the suite leaves open. Raises SelectionError for precisions, which are no equal results."""
    match axis:
        case "layout":
            return (Layout.CHANNELS_LAST, Layout.CHANNELS_FIRST)
        case "mode":
            return tuple(Mode)
        case "threads":
            return (0, *(2**power for power in reversed(range(cores.bit_length())) if 2**power < cores))
    raise SelectionError(
        "--over precision: results of several precisions are not equally exact, so name those that are good enough: "
        "precision=fp32,bf16"
    )


def _default(axis: str, values: Sequence[Any]) -> Any:
    """The value of the default setting: eager, fp32, every core; of the layouts the first that the suite states."""
    usual = {"mode": Mode.EAGER, "precision": Precision.FP32, "threads": 0}.get(axis)
    return usual if usual in values else max(values) if axis == "threads" else values[0]
