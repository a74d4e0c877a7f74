"""A run that never was, and its view."""

import pytest

from harness.page.canvas import Drawn
from harness.page.charts import latency, ratios, roofline, scaling, stability
from harness.page.view import View, prepare
from tests.page import synthetic


@pytest.fixture(scope="session")
def made() -> synthetic.Made:
    return synthetic.make()


@pytest.fixture(scope="session")
def view(made) -> View:
    return prepare(made.summary)


@pytest.fixture(scope="session")
def clear(made) -> View:
    """The same run without a flag that bars a verdict."""
    return prepare(made.summary.assign(barred_by=""))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts that know nothing of a baseline are left empty, for tests of all the rest: to draw them takes most of the time."""
    for room in (latency, ratios, roofline, scaling, stability):
        monkeypatch.setattr(room, "draw", lambda name, caption, *_, note="", **__: Drawn(name, caption, " ", note))
