"""`convbench schedule`: a schedule for `convbench nightly`, shown or installed."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import load
from harness.deploy.manifests import Job, Kind

app = typer.Typer(help="A schedule for convbench nightly: systemd, cron, GitHub Actions, Kubernetes.", no_args_is_help=True)

KindOf = Annotated[Kind, typer.Argument(help="The scheduler.")]
Suite = Annotated[str, typer.Argument(help="The suite that is measured every night.")]
Options = Annotated[list[str] | None, typer.Argument(help="Options for convbench nightly, after a --.")]
At = Annotated[str, typer.Option(help="The time of day: local for systemd and cron, UTC for GitHub and Kubernetes.")]
Folder = Annotated[Path, typer.Option("--folder", help="Where it is started: results/ and reports/ stand there.")]
SECRETS = ".config/convbench/nightly.env"


@app.command(epilog="Example: convbench schedule show systemd nightly --at 02:30 -- --threads 2 --wait 2h")
def show(
    kind: KindOf,
    suite: Suite,
    options: Options = None,
    at: At = "02:30",
    folder: Folder = Path(),
    image: Annotated[str, typer.Option(help="The container's image; Kubernetes alone.")] = "convbench:latest",
    memory: Annotated[str, typer.Option(help="What the container may take; Kubernetes alone.")] = "8Gi",
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of the container; Kubernetes alone.")] = 0,
) -> None:
    """Print what a scheduler must be told."""
    from harness.deploy.manifests import render

    # In a container the program is the image's own, and the folder is one of the container.
    program, place = (("convbench",), folder) if kind is Kind.KUBERNETES else (_program(), folder.resolve())
    if kind is Kind.KUBERNETES and not folder.is_absolute():
        place = Path("/convbench")
    job = _job(suite, options, at, place, program, image=image, memory=memory, gpus=gpus)
    files = render(job, kind)
    for name, text in files.items():
        if len(files) > 1:
            typer.echo(f"# {name}")
        typer.echo(text)


@app.command(epilog="Example: convbench schedule install cron nightly --at 02:30 --dry-run")
def install(
    kind: KindOf,
    suite: Suite,
    options: Options = None,
    at: At = "02:30",
    folder: Folder = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")] = False,
) -> None:
    """Install a schedule for this user: a timer of systemd, or a line of the crontab. Doing it twice changes nothing."""
    from harness.deploy.install import carry_out, plan

    steps = plan(_job(suite, options, at, folder.resolve(), _program()), kind)
    for path, text in steps.files.items():
        typer.echo(f"write {path}")
        if dry_run:
            typer.echo(text)
    for step in steps.commands:
        typer.echo(f"run {step}")
        if dry_run and step.reads:
            typer.echo(step.reads)
    if not steps.files and not steps.commands:
        typer.echo("already installed")
    elif not dry_run:
        carry_out(steps)
    typer.echo(steps.hint, err=True)


def _job(suite: str, options: list[str] | None, at: str, folder: Path, program: tuple[str, ...], **more: Any) -> Job:
    """The job, of a suite that is there and of options that `nightly` takes. Raises UserError, or typer's own."""
    from harness.cli import nights

    load(suite)
    nightly = typer.main.get_group(nights.app).commands["nightly"]
    nightly.make_context("convbench nightly", [suite, *(options or ())])
    # A path is found from wherever the schedule starts it.
    named = str(Path(suite).resolve()) if Path(suite).suffix == ".toml" else suite
    return Job(named, at, folder, program, Path.home() / SECRETS, tuple(options or ()), **more)


def _program() -> tuple[str, ...]:
    """The command by its whole path: a scheduler has a PATH of its own."""
    beside = Path(sys.executable).with_name("convbench")
    program = str(beside) if beside.is_file() else shutil.which("convbench")
    return (program,) if program else (sys.executable, "-m", "harness")
