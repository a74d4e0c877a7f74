import os
from typing import Any

import pytest

from harness.measure import caches


def test_an_eviction_streams_over_twice_the_last_level_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "last_level_bytes", lambda: 2**20)
    eviction = caches.Eviction()
    eviction()
    eviction()
    assert eviction.buffer.nbytes == 2 * 2**20
    assert set(eviction.buffer) == {2.0 * len(os.sched_getaffinity(0))}  # each core has caches of its own
    assert eviction.cores == sorted(os.sched_getaffinity(0))


def test_the_last_level_cache_is_the_largest_that_the_kernel_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for index, size in enumerate(["48K", "2048K", "100M"]):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    monkeypatch.setattr(caches, "Path", lambda name: tmp_path)
    assert caches.last_level_bytes() == 100 * 2**20


def test_a_kernel_that_names_no_cache_gets_a_large_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(caches, "Path", lambda name: tmp_path)
    assert caches.last_level_bytes() == 32 * 2**20
