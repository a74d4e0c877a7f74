import os
from pathlib import Path

import numpy as np
import pytest

from harness.measure import memory

MIB = 2**20
# The kernel sums resident pages per CPU in batches (percpu_counter), so its figures are off by up to this many bytes.
BLUR = os.cpu_count() * max(32, 2 * os.cpu_count()) * os.sysconf("SC_PAGE_SIZE")


def test_what_a_call_touches_raises_the_peak_by_that() -> None:
    size = 64 * MIB + 2 * BLUR

    def call() -> None:
        np.zeros(size, dtype=np.uint8).fill(1)

    found = memory.measure(call, None)
    if found.host_peak_bytes is None:
        pytest.skip(found.method)
    assert abs(found.host_peak_bytes - found.host_base_bytes - size) <= BLUR + MIB
    assert found.method == "host: high-water mark of resident memory over one call"
    assert found.device_base_bytes is None
    assert found.device_peak_bytes is None


def test_a_peak_before_the_call_is_forgotten() -> None:
    np.zeros(64 * MIB + 2 * BLUR, dtype=np.uint8).fill(1)
    found = memory.measure(lambda: None, None)
    if found.host_peak_bytes is None:
        pytest.skip(found.method)
    assert found.host_peak_bytes - found.host_base_bytes <= MIB + BLUR


def test_the_call_is_made_once() -> None:
    calls: list[int] = []
    memory.measure(lambda: calls.append(1), None)
    assert calls == [1]


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "no" / "clear_refs"
    monkeypatch.setattr(memory, "_CLEAR", path)
    return path


def test_where_the_mark_cannot_be_reset_nothing_is_measured_and_the_method_says_so(sealed: Path) -> None:
    found = memory.measure(lambda: None, None)
    assert found.host_base_bytes is None
    assert found.host_peak_bytes is None
    assert found.method.startswith("host: not measured")
    assert str(sealed) in found.method


@pytest.mark.usefixtures("sealed")
def test_the_device_is_told_even_where_the_host_is_not() -> None:
    found = memory.measure(lambda: None, (100, 300, "device: a counter"))
    assert (found.device_base_bytes, found.device_peak_bytes) == (100, 300)
    assert found.method.endswith("; device: a counter")


def test_device_figures_stand_beside_the_hosts() -> None:
    found = memory.measure(lambda: None, (100, 300, "device: a counter"))
    assert (found.device_base_bytes, found.device_peak_bytes) == (100, 300)
    assert found.method.startswith("host: ")
    assert found.method.endswith("; device: a counter")


def test_a_status_without_the_mark_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, clear = tmp_path / "status", tmp_path / "clear_refs"
    status.write_text("Name:\tpython\nVmRSS:\t    1000 kB\n")
    monkeypatch.setattr(memory, "_STATUS", status)
    monkeypatch.setattr(memory, "_CLEAR", clear)
    found = memory.measure(lambda: None, None)
    assert found.host_base_bytes is None
    assert "VmHWM" in found.method


def test_fields_are_read_in_bytes_and_the_mark_is_reset_before_the_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status, clear = tmp_path / "status", tmp_path / "clear_refs"
    status.write_text("VmHWM:\t    9000 kB\nVmRSS:\t    1000 kB\n")
    monkeypatch.setattr(memory, "_STATUS", status)
    monkeypatch.setattr(memory, "_CLEAR", clear)

    def call() -> None:
        assert clear.read_text() == "5"
        status.write_text("VmHWM:\t    3000 kB\nVmRSS:\t    1000 kB\n")

    found = memory.measure(call, None)
    assert (found.host_base_bytes, found.host_peak_bytes) == (1000 * 1024, 3000 * 1024)
