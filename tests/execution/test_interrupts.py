"""Signals that end a run: what is raised, when, and who goes on being deaf."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from harness.execution import interrupts
from harness.execution.interrupts import Interrupts


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every test leaves them as they were, and hears each of them whoever started it: `nohup` makes deaf to SIGHUP."""
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_would_have_ended_the_process_is_a_keyboard_interrupt(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt) as raised, interrupts.heard():
        send(number)
    assert str(raised.value) in ("", f"interrupted by {number.name}")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_who_was_told_to_ignore_a_signal_ignores_it() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts.heard(), Interrupts() as outside:
        send(signal.SIGHUP)
    assert outside.waiting is None


def test_a_handler_of_the_callers_own_goes_on_being_asked() -> None:
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with interrupts.heard(), Interrupts() as outside:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert (heard, outside.waiting) == ([signal.SIGTERM] * 2, None)


def test_the_second_one_does_not_disturb_who_is_cleaning_up() -> None:
    done = []
    with Interrupts() as outside:
        try:
            send(signal.SIGINT)
        except KeyboardInterrupt:
            send(signal.SIGINT)
            send(signal.SIGTERM)
            done.append(True)
    assert done
    assert outside.waiting is not None


def test_what_comes_while_something_is_put_off_is_raised_at_its_end() -> None:
    done = []

    def cut(outside: Interrupts) -> None:
        with outside.put_off():
            send(signal.SIGTERM)
            done.append("within")
        done.append("behind")

    with Interrupts() as outside, pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        cut(outside)
    assert done == ["within"]
    assert outside.waiting is None


def test_nothing_is_raised_once_it_is_shut() -> None:
    with Interrupts() as outside:
        outside.shut()
        with outside.put_off():
            send(signal.SIGTERM)
    assert "SIGTERM" in str(outside.waiting)


def test_another_thread_leaves_the_handlers_alone() -> None:
    failed: list[BaseException] = []

    def inside() -> None:
        try:
            with interrupts.heard(), Interrupts():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert failed == []
