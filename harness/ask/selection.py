"""What the command line changes in a suite: axes narrowed, a `-k` expression, budget and threads overridden.

A suite that states an axis means it: only its own values can be chosen. An axis at its default takes any value. The one
exception is the backend: which ones there are is a matter of the machine, so any name may stand in for the suite's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from harness.ask import axes as axis_values
from harness.ask import document, expression
from harness.ask.suite import Suite
from harness.ask.wording import hint, not_one_of, show
from harness.axes import LABEL
from harness.errors import SelectionError
from harness.plan import Budget


@dataclass(frozen=True)
class Selection:
    """What a user asks for on top of a suite. `axes` may also name `workload`, with patterns such as `rn50_*`.

    `backends` join those of the suite, whatever it states; `budget` overrides fields of Budget; `threads` replaces the axis;
    `set` has keys of a `[[workload]]`, replaced in every convolution: `{"n": "1"}`. `interpreters` are the absolute paths of
    the Python interpreters of backends; a backend with a label, `torch@old`, joins the suite by being named there.
    """

    axes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keyword: str | None = None
    backends: tuple[str, ...] = ()
    budget: Mapping[str, int | float] = field(default_factory=dict)
    threads: int | None = None
    set: Mapping[str, str] = field(default_factory=dict)
    interpreters: Mapping[str, str] = field(default_factory=dict)


def parse_axis(text: str) -> tuple[str, tuple[str, ...]]:
    """`("mode", ("eager", "xla"))` for `mode=eager,xla`, the form of `-a`. Raises SelectionError for anything else."""
    axis, equals, values = text.partition("=")
    parts = tuple(part.strip() for part in values.split(","))
    if not equals or not axis.strip() or not all(parts):
        raise SelectionError(f"-a: found {show(text)}; allowed: axis=value or axis=value,value")
    return axis.strip(), parts


def narrow(suite: Suite, selection: Selection) -> Suite:
    """The suite with the selection applied. Raises SelectionError, one line, for what the suite does not have."""
    for name, values in selection.axes.items():
        suite = _workloads(suite, values) if name == "workload" else _axis(suite, name, values)
    if selection.set:
        suite = _altered(suite, selection.set)
    if selection.threads is not None:
        threads = _parsed("threads", [str(selection.threads)])
        suite = replace(suite, axes=replace(suite.axes, threads=threads), stated=suite.stated | {"threads"})
    if selection.keyword is not None:
        try:
            expression.keyword(selection.keyword)
        except ValueError as error:
            raise SelectionError(f"-k: {error}") from None
        suite = replace(suite, keyword=selection.keyword)
    if selection.backends:
        suite = replace(suite, also=(*suite.also, *_parsed("backend", selection.backends)))
    suite = _with_interpreters(suite, selection.interpreters)
    return replace(suite, budget=_budget(suite.budget, selection.budget))


def _parsed(axis: str, values: Sequence[str]) -> tuple[Any, ...]:
    try:
        return axis_values.parse_all(axis, list(values))
    except ValueError as error:
        raise SelectionError(f"{axis}: {error}") from None


def _axis(suite: Suite, axis: str, values: Sequence[str]) -> Suite:
    if axis not in axis_values.NAMES:
        raise SelectionError(f"axis: {not_one_of(axis, ['workload', *axis_values.NAMES])}")
    chosen = _parsed(axis, values)
    if axis in suite.stated and axis != "backend":
        own = getattr(suite.axes, axis)
        for text, value in zip(values, chosen, strict=True):
            if value not in own:
                told = not_one_of(text, [str(known) for known in own])
                raise SelectionError(f"{axis}: {told} (what suite {show(suite.name)} states)")
    return replace(suite, axes=replace(suite.axes, **{axis: chosen}), stated=suite.stated | {axis})


def _with_interpreters(suite: Suite, more: Mapping[str, str]) -> Suite:
    """The suite with more interpreters, and with the backends that have a label beside these.

    The suite's own join where their adapter is measured. The twins of its standard are there by themselves.
    """
    pythons, joining, measured = {**suite.interpreters, **more}, [], suite.axes.backend
    for name in pythons:
        adapter, _, label = name.partition(LABEL)
        if label and label != suite.standard and (name in more or measured is None or adapter in measured):
            joining.append(name)
    return replace(suite, interpreters=pythons, also=tuple(dict.fromkeys([*suite.also, *joining])))


def _workloads(suite: Suite, patterns: Sequence[str]) -> Suite:
    if len(patterns) > axis_values.MOST_VALUES:
        raise SelectionError(f"workload: found {len(patterns)} patterns; allowed: {axis_values.MOST_VALUES}")
    for pattern in patterns:
        if not any(fnmatchcase(workload.name, pattern) for workload in suite.workloads):
            raise SelectionError(f"workload: {not_one_of(pattern, [workload.name for workload in suite.workloads])}")
    kept = tuple(w for w in suite.workloads if any(fnmatchcase(w.name, pattern) for pattern in patterns))
    return replace(suite, workloads=kept)


def parse_set(text: str) -> tuple[str, str]:
    """`("n", "1")` for `n=1`, the form of `--set`. Raises SelectionError for anything else."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key or not value:
        raise SelectionError(f"--set: found {show(text)}; allowed: key=value, as in n=1 or spatial=28x28")
    return key, value


def _altered(suite: Suite, texts: Mapping[str, str]) -> Suite:
    """Its convolutions with these keys replaced; matrix products and copies stay."""
    try:
        keys = document.changes(texts)
    except ValueError as error:
        raise SelectionError(f"--set: {error}") from None
    workloads = []
    for workload in suite.workloads:
        try:
            workloads.append(workload.altered(keys) if workload.spec.is_convolution else workload)
        except ValueError as error:
            raise SelectionError(f"--set: {show(workload.name)}: {error}") from None
    return replace(suite, workloads=tuple(workloads))


def _budget(budget: Budget, overrides: Mapping[str, int | float]) -> Budget:
    known = [field.name for field in fields(Budget)]
    for name in overrides:
        if name not in known:
            raise SelectionError(f"budget: unknown field {show(name)}{hint(name, known)}; allowed: {', '.join(known)}")
    try:
        document.budget(overrides)  # of the types and in the bounds that hold for a suite
        return replace(budget, **overrides)  # type: ignore[arg-type]
    except ValueError as error:
        raise SelectionError(f"budget: {error}") from None
