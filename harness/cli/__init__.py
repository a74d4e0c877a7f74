"""The command line: arguments in, calls to the other faces, text out. The only room that prints or exits.

Nothing heavy is imported before a command needs it: `convbench --help` must stay quick.
"""

import contextlib
import ctypes
import os
import sys
import warnings
from typing import Annotated, Any

import typer

from harness.cli import capture, nights, profile, read, repro, run, schedule, show, terminal, transfer, tune
from harness.cli.options import INTERRUPTED, USAGE
from harness.errors import UserError
from harness.plain import plain

app = typer.Typer(
    help="How fast a convolution really is, forward and backward, in TensorFlow, PyTorch and JAX, on CPU and GPU.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
for room in (run, profile, tune, capture, show, read, repro, transfer, nights):  # in the order of --help
    app.add_typer(room.app)
app.add_typer(schedule.app, name="schedule")


def _version(asked: bool) -> None:
    if asked:
        import importlib.metadata

        from harness.record import METHOD_VERSION

        typer.echo(f"convbench {importlib.metadata.version('convbench')} (method version {METHOD_VERSION})")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


# What is wrong with options and arguments: typer's own, or click's, as its version has it.
_UsageError: Any = typer.BadParameter.__base__

_M_MMAP_THRESHOLD = -3  # mallopt(3)


def _give_memory_back() -> None:
    """Have what a run's tables leave go back to the system: this process, not a worker, which is as a user's program would be.

    Arrow's own allocator keeps some 40 MB, and glibc keeps freed blocks of up to 32 MiB, since its threshold grows to that.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with contextlib.suppress(AttributeError):  # another libc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)


def _say_warnings_once() -> None:
    """Have what is left out of a store told as one line, not as Python tells a programmer."""
    known, said = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if category is not UserWarning:
            known(message, category, *rest, **more)
        elif str(message) not in said:
            said.add(str(message))
            typer.echo(f"convbench: {message}", err=True)

    warnings.showwarning = show
    warnings.simplefilter("always", UserWarning)


def main() -> None:
    """The entry point: what a user got wrong is one line on standard error and exit code 2."""
    _give_memory_back()
    terminal.take_over()
    _say_warnings_once()
    sys.exit(_outcome())


def _outcome() -> int:
    """The exit code of the command, once what was wrong with it has been said."""
    try:
        code = app(standalone_mode=False, prog_name="convbench")
        sys.stdout.flush()
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
            error.show()
            return USAGE
        where = f"{error.ctx.command_path}: " if error.ctx else "convbench: "
        told = f"{where}{plain(error.format_message())}"
    except typer.Abort:
        return INTERRUPTED
    except UserError as error:
        told = f"convbench: {plain(str(error))}"
    except OSError as error:  # a folder that cannot be written, a full disk
        told = f"convbench: {plain(str(error))}"
    else:
        if not (failure := getattr(sys.stdout, "failure", "")):
            return code if isinstance(code, int) else 0
        told = f"convbench: standard output: {failure}"
    typer.echo(told, err=True)
    return USAGE
