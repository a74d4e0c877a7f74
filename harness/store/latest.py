"""Which of several measurements counts that a journal holds: of a cell and trial one record, of a cell one profile."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.profile import Profile
from harness.record import Record, Status


def latest(records: Iterable[Record]) -> list[Record]:
    """Of each cell and trial the record that counts, the last; it says how long those took that do not.

    There are several where a flag barred the first, and where a run that was resumed measured what was missing. A second
    measurement that came to nothing does not count, since it would cost the figure that is there; a wrong result does.
    """
    found: dict[tuple[int, str], Record] = {}
    for record in records:
        key = record.trial, str(record.cell)
        counts, other = record, found.get(key)
        if other and (
            (record.repeated_for and record.status not in (Status.OK, Status.INCORRECT))
            or (record.status is Status.NOT_RUN and other.status is not Status.NOT_RUN)
        ):
            counts, other = other, record
        if other and other.spent_ns:
            counts = replace(counts, spent_ns=_with(counts.spent_ns or {}, other.spent_ns))
        found[key] = counts
    return list(found.values())


def _with(spent_ns: Mapping[str, int], aside_ns: Mapping[str, int]) -> dict[str, int]:
    """Where the time went, that of a record which does not count with it; its workers started for all of the round."""
    start = aside_ns.get("start", 0)
    more = {"start": start + spent_ns.get("start", 0), "set_aside": sum(aside_ns.values()) - start}
    return {**spent_ns, **more}


def latest_profiles(profiles: Iterable[Profile]) -> list[Profile]:
    """Of each cell the profile that counts: the last one that tells of kernels, else the last."""
    found: dict[str, Profile] = {}
    for profile in profiles:
        other = found.get(str(profile.cell))
        if other is None or profile.kernels or not other.kernels:
            found[str(profile.cell)] = profile
    return list(found.values())
