"""A run is read once, whatever is made of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness import codec
from harness.nights.nightly import conclude
from harness.record import AA
from harness.review import pages
from harness.review.nights import history
from harness.review.reading import Reading
from harness.store import acknowledgements, journal, nights, table
from tests import stored


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often each file of a store was read, by the name of its folder and its own."""
    counts: Counter[tuple[str, str]] = Counter()
    read = codec.read

    def counted(path: Path, *rest: Any) -> bytes:
        if "results" in path.parts:
            counts[path.parent.name, path.name] += 1
        return read(path, *rest)

    monkeypatch.setattr(codec, "read", counted)
    return counts


def test_the_publication_of_a_night_reads_each_file_once(tmp_path: Path, reads: Counter[tuple[str, str]]) -> None:
    store = tmp_path / "results"
    earlier = [folder.name for folder in stored.nights(store, 11)]
    noisy = stored.night(store, 11, tags=(AA,)).name
    history(store, stored.SUITE)  # which keeps the table of each night
    tonight = stored.night(store, 12, {stored.SLOW: 1.2})
    reads.clear()
    night = conclude(tonight, tmp_path / "reports")
    assert night.page
    assert night.digest.level == "suspect"
    assert {name: count for name, count in reads.items() if count > 1} == {}
    assert {run for run, file in reads if file == journal.RUN} == {*earlier, noisy, tonight.name}
    assert {run for run, file in reads if file == nights.NIGHT} == set(earlier)
    assert {run for run, file in reads if file in ("records.parquet", table.SAMPLES)} == {noisy, tonight.name}
    assert reads["results", acknowledgements.FILE] == 1


def test_a_page_beside_another_run_reads_both_once(tmp_path: Path, reads: Counter[tuple[str, str]]) -> None:
    base, new = stored.nights(tmp_path / "results", 2)
    reads.clear()
    pages.publish(Reading(new), tmp_path / "reports", Reading(base))
    several = {name: count for name, count in reads.items() if count > 1}
    assert several == {(base.name, journal.RUN): 2}  # once as itself, and once among the runs of the other's store


def test_a_run_has_its_times_and_can_be_compared_along_an_axis(tmp_path: Path) -> None:
    reading = Reading(stored.night(tmp_path / "results", 0, {stored.SLOW: 1.5}))
    found = reading.summary.set_index("cell")
    assert set(found.index) == set(stored.CELLS)
    assert found["time_ns"].tolist() == pytest.approx(found["median_ns"], rel=1e-3)
    beside = reading.along("backend", "jax")
    assert beside["cell"].tolist() == [cell for cell in reading.ranking["cell"] if "/torch/" in cell]
    factors = dict(zip(beside["cell"], beside["factor"], strict=True))
    assert factors.pop(stored.SLOW) == pytest.approx(1.5, rel=0.02)
    assert list(factors.values()) == pytest.approx([1, 1], rel=0.02)
    with pytest.raises(ValueError, match="is no axis to compare along"):
        reading.along("colour", "red")
