import pytest

from harness.measure.yardstick import Yardstick
from tests.measure.scripted import Clock


@pytest.mark.parametrize(("threads", "side"), [(1, 256), (2, 323), (8, 512)])
def test_the_work_grows_with_the_threads(threads: int, side: int) -> None:
    yardstick = Yardstick(threads)
    assert yardstick._result.shape == (side, side)
    assert yardstick._a.dtype == yardstick._result.dtype == "float32"
    assert side**3 == pytest.approx(threads * 256**3, rel=0.02)


def test_the_work_is_the_same_in_every_process() -> None:
    one, other = Yardstick(1), Yardstick(1)
    assert (one._a == other._a).all()
    assert (one._b == other._b).all()
    assert not (one._a == one._b).all()


def test_a_product_stands_between_two_readings_of_the_clock() -> None:
    clock = Clock(tick=5)
    yardstick = Yardstick(1, clock)
    yardstick._result[:] = 0
    assert yardstick() == 5
    assert yardstick._result.any()
    assert clock.events == ["clock"] * 4  # one product when it was made


def test_the_real_clock_reads_something() -> None:
    assert Yardstick(1)() > 0
