"""From a Cell to its Profile: the call that is timed is made without anything that watches, then watched, and attributed.

Calls stand in groups, one right after the other: whatever is done between two of them is seen in the next one (a span of the
profiler's own around each call, or a reading of /proc between them, made calls of 90 us 1.3 to 3.4 times as long). So within a
group the clock alone is read, and the witness around it.
"""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import count as counting
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, NamedTuple

from harness.backends.base import ALREADY_DONE, Prepared
from harness.measure import chrome
from harness.measure.attribute import Call, Span, attribute, kernels
from harness.measure.clock import Clock
from harness.measure.engine import Engine, failure
from harness.measure.sampling import Sampler
from harness.measure.witness import Witness
from harness.plan import Step
from harness.profile import Profile, trace_name
from harness.record import CONTENDED_VISIT, Status, contended

GROUPS = 10  # of each pass; one more comes first and does not count, since a source sets itself up with the first calls
GROUP_NS, MOST_IN_A_GROUP = 20_000_000, 20  # how long a group lasts, and how many calls it has at most: each writes events
PASS_NS, LEAST_CALLS = 2_000_000_000, 5  # a pass ends after so long, once so many calls were made that count
PATIENCE_NS, REST_S = 5_000_000_000, 0.05  # so long a pass waits for calls that nobody disturbs, with a rest between two groups
LEAST_CLEAN, FASTEST_SHARE = 3, 0.2  # of the undisturbed calls this share counts, the fastest, and at least so many
TRACED = 3  # calls of a trace


def profile(engine: Engine, step: Step, trace: str = "", clock: Clock = time.time_ns) -> Profile:
    """What runs inside the calls of one cell. Whatever goes wrong is told by `problem`.

    `clock` is the one that events are told by. `trace` is the path at which a Chrome trace of a few calls is written; empty:
    none is.
    """
    begun = engine.clock()
    blank = found = Profile(engine.run_id, step.cell, datetime.now(UTC), engine.environment_id)
    record = engine.prepare(step)
    if record is None:
        try:
            found = _profiled(blank, engine, step.order, clock, trace)
        except Exception as error:
            found = replace(blank, problem=failure(error)[1])
        record = engine.finish(step.order)
    if record.status is not Status.OK:  # what a call does that fails, or is wrong, is not what was asked for
        found = replace(blank, problem=f"{record.status}: {record.reason}")
    return replace(found, op=record.op, op_reason=record.op_reason, spent_ns=engine.clock() - begun)


def _profiled(found: Profile, engine: Engine, order: int, clock: Clock, trace: str) -> Profile:
    """The profile of a prepared cell."""
    sampler, looking = engine.calling(order)
    prepared = sampler.prepared
    engine.enter("plain")
    plain = _made(engine, sampler, looking, clock)
    found = replace(
        found, plain_ns=plain.fastest_ns, effective_cores=plain.cores, sources=tuple(prepared.sources),
        flop_compiled=_compiled_flops(prepared),
    )  # fmt: skip
    if not prepared.sources:
        return replace(found, problem="nothing watches this backend")
    engine.enter("watched")
    compilations = prepared.compilations()
    with prepared.watched() as told:
        watched = _made(engine, sampler, looking, clock)
    compiled = prepared.compilations() != compilations
    events = list(told())
    found = replace(
        found, calls=len(watched.calls), clean_calls=len(watched.clean), sources=tuple(prepared.sources)  # by now with versions
    )  # fmt: skip
    if compiled:
        return replace(found, problem="the call was compiled again while it was watched")
    for name, made in (("plain", plain), ("watched", watched)):
        if not made.fastest:
            told_so = f"{len(made.clean)} of {len(made.calls)} {name} calls were undisturbed, and {LEAST_CLEAN} are needed"
            return replace(found, problem=f"contended: {told_so}")
    calls = attribute(events, sorted(watched.fastest))
    if not any(call.parts for call in calls):
        return replace(found, problem="its sources told of nothing inside the calls")
    return replace(found, watched_ns=watched.fastest_ns, kernels=kernels(calls), trace=_traced(found, calls, trace))


def _compiled_flops(prepared: Prepared) -> float | None:
    """The FLOP of the compiled program. Where asking for them fails the profile must not be lost for it."""
    try:
        return prepared.compiled_flops()
    except Exception:
        return None


def _traced(found: Profile, calls: Sequence[Call], path: str) -> str:
    """The name of the trace of the fastest calls, once it is written; empty where it is not."""
    if not path:
        return ""
    fastest = sorted(calls, key=lambda call: call.span.ns)[:TRACED]
    about = {"cell": str(found.cell), "run": found.run_id, "sources": "; ".join(found.sources)}
    try:
        chrome.write(Path(path), about, sorted(fastest, key=lambda call: call.span))
    except OSError:  # no room is left: the profile must not be lost for it
        return ""
    return trace_name(found.cell)


# The calls ----------------------------------------------------------------------------------------------------------------


class _Timed(NamedTuple):
    """A call, and whether it was disturbed."""

    span: Span
    contended: bool


@dataclass(frozen=True)
class _Pass:
    """Calls that were made in one way, with the wall time and the CPU time that they took in all."""

    calls: tuple[_Timed, ...]
    wall_ns: int
    cpu_ns: int

    @cached_property
    def clean(self) -> list[Span]:
        """The calls that were not disturbed, the fastest first."""
        return sorted((call.span for call in self.calls if not call.contended), key=lambda span: span.ns)

    @property
    def fastest(self) -> list[Span]:
        """The calls that count; none where too few were undisturbed."""
        if len(self.clean) < LEAST_CLEAN:
            return []
        return self.clean[: max(LEAST_CLEAN, round(FASTEST_SHARE * len(self.clean)))]

    @property
    def fastest_ns(self) -> float | None:
        """The mean length of the calls that count, in ns; None where there are none."""
        return sum(span.ns for span in self.fastest) / len(self.fastest) if self.fastest else None

    @property
    def cores(self) -> float | None:
        """How many cores the calls used; None where the clock did not move."""
        return self.cpu_ns / self.wall_ns if self.wall_ns else None


def _made(engine: Engine, sampler: Sampler, looking: Witness, clock: Clock) -> _Pass:
    """One pass: groups of calls, of which the first does not count. Where others disturb them it goes on, with rests."""
    looking.refresh()  # a pass is too short to find out in it who else is active
    call_ns = sampler.block_ns / sampler.iterations
    count = min(MOST_IN_A_GROUP, max(1, math.ceil(GROUP_NS / call_ns)))
    calls, wall_ns, cpu_ns, begun = list[_Timed](), 0, 0, clock()
    gc.disable()
    try:
        _group(sampler, looking, clock, count)
        for number in counting():
            enough = sum(not call.contended for call in calls) >= LEAST_CLEAN
            late = clock() - begun >= (PASS_NS if enough else PATIENCE_NS)
            if (enough and number >= GROUPS) or (late and len(calls) >= LEAST_CALLS):
                break
            if number >= GROUPS:
                engine.sleep(REST_S)
            group = _group(sampler, looking, clock, count)
            calls += group.calls
            wall_ns, cpu_ns = wall_ns + group.wall_ns, cpu_ns + group.cpu_ns
    finally:
        gc.enable()
    return _Pass(tuple(calls), wall_ns, cpu_ns)


def _group(sampler: Sampler, looking: Witness, clock: Clock, count: int) -> _Pass:
    """So many calls, one right after the other, or each made ready for where the cell asks for that."""
    if not sampler.alone:
        return _witnessed(sampler, looking, clock, count)
    made = []
    for _ in repeat(None, count):
        sampler.make_ready()
        made.append(_witnessed(sampler, looking, clock, 1))
    calls = tuple(call for one in made for call in one.calls)
    return _Pass(calls, sum(one.wall_ns for one in made), sum(one.cpu_ns for one in made))


def _witnessed(sampler: Sampler, looking: Witness, clock: Clock, count: int) -> _Pass:
    """So many calls in a row, all of which are disturbed or none: what is read beside them is read around them all."""
    prepared = sampler.prepared
    delay, others = looking.read()
    cpu_before = time.process_time_ns()
    times = prepared.on_own_stack(marked, prepared.launch, prepared.wait, clock, count)
    cpu_ns = time.process_time_ns() - cpu_before
    delay_after, others_after = looking.read()
    sampler.first.made += count
    wall_ns = times[-1] - times[0]
    others_ns = min(others_after - others, max(0, sampler.cores * wall_ns - cpu_ns))
    disturbed = bool(contended(wall_ns, delay_after - delay, others_ns, CONTENDED_VISIT))
    return _Pass(tuple(_Timed(Span(*ends), disturbed) for ends in pairwise(times)), wall_ns, cpu_ns)


def marked(launch: Callable[[], Any], wait: Callable[[Any], object], clock: Clock, count: int) -> list[int]:
    """The readings of the clock before the first and after each of so many calls, every one of which is waited for.

    As in `sampling.in_a_row` a result is let go before the next call is launched, and a call that needs no waiting has none.
    """
    times = [clock()]
    keep = times.append
    if wait is ALREADY_DONE:
        for _ in repeat(None, count):
            launch()
            keep(clock())
        return times
    for _ in repeat(None, count):
        wait(launch())
        keep(clock())
    return times
