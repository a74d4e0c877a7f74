"""Ctrl-C, SIGTERM and SIGHUP: all three mean the same, and none of them may cost a record or leave half a file.

A signal that is ignored stays so (`nohup`, a shell's background), and only the main thread can hear any.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_Handler = Callable[[int, FrameType | None], Any]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"interrupted by {signal.Signals(number).name}")


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """In this block SIGTERM and SIGHUP raise KeyboardInterrupt, where they would have ended the process at once."""
    with _handling(lambda handler: handler if callable(handler) else _interrupt):
        yield


@contextlib.contextmanager
def _handling(wrap: Callable[[Any], _Handler]) -> Iterator[None]:
    """Each signal that is not ignored is handled by what `wrap` makes of its handler."""
    before: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler is not None and handler != signal.SIG_IGN:
                    before[number] = handler
                    signal.signal(number, wrap(handler))
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


class Interrupts:
    """The interruptions of a run. One is raised, where that costs no record; those after it are not.

    A context manager. An interruption that came where none may be raised is kept in `waiting`.
    """

    def __init__(self) -> None:
        self.waiting: KeyboardInterrupt | None = None
        self._shut = False
        self._handlers = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._handlers.enter_context(_handling(self._wrapped))
        return self

    def __exit__(self, *error: object) -> None:
        self._handlers.close()

    def _wrapped(self, handler: Any) -> _Handler:
        def came(number: int, frame: FrameType | None) -> None:
            if self._shut:
                self.waiting = self.waiting or KeyboardInterrupt(f"interrupted by {signal.Signals(number).name}")
                return
            try:
                (handler if callable(handler) else _interrupt)(number, frame)
            except BaseException:
                self._shut = True  # whoever is told a second time is cleaning up already
                raise

        return came

    @contextlib.contextmanager
    def put_off(self) -> Iterator[None]:
        """A block that nothing cuts in two; what came meanwhile is raised at its end."""
        before, self._shut = self._shut, True
        try:
            yield
        finally:
            self._shut = before
        if self.waiting and not before:
            self._shut, waiting, self.waiting = True, self.waiting, None
            raise waiting

    def shut(self) -> None:
        """From here on none is raised."""
        self._shut = True
