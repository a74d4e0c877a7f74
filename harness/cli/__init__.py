"""The command line: arguments in, calls to the other faces, text out. The only room that prints or exits.

Nothing heavy is imported before a command needs it: `convbench --help` must stay quick.
"""

import contextlib
import ctypes
import os
import sys
import warnings
from typing import Any

import typer

from harness.cli import exchange, look, nights, run, schedule
from harness.cli.options import USAGE
from harness.errors import UserError

app = typer.Typer(
    help="How fast a convolution really is, forward and backward, in TensorFlow, PyTorch and JAX, on CPU and GPU.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
for room in (run, look, exchange, nights):  # in the order of --help
    app.add_typer(room.app)
app.add_typer(schedule.app, name="schedule")


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
    _say_warnings_once()
    try:
        app()
    except UserError as error:
        typer.echo(f"convbench: {error}", err=True)
        sys.exit(USAGE)
    except OSError as error:  # a folder that cannot be written, a full disk
        typer.echo(f"convbench: {error}", err=True)
        sys.exit(USAGE)
