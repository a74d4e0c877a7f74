"""What a setting is worth: the tables along the axes of a run."""

from pathlib import Path

import pytest

from harness.axes import Direction, Layout, Mode
from harness.page import worth
from harness.page.view import prepare
from harness.review import pages
from harness.review.reading import Reading
from tests import settings
from tests.page.soundness import sound


def read(store: Path, **axes) -> Reading:
    return Reading(settings.run(store, settings.cells(direction=(Direction.FPROP, Direction.WGRAD), **axes)))


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    """A run of two backends in two modes and two layouts, one of which has the second layout alone."""
    of = settings.cells(
        workload=("conv1", "conv2"), direction=(Direction.FPROP, Direction.WGRAD), backend=("jax", "torch"),
        mode=(Mode.EAGER, Mode.COMPILED), layout=(Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST),
    )  # fmt: skip
    kept = [cell for cell in of if (cell.backend, cell.layout) != ("jax", Layout.CHANNELS_FIRST)]
    return Reading(settings.run(tmp_path_factory.mktemp("store"), kept))


def test_each_axis_with_pairs_has_a_table_of_workloads_and_passes(reading: Reading) -> None:
    mode, layout = worth.worth(prepare(reading.ranking), reading.worth)
    assert (mode.axis, mode.base, layout.axis, layout.base) == ("mode", "eager", "layout", "NCHW")
    assert [(head.text, value) for head, value in mode.heads] == [("PyTorch compiled", ""), ("JAX compiled", "")]
    assert mode.sentence == "Of 12 cases beside eager: 12 faster."
    assert layout.sentence == "Of 8 cases beside NCHW: 8 slower."
    names = [(name, words) for name, _, words, _ in mode.rows]
    assert names[:2] == [("conv1 · NCHW", "forward"), ("conv1 · NHWC", "forward")]
    torch, jax = mode.rows[0][3]
    assert (torch.text, torch.interval, torch.tone) == ("▼ 0.800×", "0.800 to 0.800", "faster")
    assert torch.title == "faster, by 4 pairs of processes, paired by visits"
    assert jax is None  # it has no NCHW
    assert {ratio.text for *_, ratios in layout.rows for ratio in ratios} == {"▲ 1.25×"}


def test_the_page_shows_it_and_is_sound(reading: Reading) -> None:
    made = pages.page(reading)
    assert made.broken == ()
    sound(made.text)
    section = made.text[made.text.index('id="worth"') :]
    assert section.index("<h4>Mode") < section.index("<h4>Layout")
    assert '<span class="tag faster">▼ 0.800×</span>' in section


def test_a_run_of_one_setting_says_nothing_of_settings(tmp_path: Path) -> None:
    only = read(tmp_path, backend=("jax", "torch"))
    assert only.worth == {}
    assert 'id="worth"' not in pages.page(only).text


def test_several_values_stand_side_by_side_and_threads_are_named(tmp_path: Path) -> None:
    found = read(tmp_path, threads=(1, 2, 0))
    (threads,) = worth.worth(prepare(found.ranking), found.worth)
    assert (threads.base, [value for _, value in threads.heads]) == ("1 thread", ["0", "2"])
    assert threads.sentence == "Of 4 cases beside 1 thread: 4 equivalent within 2 %."


def test_of_many_rows_those_with_the_largest_factors_are_shown(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worth, "MOST_ROWS", 2)
    frame = reading.worth["mode"].copy()
    frame.loc[frame.index[-1], "factor"] = 9.0
    frame.attrs["base"] = "eager"
    (mode,) = worth.worth(prepare(reading.ranking), {"mode": frame})
    assert (len(mode.rows), mode.total) == (2, 8)
    assert "▼ 9.00×" in [ratio.text for ratio in mode.rows[-1][3] if ratio]
