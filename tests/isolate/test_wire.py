import json
import math
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import codec
from harness.axes import Device, Direction, Optimizer
from harness.flags import Flag
from harness.isolate import wire
from harness.isolate.wire import (
    Adapter,
    Alone,
    Call,
    Channel,
    Closed,
    ClosedError,
    Done,
    Finish,
    GarbledError,
    GoOn,
    Hello,
    Look,
    Message,
    Prepare,
    Ready,
    Refused,
    Seen,
    Setup,
    SilentError,
    Stop,
    Visited,
    Watch,
    Working,
)
from harness.plan import Budget, Step
from harness.record import Check, Status
from tests import builders

SETUP = Setup("a.b:C", "torch@old", Device("gpu", 1), (0, 2), Budget(trials=5, block_s=0.5), 7, "run", probe=True)
MESSAGES = [
    SETUP,
    Hello(builders.environment(), (Device("cpu"), Device("gpu", 3))),
    Refused("no such library"),
    Look("other", "a.b:C"),
    Adapter("other", {"other": "1.0"}),
    Alone(Step(1, 2, builders.cell(direction=Direction.TRAIN, optimizer=Optimizer.ADAM)), 6),
    Prepare(Step(1, 2, builders.cell()), 7),
    Working(7, "check"),
    GoOn(),
    Ready(7, {"first_call": 3}),
    Call(2, 8),
    Visited(8, builders.visit(2, [5, 6, 7])),
    Finish(2, 9),
    Done(7, builders.record([5, 6, 7])),
    Done(8, builders.failed(Status.CRASHED, "killed", flags=(Flag.NOT_CONVERGED,))),
    Closed(8, {"close": "why"}, {"operands": 5}, leaving=True),
    Watch(Step(0, 1, builders.cell()), 10, "runs/a/traces/b.json.gz"),
    Seen(10, builders.profile(builders.kernel()), leaving=True),
    Stop(),
]


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    near, far = (Channel(end) for end in socket.socketpair())
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, Channel]]:
    """A socket to write anything into, and the channel that reads it."""
    near, far = socket.socketpair()
    channel = Channel(far)
    yield near, channel
    near.close()
    channel.close()


def line(message: Message) -> bytes:
    """What a channel sends."""
    near, far = socket.socketpair()
    with near, far:
        Channel(near).send(message)
        return far.recv(1 << 16)


def already() -> float:
    """A deadline that is past."""
    return time.monotonic() - 1


def test_every_kind_of_message_is_tried() -> None:
    assert {type(message).__name__ for message in MESSAGES} == set(wire._KINDS)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_survives(pair: tuple[Channel, Channel], message: Message) -> None:
    near, far = pair
    near.send(message)
    assert far.receive() == message
    far.send(message)
    assert near.receive() == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_one_line_of_json(message: Message) -> None:
    sent = line(message)
    assert sent.count(b"\n") == 1
    assert sent.endswith(b"\n")
    assert json.loads(sent)["kind"] == type(message).__name__


def test_messages_arrive_in_order_though_they_come_in_one_chunk(raw: tuple[socket.socket, Channel]) -> None:
    near, channel = raw
    near.sendall(b"".join(map(line, MESSAGES)))
    assert [channel.receive() for _ in MESSAGES] == MESSAGES


def test_a_message_may_come_byte_by_byte(raw: tuple[socket.socket, Channel]) -> None:
    near, channel = raw
    sent = line(Refused("nö\n"))
    for byte in sent[:-1]:
        near.sendall(bytes([byte]))
        with pytest.raises(SilentError):
            channel.receive(time.monotonic() + 0.001)
    near.sendall(sent[-1:])
    assert channel.receive() == Refused("nö\n")


def test_half_a_message_stays_for_the_next_reading(raw: tuple[socket.socket, Channel]) -> None:
    near, channel = raw
    both = line(SETUP) + line(Stop())
    near.sendall(both[:-5])
    assert channel.receive() == SETUP
    with pytest.raises(SilentError):
        channel.receive(time.monotonic() + 0.001)
    near.sendall(both[-5:])
    assert channel.receive() == Stop()


def test_nothing_said_until_the_deadline(pair: tuple[Channel, Channel]) -> None:
    near, _ = pair
    with pytest.raises(SilentError):
        near.receive(time.monotonic() + 0.01)
    with pytest.raises(SilentError):
        near.receive(already())


def test_what_is_there_is_read_even_after_the_deadline_if_it_was_read_before(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    near.send(GoOn())
    near.send(Stop())
    assert far.receive() == GoOn()
    assert far.receive(already()) == Stop()


def test_a_deadline_does_not_outlive_its_reading(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    with pytest.raises(SilentError):
        near.receive(already())
    near.send(Stop())
    assert far.receive() == Stop()


def test_the_other_side_hung_up(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    far.close()
    with pytest.raises(ClosedError):
        near.receive()
    with pytest.raises(ClosedError):
        near.send(Stop())


def test_hanging_up_in_the_middle_of_a_message(raw: tuple[socket.socket, Channel]) -> None:
    near, channel = raw
    near.sendall(line(Stop())[:-1])
    near.close()
    with pytest.raises(ClosedError):
        channel.receive()


def test_what_was_said_before_hanging_up_is_heard(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    far.send(Refused("why"))
    far.close()
    assert near.receive() == Refused("why")
    with pytest.raises(ClosedError):
        near.receive()


@pytest.mark.fault("a worker says what is no message", "it is refused, and the next message is heard")
@pytest.mark.parametrize(
    "garbage",
    [b"hello\n", b"\n", b"[]\n", b"3\n", b'{"kind": "Nonsense", "body": {}}\n', b'{"kind": "Refused", "body": {"reason": 3}}\n',
     b'{"kind": "Refused", "body": {}}\n', b'{"kind": "Stop"}\n', b"\xff\xfe\n", b'{"kind": "Stop", "body": {"now": 1}}\n',
     b"[" * 10_000 + b"\n", b"1" * 5000 + b"\n",
     b'{"kind": "Refused", "body": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", b'{"kind": [], "body": {}}\n',
     b'{"kind": "Finish", "body": {"number": 1, "order": 1' + b"0" * 400 + b"}}\n"],
)  # fmt: skip
def test_what_is_no_message_is_garbled_and_the_next_is_heard(raw: tuple[socket.socket, Channel], garbage: bytes) -> None:
    near, channel = raw
    near.sendall(garbage + line(Stop()))
    with pytest.raises(GarbledError):
        channel.receive()
    assert channel.receive() == Stop()


def test_a_message_without_end_is_garbled_before_it_is_all_in_memory(
    raw: tuple[socket.socket, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, channel = raw
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 1000)
    near.sendall(b"x" * 1001)
    with pytest.raises(GarbledError, match="a message of more than 0 MiB"):
        channel.receive()


def test_a_record_of_a_million_samples_is_within_the_bound() -> None:
    kinds = tuple(builders.record(range(10**9, 10**9 + 1000)).samples.series for _ in range(1))  # type: ignore[union-attr]
    (series,) = kinds[0]
    four = replace(series, run_delay_ns=series.block_ns, others_ns=series.block_ns, yardstick_ns=series.block_ns)
    record = builders.record([1])
    full = replace(record, samples=replace(record.samples, series=(four,)))  # type: ignore[type-var]
    per_sample = len(codec.dumps(full)) / 1000
    assert per_sample * 10**6 < wire.MAX_MESSAGE_BYTES


def test_the_end_of_a_process_is_noticed_though_another_holds_its_socket() -> None:
    near, far = socket.socketpair()
    with near, far:  # far stays open, as in a fork of the process
        gone = subprocess.Popen(["true"])
        handle = os.pidfd_open(gone.pid)
        channel = Channel(near, handle)
        far.sendall(line(Stop()))
        assert channel.receive() == Stop()
        with pytest.raises(ClosedError):
            channel.receive()
        os.close(handle)
        gone.wait()


def test_what_nobody_takes_is_not_waited_for_beyond_the_deadline(pair: tuple[Channel, Channel]) -> None:
    near, _ = pair
    with pytest.raises(SilentError):
        near.send(Refused("x" * 10**7), already())


def test_a_side_that_has_hung_up_hears_nothing_more(pair: tuple[Channel, Channel]) -> None:
    near, _ = pair
    near.close()
    with pytest.raises(ClosedError):
        near.receive()


def test_a_deadline_may_be_farther_than_the_kernel_counts(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    far.send(Stop(), math.inf)
    assert near.receive(math.inf) == Stop()


def test_numbers_that_are_no_numbers_survive(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    near.send(Done(1, replace(builders.record(), check=Check(False, "spot", math.nan, math.inf))))
    heard = far.receive()
    assert isinstance(heard, Done)
    assert heard.record.check
    assert math.isnan(heard.record.check.max_rel_err)
    assert heard.record.check.tolerance == math.inf


def test_a_message_larger_than_the_sockets_buffer(pair: tuple[Channel, Channel]) -> None:
    from threading import Thread

    near, far = pair
    message = Done(1, builders.record(range(1_000_000, 1_200_000)))
    sender = Thread(target=near.send, args=[message])
    sender.start()
    heard = far.receive()
    sender.join()
    assert heard == message


@settings(deadline=None)
@given(st.text(), st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_any_text_survives(reason: str, workload: str, found: dict[str, str]) -> None:
    ends = socket.socketpair()
    with ends[0], ends[1]:
        near, far = map(Channel, ends)
        record = replace(builders.record(of=builders.cell(workload=workload)), reason=reason, settings=found)
        for message in (Refused(reason), Done(1, record)):
            near.send(message)
            assert far.receive() == message
