"""The order of the page: its sections, each with its question. Ids are an interface, since links name them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from harness.outcome import Check, Difference, Extent, Judgement
from harness.page.canvas import Drawn
from harness.record import Run


@dataclass(frozen=True)
class Ran:
    """What ran inside the calls of a run that was profiled: KERNEL_COLUMNS, PROFILE_COLUMNS and EXPLANATION_COLUMNS.

    `traces` has the trace of a cell, JSON in gzip, by the id of the cell.
    """

    kernels: pd.DataFrame
    profiles: pd.DataFrame
    explanations: pd.DataFrame
    traces: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """What a page is made of; a part that nobody asked for is None. `index` is the link to the page of all runs, or "".

    `summary` has SUMMARY_COLUMNS, and best, tie and vs_best where it was ranked. `ceilings` is the frame of
    `analysis.roofline.ceilings`, `networks` that of `analysis.networks.by_pass`, `beside` that of `analysis.elsewhere.beside`,
    `worth` has that of `analysis.along` for each axis whose settings are compared, `beside_settings` is another axis along
    which cells can be compared, and the value to hold them against; `tuned` and `tuned_networks` are those of
    `analysis.tuning`.

    `judged` is this run beside its baseline; `changes` are its cases, a row per cell: `cell`, `verdict` (an Outcome),
    `baseline_ns`, `ratio`, `ratio_low`, `ratio_high` (now over baseline) and `severity`.

    `nights` has a row per night and cell, this night included, as `analysis.history.nights` makes it: `run_id`,
    `started_at`, `cell`, `backend`, `device`, `status`, `median_ns` and `night_ns`. `breaks` are pairs of a run's id and what
    changed before that run; `steps` are the change points, with the columns of `analysis.gate`'s cases.

    `extent` says how far a run came that has not ended; the page of such a run names no winner. `pruned` says that the samples
    of the run are not in the store, so that `summary` holds only the figures that were kept.
    """

    summary: pd.DataFrame
    samples: pd.DataFrame
    run: Run
    duration_s: float | None = None
    command: str = ""
    ceilings: pd.DataFrame | None = None
    networks: pd.DataFrame | None = None
    beside: pd.DataFrame | None = None
    worth: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    beside_settings: tuple[str, str] | None = None
    tuned: pd.DataFrame | None = None
    tuned_networks: pd.DataFrame | None = None
    judged: Judgement | None = None
    checks: Sequence[Check] = ()
    differences: Sequence[Difference] = ()
    nights: pd.DataFrame | None = None
    breaks: Sequence[tuple[str, str]] = ()
    steps: pd.DataFrame | None = None
    ran: Ran | None = None
    index: str = ""
    extent: Extent | None = None
    pruned: bool = False

    @property
    def changes(self) -> pd.DataFrame | None:
        """What became of each cell since its baseline; None without one."""
        return None if self.judged is None else self.judged.cases


@dataclass(frozen=True)
class Content:
    """What a section shows.

    `data` are the variables of its template, `figures` its charts, of which those that failed are counted. `count` stands
    beside the section in the navigation, in the colour of bad news where `bad`. `empty` says in one line why there is nothing
    to show, `failure` names the exception that the section raised; where one of them is set, the template is left out.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    figures: tuple[Drawn, ...] = ()
    count: str = ""
    bad: bool = False
    empty: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Section:
    """A place on the page: its id, heading and question. Its template is `<id>.html.j2`.

    One that is `optional` is left out where there is nothing to show; what is said of that stands in another one.
    """

    id: str
    title: str
    question: str
    optional: bool = False


SECTIONS = (
    Section("verdict", "Verdict", "Did anything change that matters?"),
    Section("validity", "Validity", "Can the numbers be trusted, and what changed on the machine?"),
    Section("compare", "Backends compared", "Which backend is fastest overall, and how sure is that?"),
    Section("workloads", "Workload by workload", "Where does each backend win or lose?"),
    Section("what-ran", "What ran", "What was executed inside a call, and why does it take so long?", optional=True),
    Section("roofline", "Roofline", "How close to the machine is each case, and is memory or computing its limit?"),
    Section("stability", "Latency distribution", "Which medians hide a wide or two-peaked distribution?"),
    Section("memory", "Memory", "How much more memory does a call need than its tensors?"),
    Section("energy", "Energy", "What does a unit of work cost?"),
    Section("scaling", "Scaling", "When is the device full, and where does it run out of memory?"),
    Section("history", "History", "Was it a step, a drift or a single night?"),
    Section("failures", "Failures", "What did not run, ran wrong, or is new?"),
    Section("results", "All results", "What is every number?"),
    Section("method", "Method", "How was each number made?"),
    Section("data-files", "Data", "How do I take the numbers with me?"),
)
