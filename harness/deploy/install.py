"""Putting a schedule in place: units of systemd for one user, a line of a user's crontab. Doing it twice changes nothing."""

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import drafts
from harness.deploy.manifests import Job, Kind, render
from harness.errors import ScheduleError


@dataclass(frozen=True)
class Command:
    """A program to be run: its words, and what it reads."""

    words: tuple[str, ...]
    reads: str = ""

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True)
class Steps:
    """What is to be done: files to write, then commands to run; nothing where all is in place. `hint` is for people."""

    files: dict[Path, str] = field(default_factory=dict)
    commands: tuple[Command, ...] = ()
    hint: str = ""


Run = Callable[[Command], tuple[int, str, str]]  # exit code, standard output, standard error


def run(command: Command) -> tuple[int, str, str]:
    """Run a command. Raises ScheduleError where there is no such program."""
    try:
        done = subprocess.run(command.words, input=command.reads, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ScheduleError(f"{command.words[0]}: not installed on this machine") from None
    return done.returncode, done.stdout, done.stderr


def plan(job: Job, kind: Kind, ask: Run = run) -> Steps:
    """What installing takes on this machine; `ask` is for reading what there is. Raises ScheduleError for a kind that is
    installed elsewhere.
    """
    if kind is Kind.SYSTEMD:
        return _systemd(job, ask)
    if kind is Kind.CRON:
        return _cron(job, ask)
    where = {
        Kind.GITHUB: f"> .github/workflows/{job.name}.yml in the repository of the runner",
        Kind.KUBERNETES: "| kubectl apply -f -",
    }
    raise ScheduleError(f"install: found {kind}; allowed: systemd, cron; else: convbench schedule show {kind} {where[kind]}")


def carry_out(steps: Steps, do: Run = run) -> None:
    """Write the files and run the commands. Raises ScheduleError, with what the program said, for one that fails."""
    for path, text in steps.files.items():
        drafts.deliver(path, text)
    for command in steps.commands:
        code, _, errors = do(command)
        if code:
            raise ScheduleError(f"{command}: ended with code {code}: {' '.join(errors.split()) or 'it said nothing'}")


def _systemd(job: Job, ask: Run) -> Steps:
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
    wanted = {folder / name: text for name, text in render(job, Kind.SYSTEMD).items()}
    changed = {path: text for path, text in wanted.items() if _read(path) != text}
    timer, systemctl = f"{job.name}.timer", ("systemctl", "--user")
    commands = [Command((*systemctl, "daemon-reload"))] if changed else []
    if changed or ask(Command((*systemctl, "is-active", "--quiet", timer)))[0]:
        commands += [Command((*systemctl, "enable", timer)), Command((*systemctl, "restart", timer))]
    return Steps(changed, tuple(commands), "loginctl enable-linger lets it fire while nobody is logged in")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _cron(job: Job, ask: Run) -> Steps:
    code, before, errors = ask(Command(("crontab", "-l")))
    if code and "no crontab" not in errors:
        raise ScheduleError(f"crontab -l: ended with code {code}: {' '.join(errors.split())}")
    (block,) = render(job, Kind.CRON).values()
    lines = [] if code else before.splitlines()
    after = "\n".join([*_without(lines, job), *block.splitlines()]) + "\n"
    hint = f"its output goes to {job.log}"
    return Steps(hint=hint) if after == before else Steps(commands=(Command(("crontab", "-"), after),), hint=hint)


def _without(lines: Iterable[str], job: Job) -> Sequence[str]:
    """The lines of a crontab but those that stand between the marks of this job."""
    kept, ours = [], False
    for line in lines:
        ours |= line.startswith(f"# {job.name}: begin")
        if not ours:
            kept.append(line)
        ours &= not line.startswith(f"# {job.name}: end")
    if ours:
        raise ScheduleError(f"crontab: found '# {job.name}: begin' without its end; mend it with crontab -e")
    return kept
