from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.doctor import Finding
from tests.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    found = Tree(tmp_path)
    found.ran(1, 5_000_000, name="init")  # which shows that processes can be seen
    return found


def only(found: Iterable[Finding]) -> Finding:
    """The one finding, which is whole: what is not fine has a reason and a remedy, each on one line."""
    (one,) = found
    whole(one)
    return one


def whole(one: Finding) -> None:
    assert one.name
    assert one.found
    assert bool(one.why) == bool(one.remedy) == (one.severity != "fine"), one
    assert not any("\n" in text for text in (one.name, one.found, one.why, one.remedy))
