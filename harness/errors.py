"""What a user can get wrong, and nothing else.

Each class is one kind of mistake, its message one line that names the place, what was found and what is allowed.
A failed cell is no exception: it is a row with a status (`record.Status`). Only `cli` turns these into an exit code.
"""


class UserError(Exception):
    """Something that the person at the keyboard can mend; the command line prints it and exits with code 2."""


class SuiteError(UserError):
    """A suite that does not exist, or says something that is not allowed."""


class SelectionError(UserError):
    """An option that narrows a suite (an axis, `-k`, a backend) is malformed or leaves no cell."""


class BackendError(UserError):
    """A backend that nobody registered."""


class MachineError(UserError):
    """A name for this machine that is not allowed, or a run that was begun on another one."""


class RunNotFoundError(UserError):
    """A run that the store does not hold, or a folder that is no run."""


class BusyError(UserError):
    """Another run is measuring on this host, and two at once would measure each other."""


class StoreError(UserError):
    """The folder of a run was removed, moved or cannot be written while the run goes on."""


class PublishedError(UserError):
    """A table of published timings that cannot be read, says something that is not allowed, or lacks what is asked for."""


class ScheduleError(UserError):
    """A schedule that cannot be written or installed."""


class HistoryError(UserError):
    """A cell or a night that the stored nights do not hold."""


class CaptureError(UserError):
    """A model or a log whose convolutions cannot be seen."""
