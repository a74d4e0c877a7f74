"""A run that never was, and its view."""

import pytest

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
