"""Which backends there are: entry points of the group `harness.backends`, ours and other packages'. Imports none of them."""

from importlib import metadata, util
from typing import Any

from harness.errors import BackendError

GROUP = "harness.backends"


def names() -> tuple[str, ...]:
    """The registered names, sorted."""
    return tuple(sorted({point.name for point in metadata.entry_points(group=GROUP)}))


def find(name: str) -> str:
    """`module:Class` for a name. Raises BackendError for an unknown one."""
    for point in metadata.entry_points(group=GROUP):
        if point.name == name:
            return point.value
    raise BackendError(f"backend {name!r} is not registered; found: {', '.join(names())}")


def resolve(target: str) -> Any:
    """The class behind `module:Class`. Its framework is imported only when it is instantiated."""
    module, _, attribute = target.partition(":")
    return getattr(__import__(module, fromlist=[attribute]), attribute)


def missing(name: str) -> str | None:
    """Why a registered backend cannot take part at all, None where its package is there."""
    return None if installed(name) else f"{name} is not installed: pip install 'convbench[{name}]'"


def installed(name: str) -> bool:
    """Whether the package that the backend stands for is there: looked for, not imported; only the adapter's file is."""
    return util.find_spec(resolve(find(name)).distributions[0]) is not None
