"""Which event the time of a call belongs to: scripted intervals of 10 and 100 ns."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest

from harness.measure.attribute import Call, Span, attribute, kernels
from harness.profile import Event, Kernel, Kind, Level


def event(name: str, start: int, end: int, level: Level = Level.OPERATOR, thread: str = "1", **more: object) -> Event:
    return replace(Event(start, end, thread, level, name, Kind.OTHER, "scripted"), **more)


def shares(call: Call) -> dict[str, int]:
    """The time of a call by the names of its events, and what is outside of them."""
    found: dict[str, int] = defaultdict(int)
    for part in call.parts:
        found[part.event.name] += part.exclusive_ns
    return {**found, "outside": call.outside_ns}


def one(*events: Event, until: int = 100) -> dict[str, int]:
    """The same of a single call from 0 on."""
    (call,) = attribute(events, [Span(0, until)])
    return shares(call)


def test_a_call_without_events_is_outside():
    assert one() == {"outside": 100}


def test_what_nests_counts_for_the_innermost():
    events = (event("whole", 10, 90), event("part", 20, 60), event("inner", 30, 40))
    assert one(*events) == {"whole": 40, "part": 30, "inner": 10, "outside": 20}


def test_the_most_specific_level_counts_whichever_began_last():
    events = (
        event("primitive", 20, 60, Level.PRIMITIVE), event("operator", 30, 80), event("span", 10, 90, Level.SPAN),
        event("thunk", 55, 70, Level.COMPILED),
    )  # fmt: skip
    assert one(*events) == {"span": 20, "primitive": 40, "operator": 10, "thunk": 10, "outside": 20}


def test_of_equals_on_several_threads_the_one_that_began_last_counts():
    events = (event("first", 0, 60, thread="a"), event("second", 20, 40, thread="b"), event("third", 30, 80, thread="c"))
    assert one(*events) == {"first": 20, "second": 10, "third": 50, "outside": 20}


def test_of_those_that_began_together_the_shorter_one_is_the_inner_one():
    assert one(event("outer", 10, 50), event("inner", 10, 30)) == {"outer": 20, "inner": 20, "outside": 60}


def test_an_event_without_length_is_there_and_takes_no_time():
    (call,) = attribute([event("mark", 40, 40), event("whole", 0, 100)], [Span(0, 100)])
    assert shares(call) == {"mark": 0, "whole": 100, "outside": 0}
    assert [part.began for part in call.parts] == [True, True]


def test_an_event_that_crosses_a_boundary_has_a_part_of_each_call_and_began_in_one():
    calls = attribute([event("across", 80, 130), event("before", -50, 10)], [Span(0, 100), Span(100, 200)])
    assert [shares(call) for call in calls] == [
        {"before": 10, "across": 20, "outside": 70}, {"across": 30, "outside": 70},
    ]  # fmt: skip
    assert [[(part.event.name, part.began) for part in call.parts] for call in calls] == [
        [("before", False), ("across", True)], [("across", False)],
    ]  # fmt: skip


def test_what_lies_between_two_calls_belongs_to_neither():
    calls = attribute([event("between", 110, 140), event("on", 120, 220)], [Span(0, 100), Span(150, 200), Span(200, 250)])
    assert [shares(call) for call in calls] == [{"outside": 100}, {"on": 50, "outside": 0}, {"on": 20, "outside": 30}]


def test_an_event_at_the_end_of_a_call_is_of_the_next_one():
    calls = attribute([event("mark", 100, 100)], [Span(0, 100), Span(100, 200)])
    assert [shares(call) for call in calls] == [{"outside": 100}, {"mark": 0, "outside": 100}]


def by_hand(events: Sequence[Event], span: Span) -> dict[str, int]:
    """The same, nanosecond by nanosecond."""
    found: dict[str, int] = {"outside": 0}
    for now in range(span.start_ns, span.end_ns):
        active = [each for each in events if each.start_ns <= now < each.end_ns]
        best = max(active, key=lambda each: (each.level, each.start_ns, -each.end_ns), default=None)
        name = best.name if best else "outside"
        found[name] = found.get(name, 0) + 1
    return found


@pytest.mark.parametrize("seed", range(20))
def test_any_events_add_up_to_the_calls_and_agree_with_the_rule(seed: int):
    rng = random.Random(seed)
    events = []
    for number in range(30):
        start = rng.randrange(-20, 200)
        events.append(event(f"e{number}", start, start + rng.randrange(60), rng.choice(list(Level)), rng.choice("ab")))
    spans = [Span(0, 60), Span(60, 110), Span(130, 180)]
    for call in attribute(events, spans):
        told = shares(call)
        assert sum(told.values()) == call.span.ns
        assert {name: ns for name, ns in told.items() if ns} == {
            name: ns for name, ns in by_hand(events, call.span).items() if ns
        }


def test_many_events_are_attributed():
    """As many as a look at all of them for each would take minutes for."""
    count = 50_000
    events = [event("outer", 0, 10 * count)]
    events += [event("e", 10 * number, 10 * number + 5, Level.PRIMITIVE) for number in range(count)]
    calls = attribute(events, [Span(1000 * number, 1000 * (number + 1)) for number in range(count // 100)])
    assert len(calls) == count // 100
    assert all(shares(call) == {"outer": 500, "e": 500, "outside": 0} for call in calls)


# Kernels -----------------------------------------------------------------------------------------------------------------


def named(found: Sequence[Kernel]) -> dict[str, Kernel]:
    return {kernel.name: kernel for kernel in found}


def test_kernels_are_means_of_a_call_and_add_up_to_its_length():
    events = [
        event("conv", 10, 60, Level.PRIMITIVE), event("copy", 60, 70), event("copy", 70, 80),
        event("conv", 120, 150, Level.PRIMITIVE),
    ]  # fmt: skip
    found = kernels(attribute(events, [Span(0, 100), Span(100, 180)]))
    assert sum(kernel.kernel_ns for kernel in found) == 90
    assert (named(found)["conv"].kernel_ns, named(found)["conv"].calls_per_launch) == (40, 1.0)
    assert (named(found)["copy"].kernel_ns, named(found)["copy"].calls_per_launch) == (10, 1.0)
    assert found[-1].kind is Kind.OUTSIDE
    assert (found[-1].kernel_ns, found[-1].level) == (40, 0)


def test_what_differs_in_more_than_its_times_is_another_kernel():
    same = event("conv", 0, 10)
    others = [replace(same, **change) for change in (
        {"kind": Kind.GEMM}, {"implementation": "ref:any"}, {"detail": "mb2"}, {"src_format": "abcd"}, {"dst_format": "abcd"},
        {"level": Level.SPAN}, {"source": "another"},
    )]  # fmt: skip
    found = kernels(attribute([same, replace(same, start_ns=20, end_ns=30), *others], [Span(0, 100)]))
    assert len(found) == 1 + len(others) + 1
    assert max(kernel.calls_per_launch for kernel in found) == 2


def test_the_threads_of_a_kernel_are_those_of_one_call():
    events = [event("conv", 0, 10, thread="a"), event("conv", 5, 20, thread="b"), event("conv", 110, 120, thread="c")]
    assert named(kernels(attribute(events, [Span(0, 100), Span(100, 200)])))["conv"].threads == 2


def test_an_event_that_is_hidden_all_the_time_is_told_without_time():
    events = [event("operator", 10, 50), event("primitive", 0, 60, Level.PRIMITIVE)]
    found = named(kernels(attribute(events, [Span(0, 100)])))
    assert (found["operator"].kernel_ns, found["operator"].calls_per_launch) == (0, 1.0)


def test_what_a_source_prints_is_made_harmless_and_short():
    found = kernels(attribute([event("a\x1b[31mb\nc" + "x" * 1000, 0, 10)], [Span(0, 100)]))
    assert found[0].name.startswith("ab cxxx")
    assert len(found[0].name) == 300
