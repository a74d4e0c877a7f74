"""Files of a store as chance and malice leave them: a reader says what is wrong in a UserError, and one bad run costs no other.

The store stands in a folder in memory where the system has one; every example replaces one file of one run and looks at all.
"""

import contextlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.plan import Budget, Plan, Step
from harness.review import nights as nights_of
from harness.review.reading import overview
from harness.store import acknowledgements, digests, journal, nights, pytest_json, table
from tests import builders, stored
from tests.store.test_acknowledgements import ONE
from tests.store.test_digests import digest
from tests.store.test_pytest_json import document

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SLOW = settings(QUICK, max_examples=8)  # beside the kept ones; for those that look at a whole store


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A store with two nights: the first is whole, the second is what the examples spoil."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    for day in (0, 1):
        night = stored.night(folder, day)
        cells = [builders.cell(workload=name, backend=backend) for backend in ("jax", "torch") for name in stored.WORKLOADS]
        journal.write_plan(night, Plan(stored.SUITE, tuple(Step(0, 3 * n, cell) for n, cell in enumerate(cells)), 7, Budget()))
    nights_of.history(folder, stored.SUITE)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def spoilt(folder: Path, name: str, content: bytes) -> Iterator[None]:
    """The folder with other content in one file, as it was before in the end."""
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (folder / name).write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        for path in set(folder.iterdir()) - set(before):
            path.unlink()
        for path, text in before.items():
            path.write_bytes(text)


def look(store: Path) -> None:
    """Read a store in every way: the run that is whole is always there, and nothing is raised."""
    whole, _ = sorted((store / "runs").iterdir())
    assert whole.name in set(table.samples(store)["run_id"])
    assert table.find(store, "latest").parent == store / "runs"
    assert whole.name in [listed.run.id for listed in overview(store)]  # loads the records
    history = nights_of.history(store, stored.SUITE)
    assert whole.name in [run.id for run in history.runs]
    assert not any(store.rglob("*.draft"))


def refused(read: Callable[[], Any]) -> None:
    """What is read is fit to be read, or a UserError says what is wrong with it."""
    with contextlib.suppress(UserError):
        read()


# JSON: values in the place of others --------------------------------------------------------------------------------------

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([2**63, -(2**63) - 1, 10**30, -1, 0]), st.floats(),
    st.text(max_size=20), st.sampled_from(["", "\udcff", "../../x", ".", "x" * 300, "\x1b[2J", "0001-01-01T00:00:00+14:00"]),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.none(), max_size=2), st.just([[[]]]),
)  # fmt: skip
TEXTS = st.sampled_from(
    [b"", b"{", b"null", b"[" * 10_000, b'{"a":' * 10_000, b"1" * 5000, b"\xff\xfe", b'"\xed\xa0\x80"', b"NaN", b"\0" * 100]
)


def replaced(data: Any, where: int, value: Any) -> Any:
    """The same data with one of its values replaced, or with one key less where the value is `...`."""
    spots: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, item in items:
            spots.append((node, key))
            visit(item)

    data = json.loads(json.dumps(data))
    visit(data)
    if spots:
        node, key = spots[where % len(spots)]
        if value is ...:
            del node[key]
        else:
            node[key] = value
    return data


VALUES = ODD | st.just(...)
PLACES = st.integers(0, 10_000)


@QUICK
@given(where=PLACES, value=VALUES)
def test_a_run_json_that_says_something_else_is_refused_or_fits(place: Path, where: int, value: Any) -> None:
    folder = sorted((place / "runs").iterdir())[1]
    data = replaced(json.loads((folder / journal.RUN).read_bytes()), where, value)
    (place / "alone").mkdir(exist_ok=True)
    (place / "alone" / journal.RUN).write_text(json.dumps(data))
    refused(lambda: journal.read_run(place / "alone"))


@QUICK
@given(where=PLACES, value=VALUES)
def test_a_plan_that_says_something_else_is_a_value_error_or_fits(place: Path, where: int, value: Any) -> None:
    folder = sorted((place / "runs").iterdir())[1]
    data = replaced(json.loads((folder / journal.PLAN).read_bytes()), where, value)
    (place / "alone").mkdir(exist_ok=True)
    (place / "alone" / journal.PLAN).write_text(json.dumps(data))
    with contextlib.suppress(ValueError):
        assert isinstance(journal.read_plan(place / "alone"), Plan)


@SLOW
@given(where=PLACES, value=VALUES)
@example(where=0, value="../../x")  # the id
@example(where=0, value="\udcff")
@example(where=9, value="2026-03-01T02:30:00")  # no zone
@example(where=9, value="9999-12-31T23:59:59+00:00")
@example(where=6, value=10**30)
def test_a_run_whose_run_json_says_something_else(place: Path, where: int, value: Any) -> None:
    folder = sorted((place / "runs").iterdir())[1]
    data = replaced(json.loads((folder / journal.RUN).read_bytes()), where, value)
    with spoilt(folder, journal.RUN, json.dumps(data).encode()):
        look(place)


@SLOW
@given(line=st.integers(0, 18), where=PLACES, value=VALUES)
@example(line=0, where=1, value="another run")
@example(line=0, where=2, value=10**30)
@example(line=0, where=0, value=[[[]]])
def test_a_journal_of_which_a_line_says_something_else(place: Path, line: int, where: int, value: Any) -> None:
    folder = sorted((place / "runs").iterdir())[1]
    lines = (folder / journal.JOURNAL).read_bytes().splitlines()
    data = json.loads(lines[line % len(lines)])
    del data["crc32"]
    lines[line % len(lines)] = json.dumps(replaced(data, where, value)).encode()
    content = b"\n".join(lines) + b"\n"
    with spoilt(folder, journal.JOURNAL, content):
        refused(lambda: table.load(folder))
        look(place)


@SLOW
@given(content=TEXTS, name=st.sampled_from([journal.RUN, journal.JOURNAL, journal.PLAN, "records.parquet", nights.NIGHT]))
@example(content=b"[" * 10_000, name=journal.RUN)
@example(content=b"[" * 10_000 + b"\n", name=journal.JOURNAL)
def test_a_file_that_holds_something_else_altogether(place: Path, content: bytes, name: str) -> None:
    folder = sorted((place / "runs").iterdir())[1]
    with spoilt(folder, name, content):
        look(place)


# Bytes: flips, cuts and insertions -----------------------------------------------------------------------------------------

MUTATIONS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "drop"]), st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3
)


def mutated(content: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    for kind, share, number in changes:
        at = min(int(share * len(content)), len(content) - 1)
        if at < 0:
            break
        match kind:
            case "flip":
                content = content[:at] + bytes([content[at] ^ (1 << number % 8)]) + content[at + 1 :]
            case "cut":
                content = content[:at]
            case "insert":
                content = content[:at] + bytes([number]) * (number + 1) + content[at:]
            case "drop":
                content = content[:at] + content[at + number + 1 :]
    return content


@pytest.mark.fault("any file of a run is damaged at random", "the other runs are read")
@settings(SLOW, max_examples=15)
@given(
    name=st.sampled_from([journal.RUN, journal.JOURNAL, journal.PLAN, "records.parquet", "samples.parquet", nights.NIGHT]),
    changes=MUTATIONS, pruned=st.booleans(),
)  # fmt: skip
@example(name="records.parquet", changes=[("flip", 0.5, 0)], pruned=False)
@example(name="records.parquet", changes=[("flip", 0.999, 0)], pruned=True)
@example(name=nights.NIGHT, changes=[("flip", 0.3, 1)], pruned=True)
@example(name=journal.JOURNAL, changes=[("insert", 0.5, ord("["))], pruned=False)
def test_a_store_of_which_a_file_was_damaged(
    place: Path, name: str, changes: list[tuple[str, float, int]], pruned: bool
) -> None:
    folder = sorted((place / "runs").iterdir())[1]
    content = mutated((folder / name).read_bytes(), changes)
    with spoilt(folder, name, content):
        if pruned:
            (folder / journal.JOURNAL).unlink()
        refused(lambda: table.load(folder))
        look(place)


# What stands beside the runs -----------------------------------------------------------------------------------------------


@QUICK
@given(where=PLACES, value=VALUES)
@example(where=1, value="../../elsewhere")
@example(where=4, value=float("nan"))
def test_a_digest_that_says_something_else_is_none_or_fits(place: Path, where: int, value: Any) -> None:
    path = digests.write(place / "reports", digest())
    path.write_text(json.dumps(replaced(json.loads(path.read_text()), where, value)))
    (found,) = digests.read(place / "reports").values()
    assert found is None or found.run_id == path.parent.name


@QUICK
@given(content=TEXTS | st.binary(max_size=40))
def test_acknowledgements_that_are_something_else_are_left_out(place: Path, content: bytes) -> None:
    acknowledgements.append(place / "said", ONE)
    with spoilt(place / "said", acknowledgements.FILE, b"%s\n" % content):
        assert acknowledgements.read(place / "said") == []
        acknowledgements.append(place / "said", ONE)
        assert acknowledgements.read(place / "said") == [ONE]
    (place / "said" / acknowledgements.FILE).unlink()


@QUICK
@given(where=PLACES, value=VALUES)
@example(where=1, value="9999-12-31T23:59:59")
def test_a_file_of_pytest_benchmark_that_says_something_else_is_refused_or_comes_in_whole(
    place: Path, where: int, value: Any
) -> None:
    path = place / "out.json"
    path.write_text(json.dumps(replaced(document(), where, value)))
    try:
        refused(lambda: pytest_json.bring_in(path, place / "imported"))
        assert len(table.load(place / "imported")["run_id"].unique()) == len(table.runs(place / "imported"))
    finally:
        shutil.rmtree(place / "imported", ignore_errors=True)
