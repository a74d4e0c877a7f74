"""What a setting is worth: the tables along the axes of a run."""

import dataclasses
from pathlib import Path

import pytest

from harness.analysis import along
from harness.axes import Api, Autotune, Bias, Cache, Direction, Epilogue, Layout, Mode, Precision, Switch, Values
from harness.page import worth
from harness.page.view import prepare
from harness.review import pages
from harness.review.reading import Reading
from harness.spec import GemmSpec
from tests import builders, settings
from tests.page.soundness import sound

OTHERS = {
    "mode": Mode.COMPILED, "precision": Precision.BF16, "layout": Layout.CHANNELS_LAST, "cache": Cache.COLD, "threads": 2,
    "autotune": Autotune.ON, "switch": Switch.ONEDNN_OFF, "operands": Values.ZEROS, "bias": Bias.CHANNEL,
    "epilogue": Epilogue.RELU, "api": Api.LAYER,
}  # fmt: skip


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
    assert section.index("<h4>Mode: compiled over eager</h4>") < section.index("<h4>Layout: NHWC over NCHW</h4>")
    assert '<span class="tag faster">▼ 0.800×</span>' in section


def test_a_run_of_one_setting_says_nothing_of_settings(tmp_path: Path) -> None:
    only = read(tmp_path, backend=("jax", "torch"))
    assert only.worth == {}
    assert 'id="worth"' not in pages.page(only).text


def test_several_values_stand_side_by_side_and_threads_are_named(tmp_path: Path) -> None:
    found = read(tmp_path, threads=(1, 2, 0))
    (threads,) = worth.worth(prepare(found.ranking), found.worth)
    assert (threads.base, [value for _, value in threads.heads]) == ("1 thread", ["all cores", "2 threads"])
    assert threads.sentence == "Of 4 cases beside 1 thread: 4 equivalent within 2 %."


def test_of_many_rows_those_with_the_largest_factors_are_shown(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worth, "MOST_ROWS", 2)
    frame = reading.worth["mode"].copy()
    frame.loc[frame.index[-1], "factor"] = 9.0
    frame.attrs["base"] = "eager"
    (mode,) = worth.worth(prepare(reading.ranking), {"mode": frame})
    assert (len(mode.rows), mode.total) == (2, 8)
    assert "▼ 9.00×" in [ratio.text for ratio in mode.rows[-1][3] if ratio]


def test_every_axis_is_a_setting_with_a_table_or_one_that_may_be_named_beside_them() -> None:
    assert {*along.SETTINGS, *along.BESIDE, "workload"} == {*along.AXES}
    assert set(OTHERS) == set(along.SETTINGS)


@pytest.mark.parametrize("axis", OTHERS)
def test_each_setting_that_varies_has_a_table_that_says_which_value_stands_over_which(axis: str, tmp_path: Path) -> None:
    plain = dataclasses.replace(builders.cell(), threads=1)
    found = Reading(settings.run(tmp_path, [plain, dataclasses.replace(plain, **{axis: OTHERS[axis]})]))
    (told,) = worth.worth(prepare(found.ranking), found.worth)
    over = {"threads": "2 threads over 1 thread", "layout": "NHWC over NCHW"}
    assert told.title == f"{axis.capitalize()}: {over.get(axis, f'{OTHERS[axis]} over {along.USUAL.get(axis)}')}"
    assert told.sentence.startswith("Of 1 case beside ")
    text = pages.page(found).text
    assert f"<h4>{told.title}</h4>" in text
    assert "Along another axis" not in text


@pytest.mark.parametrize(
    ("axes", "named"),
    [
        ({"backend": ("jax", "torch")}, "--by backend --base jax"),
        ({"direction": (Direction.FPROP, Direction.WGRAD)}, "--by direction --base fprop"),
        ({"workload": ("one", "two")}, ""),
    ],
)
def test_another_axis_is_named_only_where_there_is_something_to_compare_along_it(
    axes: dict, named: str, tmp_path: Path
) -> None:
    found = Reading(settings.run(tmp_path, settings.cells(mode=(Mode.EAGER, Mode.COMPILED), **axes)))
    text = pages.page(found).text
    assert ("Along another axis: <code>convbench show" in text) is bool(named)
    assert named in text
    if named:
        _, axis, _, base = named.split()
        assert len(found.along(axis, base))


def test_two_backends_that_share_no_setting_are_not_named_as_an_axis(tmp_path: Path) -> None:
    of = [cell for cell in settings.cells(backend=("jax", "torch"), mode=tuple(Mode)[:2], threads=(1, 2))
          if (cell.backend == "jax") is (cell.threads == 1)]  # fmt: skip
    found = Reading(settings.run(tmp_path, of))
    assert found.along("backend").empty
    assert found.worth
    assert found.beside_settings is None


def test_the_note_explains_the_marks_and_the_pairs_that_stand_there(reading: Reading, tmp_path: Path) -> None:
    found = worth.worth(prepare(reading.ranking), reading.worth)
    told = worth.note(found)
    assert "the ratios of visits in the same turn, by pairs of processes. ▲ slower, ▼ faster." in told
    equal = read(tmp_path, threads=(1, 2))
    assert worth.note(worth.worth(prepare(equal.ranking), equal.worth)).endswith("○ equivalent (within 2 %).")
    frame = reading.worth["mode"].assign(difference="undecided", paired="trials")
    frame.attrs["base"] = "eager"
    told = worth.note(worth.worth(prepare(reading.ranking), {"mode": frame}))
    assert "figures of a trial, as the two were not visited in the same turn. ~ not decided, as under 4 pairs or" in told


def test_of_an_interval_without_end_it_is_said_that_it_is_wide(reading: Reading) -> None:
    frame = reading.worth["layout"].assign(factor_low=1e-19, factor_high=1e19)
    frame.attrs |= reading.worth["layout"].attrs
    (told,) = worth.worth(prepare(reading.ranking), {"layout": frame})
    assert {ratio.interval for *_, ratios in told.rows for ratio in ratios if ratio} == {"uncertain by over 10×"}


def test_a_matrix_product_in_two_precisions_is_no_case(tmp_path: Path) -> None:
    precisions = (Precision.FP32, Precision.BF16)
    product = {"workload": "product", "spec": GemmSpec(8, 8, 8), "direction": Direction.NONE}
    products = [builders.cell(**product, precision=precision) for precision in precisions]
    found = Reading(settings.run(tmp_path, [*settings.cells(precision=precisions), *products]))
    assert found.worth["precision"]["workload"].tolist() == ["conv"]
    assert pages.page(found).broken == ()
