"""Who watches a run as it goes on: Watcher, which says nothing; and one that tells it until it fails, which ends no run."""

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence

from harness.analysis.ranking import Sureness
from harness.axes import Device
from harness.plan import Plan
from harness.profile import Profile
from harness.record import Environment, Progress, Record, Visit


class Watcher:
    """Told of a run as it goes on. This one says nothing; the command line's draws."""

    def planned(self, plan: Plan, seconds: float) -> None:
        """The plan, and the estimate of how long it takes."""

    def grown(self, plan: Plan) -> None:
        """What one more trial measures, of what the ones before have not decided."""

    def sure(self, trials: int, sureness: Sureness) -> None:
        """How sure the run is, after so many trials."""

    def progress(self, progress: Progress) -> None:
        """How far the run is, after a turn."""

    def visited(self, visit: Visit) -> None:
        """One more visit, already kept; nothing is measured until this returns."""

    def recorded(self, record: Record) -> None:
        """One more record, already kept."""

    def profiling(self, cells: int) -> None:
        """From here on so many cells are profiled; nothing is timed any more."""

    def profiled(self, profile: Profile) -> None:
        """One more profile, already kept."""

    def environment(self, environment: Environment) -> None:
        """A worker of a new environment is ready."""

    def discovered(self, devices: Mapping[str, Sequence[Device]]) -> None:
        """The devices that each backend of the run sees, before it is planned."""

    def lacking(self, absent: Mapping[str, str]) -> None:
        """Which backends are not installed, each with the command that installs it, where no plan says so."""


class _Tolerant(Watcher):
    """Tells a watcher until that fails: neither a terminal that is gone nor a mistake of who watches may end a run."""

    def __init__(self, watcher: Watcher | None) -> None:
        self._told = watcher or Watcher()

    def planned(self, plan: Plan, seconds: float) -> None:
        self._tell(self._told.planned, plan, seconds)

    def grown(self, plan: Plan) -> None:
        self._tell(self._told.grown, plan)

    def sure(self, trials: int, sureness: Sureness) -> None:
        self._tell(self._told.sure, trials, sureness)

    def progress(self, progress: Progress) -> None:
        self._tell(self._told.progress, progress)

    def visited(self, visit: Visit) -> None:
        self._tell(self._told.visited, visit)

    def recorded(self, record: Record) -> None:
        self._tell(self._told.recorded, record)

    def profiling(self, cells: int) -> None:
        self._tell(self._told.profiling, cells)

    def profiled(self, profile: Profile) -> None:
        self._tell(self._told.profiled, profile)

    def environment(self, environment: Environment) -> None:
        self._tell(self._told.environment, environment)

    def discovered(self, devices: Mapping[str, Sequence[Device]]) -> None:
        self._tell(self._told.discovered, devices)

    def lacking(self, absent: Mapping[str, str]) -> None:
        self._tell(self._told.lacking, absent)

    def _tell(self, what: Callable[..., None], *news: object) -> None:
        try:
            what(*news)
        except Exception as error:
            self._told = Watcher()
            with contextlib.suppress(Exception):  # where the warning is shown may be what failed
                warnings.warn(f"the run goes on unwatched, since its watcher failed: {error!r}", stacklevel=2)


def tolerant(watcher: Watcher | None) -> Watcher:
    """What tells a watcher, where there is one, and goes on without where that raises anything."""
    return _Tolerant(watcher)
