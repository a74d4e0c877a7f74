import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from harness.measure.yardstick import Yardstick
from tests.measure.scripted import Clock


def test_the_work_is_the_same_in_every_process() -> None:
    one, other = Yardstick(), Yardstick()
    assert (one._a == other._a).all()
    assert (one._b == other._b).all()
    assert not (one._a == one._b).all()
    assert one._a.dtype == "float32"


def test_the_work_stands_between_two_readings_of_the_clock() -> None:
    clock = Clock(tick=5)
    yardstick = Yardstick(clock)
    yardstick._result[:] = 0
    assert yardstick() == 5
    assert (yardstick._result == yardstick._a @ yardstick._b).all()
    assert clock.events == ["clock"] * 2


def test_the_first_products_fill_the_caches_and_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, multiply = Clock(), np.matmul

    def product(a: Any, b: Any, out: Any) -> None:
        clock.events.append("product")
        multiply(a, b, out=out)

    yardstick = Yardstick(clock)
    monkeypatch.setattr(np, "matmul", product)
    yardstick()
    begun, ended = (place for place, event in enumerate(clock.events) if event == "clock")
    assert begun >= 2
    assert ended - begun - 1 == 64
    assert ended == len(clock.events) - 1


def test_the_real_clock_reads_something() -> None:
    assert Yardstick()() > 0


ONE_THREAD = """
import time
from harness.measure.yardstick import Yardstick
yardstick = Yardstick()
for _ in range(400):  # the library's own threads spin for some tens of ms when they are born
    yardstick()
cpu, threads = time.process_time_ns(), time.thread_time_ns()
for _ in range(200):
    yardstick()
print((time.process_time_ns() - cpu) / (time.thread_time_ns() - threads))
"""


def test_the_work_keeps_to_one_thread_however_many_the_library_has() -> None:
    done = subprocess.run([sys.executable, "-c", ONE_THREAD], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.05  # CPU time of the process over that of the thread that called
