"""What people are told of a night: Markdown for a job summary, JUnit XML for a CI server, JSON for a webhook.

Secrets come from the environment alone, are taken out of it before anything else is started, and appear in no message.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness import units
from harness.analysis.gate import NightJudgement
from harness.analysis.reasons import correction
from harness.digest import Digest
from harness.errors import UserError
from harness.outcome import State
from harness.plain import plain
from harness.record import Status
from harness.rows import rows
from harness.store import junit

URL, FORMAT, TOKEN = "CONVBENCH_WEBHOOK_URL", "CONVBENCH_WEBHOOK_FORMAT", "CONVBENCH_WEBHOOK_TOKEN"
JOB_SUMMARY = "GITHUB_STEP_SUMMARY"  # the file to which a job of GitHub Actions appends what its page is to show
ERROR = "error"  # the level of a night that ended before it could be judged

TIMEOUT_S, TRIES, PAUSE_S = 10.0, 3, 2.0
LISTED = 20  # cases that a message names; the page has them all
SLACK_CHARACTERS = 2900  # a section of Slack's holds 3000, https://docs.slack.dev/reference/block-kit/blocks/section-block


@dataclass(frozen=True)
class Case:
    """A case that has something to say. `change` is over its baseline, 0.08 for 8 % slower; None: not known.

    The times are those measured; `correction` says why their quotient is not the change, and is empty where it is. What ran is
    told as in the columns of the gate's cases.
    """

    cell: str
    shape: str
    state: str
    change: float | None
    night_ns: float | None
    baseline_ns: float | None
    since: str
    cause: str
    correction: str = ""
    what_ran: str = ""
    ran_before: str = ""
    ran_before_id: str = ""
    ran_now: str = ""
    ran_now_id: str = ""


@dataclass(frozen=True)
class Notice:
    """What is said of one night, the same by every way. `cases` are those that have something to say, `more` counts the rest
    of them. `report` is where the page stands, empty where there is none.
    """

    level: str
    code: int
    sentence: str
    suite: str = ""
    run_id: str = ""
    reasons: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    more: int = 0
    measured: int = 0
    total: int = 0
    validity: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    report: str = ""


def notice(judgement: NightJudgement, digest: Digest, report: Path | None = None) -> Notice:
    """What there is to say of a night that was judged."""
    speaking = judgement.cases[judgement.cases["state"].isin([state for state in State if state.told])]
    cases = tuple(
        Case(
            row.cell, row.shape, _said(row.state, row.status), _known(row.change), _known(row.night_ns),
            _known(row.baseline_ns), row.since, row.cause, correction(row.estimator), row.what_ran, row.ran_before,
            row.ran_before_id, row.ran_now, row.ran_now_id,
        )
        for row in rows(speaking.head(LISTED))
    )  # fmt: skip
    return Notice(
        digest.level, digest.code, digest.sentence, digest.suite, digest.run_id, judgement.reasons, cases,
        len(speaking) - len(cases), digest.measured, digest.cells,
        tuple(f"{check.name}: {check.found}" for check in digest.validity if check.result.open),
        digest.changes, str(report or ""),
    )  # fmt: skip


def failed(suite: str, error: BaseException, code: int) -> Notice:
    """What there is to say of a night that ended before it could be judged."""
    return Notice(ERROR, code, f"The night failed: {_one_line(str(error) or type(error).__name__)}", suite)


def _known(value: float) -> float | None:
    return None if value != value else float(value)  # NaN alone differs from itself; JSON has no word for it


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())


# Markdown -----------------------------------------------------------------------------------------------------------------


def markdown(said: Notice) -> str:
    """A summary for people, as GitHub shows it: the sentence, the cases that have something to say, and what else to know."""
    lines = [f"## {_head(said)}", "", f"**{_text(said.sentence)}**", ""]
    lines += [f"- {_coded(reason)}" for reason in said.reasons if reason != said.sentence]
    lines += [f"- environment: {_text(change)}" for change in said.changes]
    lines += [f"- check: {_text(check)}" for check in said.validity]
    if said.cases:
        heads = ["case", "shape", "state", "tonight", "baseline", "change", "since", "cause"]
        ran = any(case.what_ran for case in said.cases)
        lines += ["", f"| {' | '.join(heads + ['what ran'] * ran)} |"]
        lines += [f"| --- | --- | --- | ---: | ---: | ---: | --- | --- |{' --- |' * ran}"]
        lines += [
            f"| {_text(case.cell)} | {_text(case.shape)} | {_words(case.state)} | {_time(case.night_ns)} "
            f"| {_time(case.baseline_ns)} | {_change(case.change, case.correction)} "
            f"| {_text(case.since)} | {_text(case.cause)} |{f' {_coded(case.what_ran)} |' * ran}"
            for case in said.cases
        ]
    if said.more:
        lines += ["", f"and {said.more} more, in the report"]
    ended = [f"exit code {said.code}"]
    if said.total:
        ended.insert(0, f"{said.measured} of {said.total} cells measured")
    if said.run_id:
        ended.insert(0, f"run `{said.run_id}`")
    if said.report:
        ended.append(f"report: `{said.report}`")
    lines += ["", " · ".join(ended)]
    # Paths, too: a log of CI takes escapes for its own, and a file of UTF-8 holds no lone surrogates.
    return "\n".join(map(plain, lines)).replace("\n\n\n", "\n\n") + "\n"


def _head(said: Notice) -> str:
    return f"convbench: {said.suite} {_words(said.level)}" if said.suite else f"convbench: {_words(said.level)}"


def _text(text: str) -> str:
    """Text as Markdown in one line, which none of its characters can turn into anything else."""
    return _escaped(_one_line(text))


def _coded(text: str) -> str:
    """The same, but what stands between backticks is code."""
    parts = _one_line(text).split("`")
    if len(parts) % 2 == 0:  # one of them has no other
        return _text(text)
    return "".join("`" + part.replace("|", "\\|") + "`" if place % 2 else _escaped(part) for place, part in enumerate(parts))


def _escaped(text: str) -> str:
    for letter in "\\`*_[]<>|":
        text = text.replace(letter, f"\\{letter}")
    return text


def _words(name: str) -> str:
    return name.replace("_", " ")


def _time(ns: float | None) -> str:
    return units.MISSING if ns is None else units.duration(ns)


def _change(change: float | None, correction: str) -> str:
    """A change, and that it is corrected where it is: the times beside it are not."""
    told = units.MISSING if change is None else units.change(1 + change)
    return f"{told}, {correction}" if correction and change is not None else told


def append_job_summary(text: str, environ: Mapping[str, str]) -> None:
    """Add to the summary of a job of GitHub Actions, where this is one. Raises OSError where the file cannot be written."""
    if path := environ.get(JOB_SUMMARY):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


# JUnit --------------------------------------------------------------------------------------------------------------------


def junit_xml(judgement: NightJudgement, digest: Digest) -> str:
    """A night as JUnit XML, a test case per cell: slower and failed are failures; what cannot be judged is skipped.

    A first case stands for the night itself, so that one without cells is not green: it fails where the level does.
    """
    whole = junit.Case("night", not digest.code, f"{_words(digest.level)}: {digest.sentence}")
    cases = [
        junit.Case(
            name=row.cell,
            passed=None if _said(row.state, row.status) == Status.NOT_RUN else State(row.state).passes,
            message=_one_line(f"{_words(_said(row.state, row.status))}: {_moved(row)} {_why(row)} ({row.shape})"),
            time_s=None if _known(row.night_ns) is None else row.night_ns / 1e9,
        )
        for row in rows(judgement.cases)
    ]
    return junit.render(f"convbench {digest.suite} {digest.run_id}", [whole, *cases])


def _moved(row: Any) -> str:
    """The change of a case with the times that were measured: a test case's own time is tonight's."""
    told = _change(_known(row.change), correction(row.estimator))
    night_ns, baseline_ns = _known(row.night_ns), _known(row.baseline_ns)
    return told if None in (night_ns, baseline_ns) else f"{told} (measured {_time(night_ns)}, baseline {_time(baseline_ns)})"


def _why(row: Any) -> str:
    """What there is to say of a case beside its change."""
    return "; ".join(filter(None, (row.cause, row.note, row.what_ran)))


def _said(state: str, status: str) -> str:
    """What became of a case: a cell that was not run is neither lost nor failed."""
    return status if status == Status.NOT_RUN and state == State.LOST else state


# Webhook ------------------------------------------------------------------------------------------------------------------


class Format(StrEnum):
    """What a webhook is sent."""

    JSON = "json"
    SLACK = "slack"


@dataclass(frozen=True)
class Webhook:
    """Where a night is posted to. Neither its address nor its token is ever printed: `repr` leaves them out."""

    url: str = field(repr=False)
    format: Format = Format.JSON
    token: str = field(default="", repr=False)


def take_webhook(environ: MutableMapping[str, str]) -> Webhook | None:
    """The webhook that the environment names, taken out of it so that no process started later has it; None: it names none.

    Raises UserError, which tells the variable but not the address, for a scheme or a format that is not known.
    """
    url, format, token = (environ.pop(name, "").strip() for name in (URL, FORMAT, TOKEN))
    if not url:
        return None
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname
    except ValueError:
        wrong = True
    if wrong:
        raise UserError(f"{URL}: found no address of the form https://...")
    if format not in ("", *Format):
        raise UserError(f"{FORMAT}: found {format!r}; allowed: {', '.join(Format)}")
    return Webhook(url, Format(format or Format.JSON), token)


def payload(said: Notice, format: Format) -> dict[str, Any]:
    """What is posted: every field of the notice by name, or a message with blocks as Slack's incoming webhooks take it."""
    if format is Format.JSON:
        return {"schema": 1, **asdict(said)}
    head = _head(said)
    lines = [f"*{_slack(said.sentence)}*", *(f"• {_slack(reason)}" for reason in said.reasons if reason != said.sentence)]
    lines += [f"• environment: {_slack(change)}" for change in said.changes]
    lines += [
        f"• {_words(case.state)}: {_slack(case.cell)} ({_slack(case.shape)}) {_change(case.change, case.correction)}"
        f"{f' ({_slack(case.cause)})' if case.cause else ''}{f': {_slack(case.what_ran)}' if case.what_ran else ''}"
        for case in said.cases
    ]
    if said.more:
        lines.append(f"• and {said.more} more")
    text = "\n".join(lines)
    text = text if len(text) <= SLACK_CHARACTERS else text[: text.rfind("\n", 0, SLACK_CHARACTERS)] + "\n…"
    foot = f"run {said.run_id}, exit code {said.code}" if said.run_id else f"exit code {said.code}"
    return {
        "text": f"{head}: {_slack(said.sentence)}",  # for notifications, and where blocks are not shown
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": head[:150]}},
            {"type": "section", "text": {"type": "mrkdwn", "text": text}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": _slack(foot)}]},
        ],
    }


def _slack(text: str) -> str:
    """Text that Slack shows as it is, https://docs.slack.dev/messaging/formatting-message-text#escaping."""
    return _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def post(webhook: Webhook, said: Notice, sleep: Callable[[float], None] = time.sleep, timeout_s: float = TIMEOUT_S) -> str:
    """Post a notice; returns "" where that was taken, else why not, in words without the address. Raises nothing.

    Tried again after a pause where the server is at fault, asks for patience, or cannot be reached; redirects are not
    followed, since the token would go with them.
    """
    why = ""
    for attempt in range(TRIES):
        if attempt:
            sleep(PAUSE_S * 2 ** (attempt - 1))
        why, again = _try(webhook, said, timeout_s)
        if not again:
            break
    return why


def _try(webhook: Webhook, said: Notice, timeout_s: float) -> tuple[str, bool]:
    """Why it was not taken, "" where it was, and whether another try may help."""
    headers = {"Content-Type": "application/json", "User-Agent": "convbench"}
    if webhook.token:
        headers["Authorization"] = f"Bearer {webhook.token}"
    try:
        body = json.dumps(payload(said, webhook.format), allow_nan=False).encode()
        request = urllib.request.Request(webhook.url, body, headers, method="POST")
        with urllib.request.build_opener(_Staying).open(request, timeout=timeout_s):
            return "", False
    except urllib.error.HTTPError as error:
        with error:
            return f"HTTP status {error.code}", error.code == http.client.TOO_MANY_REQUESTS or error.code >= 500
    except urllib.error.URLError as error:
        return _kind(error.reason), True
    except (OSError, http.client.HTTPException) as error:
        return _kind(error), isinstance(error, OSError)
    except Exception as error:  # a failing webhook never fails the night, whatever is wrong with it
        return _kind(error), False


def _kind(reason: object) -> str:
    """An error in words that cannot hold the address: the system's for its own, else the class."""
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, ConnectionError):
        return "no connection"
    return type(reason).__name__


class _Staying(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: that is an HTTPError then."""

    def redirect_request(self, *asked: Any) -> None:
        return None
