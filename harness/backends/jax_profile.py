"""How JAX writes a trace of XLA's profiler, and what it tells of a compiled program: what `traces` and `hlo` read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.backends import traces


@contextmanager
def traced(jax: Any, host_level: int) -> Iterator[list[traces.Plane]]:
    """XLA's profiler around calls; the planes of its trace are there after the exit."""
    planes: list[traces.Plane] = []
    profiler = jax.profiler
    options = profiler.ProfileOptions()
    options.host_tracer_level, options.python_tracer_level = host_level, 0
    options.raise_error_on_start_failure = True  # otherwise a refused profiler is an empty trace
    with tempfile.TemporaryDirectory() as folder:
        with profiler.trace(folder, profiler_options=options):
            yield planes
        for path in Path(folder).rglob("*.xplane.pb"):
            planes += traces.of_data(profiler.ProfileData.from_file(str(path)))


def flops(program: Any) -> float | None:
    """What XLA's analysis counts of a program, traced or compiled; None where there is none, or it counts none."""
    count = program.cost_analysis() if program else None
    return float(count["flops"]) if count and "flops" in count else None
