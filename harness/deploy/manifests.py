"""What a scheduler must be told of a night, as text: systemd, cron, GitHub Actions, Kubernetes. Writes nothing."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ScheduleError

if TYPE_CHECKING:
    from jinja2 import Environment

LONGEST_S = 12 * 3600  # after which a scheduler may end a night that hangs


class Kind(StrEnum):
    """A scheduler."""

    SYSTEMD = "systemd"
    CRON = "cron"
    GITHUB = "github"
    KUBERNETES = "kubernetes"


@dataclass(frozen=True)
class Job:
    """A night that is to be scheduled.

    `program` is the command up to `nightly`, `folder` where it is started: the store and the reports stand there. `secrets`
    is a file of NAME=value lines, which need not be there. `image`, `memory` and `gpus` concern Kubernetes alone. Raises
    ScheduleError for a time that is none, and for characters that a schedule cannot carry.
    """

    suite: str
    at: str
    folder: Path
    program: tuple[str, ...]
    secrets: Path
    options: tuple[str, ...] = ()
    image: str = "convbench:latest"
    memory: str = "8Gi"
    gpus: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d", self.at):
            raise ScheduleError(f"--at: found {self.at!r}; allowed: a time of day such as 02:30")
        for text in (*self.command, str(self.folder), str(self.secrets), self.image, self.memory):
            if not text.isprintable():
                raise ScheduleError(f"schedule: found {text!r}; allowed: text without line breaks and control characters")

    @property
    def name(self) -> str:
        """The name of units, jobs and files: `convbench-` and the suite's, in letters that every scheduler allows."""
        stem = re.sub(r"[^a-z0-9]+", "-", Path(self.suite).stem.lower()).strip("-")
        return f"convbench-{stem or 'suite'}"[:50].rstrip("-")  # Kubernetes allows a CronJob's 52 characters

    @property
    def command(self) -> tuple[str, ...]:
        """The whole command, argument by argument."""
        return (*self.program, "nightly", self.suite, *self.options)

    @property
    def log(self) -> Path:
        """Where cron's output goes."""
        return self.folder / "reports" / f"{self.name}.log"

    @property
    def hour(self) -> int:
        """The hour of the day."""
        return int(self.at.partition(":")[0])

    @property
    def minute(self) -> int:
        """The minute of the hour."""
        return int(self.at.partition(":")[2])


def render(job: Job, kind: Kind) -> dict[str, str]:
    """The text of each file by its name. Raises ScheduleError for what that scheduler would read as something else."""
    if kind is Kind.GITHUB and any("${{" in text for text in (*job.command, str(job.folder))):
        raise ScheduleError("schedule: found ${{, which GitHub Actions takes for an expression")
    return {name.format(job.name): _environment().get_template(template).render(job=job, longest_s=LONGEST_S)
            for name, template in _FILES[kind].items()}  # fmt: skip


_FILES: dict[Kind, dict[str, str]] = {
    Kind.SYSTEMD: {"{}.service": "systemd.service.j2", "{}.timer": "systemd.timer.j2"},
    Kind.CRON: {"{}.cron": "crontab.j2"},
    Kind.GITHUB: {"{}.yml": "github.yml.j2"},
    Kind.KUBERNETES: {"{}.yaml": "kubernetes.yaml.j2"},
}


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Delimiters of our own: GitHub's expressions are written in the usual ones.
    environment = Environment(
        loader=PackageLoader("harness.deploy"), undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True,
        trim_blocks=True, lstrip_blocks=True, variable_start_string="<<", variable_end_string=">>", block_start_string="<%",
        block_end_string="%>", comment_start_string="<#", comment_end_string="#>",
    )  # fmt: skip
    environment.filters |= _FILTERS
    return environment


# How each program wants its text ----------------------------------------------------------------------------------------


def systemd_word(text: str) -> str:
    """One argument of ExecStart=, https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html#Command%20lines."""
    text = systemd_path(text).replace("$", "$$").replace("\\", "\\\\")
    plain = re.fullmatch(r"[\w@%$+=:,./\\-]+", text, re.ASCII)
    return text if plain else '"' + text.replace('"', '\\"') + '"'


def systemd_path(text: object) -> str:
    """A path: specifiers begin with %."""
    return str(text).replace("%", "%%")


def shell(words: object) -> str:
    """A command for sh; a path is one of a single word."""
    return shlex.join(words) if isinstance(words, tuple) else shlex.quote(str(words))


def cron(text: str) -> str:
    """Part of a line of a crontab, in which % ends the command (crontab(5))."""
    return text.replace("%", "\\%")


def kubernetes_word(text: str) -> str:
    """An argument of a container, in which $(NAME) stands for a variable."""
    return text.replace("$(", "$$(")


def yaml(text: object) -> str:
    """A string of YAML: one of JSON is one, too."""
    import json

    return json.dumps(str(text))


_FILTERS: dict[str, Callable[..., str]] = {
    "systemd_word": systemd_word, "systemd_path": systemd_path, "shell": shell, "cron": cron, "yaml": yaml,
    "kubernetes_word": kubernetes_word,
}  # fmt: skip
