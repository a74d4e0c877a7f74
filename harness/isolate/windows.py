"""Which steps are prepared together, and in which order they are visited. Pure: nothing here looks at the machine.

A window is what is prepared at the same time by all workers of a round. It is visited turn by turn, and what will be compared
stands next to each other in every turn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from harness.plan import Plan, Step

if TYPE_CHECKING:  # NumPy comes with it, which a session of pytest must not have before its framework's process is set up
    from harness.measure.footprint import Need, Room

ROOM_SHARE = 0.5  # of the memory that is left may be taken by a window: a forecast may be wrong, and frameworks keep buffers


@dataclass(frozen=True)
class Window:
    """Steps that are prepared at the same time, by group: what is compared is visited one after the other."""

    groups: tuple[tuple[Step, ...], ...]

    def __iter__(self) -> Iterator[Step]:
        return (step for group in self.groups for step in group)

    def turn(self, number: int, seed: int) -> list[Step]:
        """The steps in the order of that turn: the groups at random, and at random within each."""
        rng = random.Random(f"{seed} {number}")
        return [step for group in rng.sample(self.groups, len(self.groups)) for step in rng.sample(group, len(group))]


def windows(plan: Plan, steps: Sequence[Step], needs: Mapping[int, Need], room: Room) -> list[Window]:
    """The steps of a round, cut into windows: whole groups as long as they fit, and parts of one that does not fit by itself.

    `needs` says how much memory each step needs, by its order.

    What fits is bounded by the number of cells that one worker prepares at once, and by what all of them hold in memory.
    """
    found: list[list[list[Step]]] = [[]]
    load = _Load(plan.budget.prepared, room)
    for _, members in groupby(steps, key=lambda step: plan.group(step.cell)):
        group = list(members)
        if found[-1] and not load.takes(group, needs):
            found.append([])
            load = _Load(plan.budget.prepared, room)
        part: list[Step] = []
        for step in group:
            if (found[-1] or part) and not load.takes([step], needs):
                found[-1].append(part)
                found.append([])
                part, load = [], _Load(plan.budget.prepared, room)
            load.add(step, needs[step.order])
            part.append(step)
        found[-1].append(part)
    return [Window(tuple(tuple(group) for group in groups if group)) for groups in found if any(groups)]


class _Load:
    """What a window holds so far."""

    def __init__(self, most: int, room: Room) -> None:
        self.most, self.room = most, room
        self.counts: Counter[tuple[str, int]] = Counter()
        self.host_bytes = self.device_bytes = self.host_peak = self.device_peak = 0

    def takes(self, steps: Sequence[Step], of: Mapping[int, Need]) -> bool:
        """Whether these fit as well."""
        needs = [of[step.order] for step in steps]
        counts = self.counts + Counter(_worker(step) for step in steps)
        host = self.host_bytes + sum(need.prepared_host_bytes for need in needs)
        device = self.device_bytes + sum(need.prepared_device_bytes for need in needs)
        host_peak = max([self.host_peak, *(need.host_bytes - need.prepared_host_bytes for need in needs)])
        device_peak = max([self.device_peak, *(need.device_bytes - need.prepared_device_bytes for need in needs)])
        fits_host = self.room.host_bytes is None or host + host_peak <= ROOM_SHARE * self.room.host_bytes
        fits_device = self.room.device_bytes is None or device + device_peak <= ROOM_SHARE * self.room.device_bytes
        return max(counts.values()) <= self.most and fits_host and fits_device

    def add(self, step: Step, need: Need) -> None:
        """Take a step, whether it fits or not."""
        self.counts[_worker(step)] += 1
        self.host_bytes += need.prepared_host_bytes
        self.device_bytes += need.prepared_device_bytes
        self.host_peak = max(self.host_peak, need.host_bytes - need.prepared_host_bytes)
        self.device_peak = max(self.device_peak, need.device_bytes - need.prepared_device_bytes)


def _worker(step: Step) -> tuple[str, int]:
    return step.cell.backend, step.cell.threads
