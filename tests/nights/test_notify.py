"""What people are told: Markdown, JUnit XML, and posts to a server that really listens."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.errors import UserError
from harness.nights import notify
from harness.nights.notify import Case, Format, Notice, Webhook
from tests import stored
from tests.listening import SECRET, Server, listening


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The judgement and the digest of a night with a regression that is confirmed."""
    store = tmp_path_factory.mktemp("nights") / "results"
    stored.nights(store, 12)
    stored.night(store, 12, {stored.SLOW: 1.2})
    folder = stored.night(store, 13, {stored.SLOW: 1.2}, torch="2.14")
    return stored.judged(folder)


def test_the_notice_names_what_has_something_to_say(night) -> None:
    said = notify.notice(*night, report=Path("reports/x/report.html"))
    assert (said.level, said.code, said.measured, said.total) == ("regression", 3, 6, 6)
    (case,) = said.cases
    assert (case.cell, case.state) == (stored.SLOW, "confirmed")
    assert case.change == pytest.approx(0.2, abs=0.02)
    assert said.report == "reports/x/report.html"


def shape_of(night, cell: str) -> str:
    shape = night[0].cases.set_index("cell")["shape"][cell]
    assert shape
    return shape


def test_markdown_has_the_sentence_the_cases_and_the_code(night) -> None:
    text = notify.markdown(notify.notice(*night))
    assert f"| {shape_of(night, stored.SLOW)} | confirmed |" in text
    lines = text.splitlines()
    assert lines[0] == "## convbench: small regression"
    assert lines[2].startswith("**Regression: two forward, torch eager on cpu is ")
    (row,) = [line for line in lines if line.startswith("| two/")]
    assert "| confirmed |" in row
    assert "+20" in row
    assert lines[-1] == "run `20260314T023000-small-000d` · 6 of 6 cells measured · exit code 3"


def test_names_cannot_become_markup() -> None:
    said = Notice("quiet", 0, "a|b `c` <img src=x> [d](e)\nnew *line*", reasons=("x_y",))
    text = notify.markdown(said)
    assert "a\\|b \\`c\\` \\<img src=x\\> \\[d\\](e) new \\*line\\*" in text
    assert "- x\\_y" in text
    slack = json.dumps(notify.payload(replace(said, sentence="<!channel> & co"), Format.SLACK))
    assert "&lt;!channel&gt; &amp; co" in slack


@pytest.mark.fault("a night's texts hold escapes or broken paths", "none reaches a log or a job's summary")
def test_no_escape_and_no_broken_path_reaches_a_log_or_a_summary(tmp_path: Path) -> None:
    path = "caf\udce9/\x1b[31mreport.html"
    said = Notice(
        "quiet", 0, "a\x1b]0;b\x07c", suite="s\x1b[1m\n::error::", run_id="\x9b1m", reasons=("\x1b[2Jx",), report=path
    )
    text = notify.markdown(said)
    assert [letter for letter in text if not letter.isprintable() and letter != "\n"] == []
    assert text.startswith("## convbench: s ::error:: quiet\n")
    assert "`caf\ufffd/report.html`" in text
    notify.append_job_summary(text, {notify.JOB_SUMMARY: str(tmp_path / "summary.md")})
    assert (tmp_path / "summary.md").read_text(encoding="utf-8") == text


def test_a_job_of_github_gets_its_summary(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    notify.append_job_summary("## night\n", {notify.JOB_SUMMARY: str(path)})
    notify.append_job_summary("nowhere", {})
    assert path.read_text() == "before\n## night\n"


def test_junit_fails_what_is_slower_and_the_night(night) -> None:
    (group,) = ElementTree.fromstring(notify.junit_xml(*night))
    cases = {case.get("name"): case for case in group}
    assert (group.get("tests"), group.get("failures"), group.get("skipped")) == ("7", "2", "0")
    assert cases["night"][0].tag == "failure"
    assert cases[stored.SLOW][0].get("message").startswith("confirmed: +20")
    assert cases[stored.SLOW][0].get("message").endswith(f"({shape_of(night, stored.SLOW)})")
    assert float(cases[stored.SLOW].get("time")) == pytest.approx(1.2e-3, rel=0.01)


def test_junit_skips_what_cannot_be_judged(tmp_path: Path) -> None:
    folder = stored.night(tmp_path / "results", 0)
    (group,) = ElementTree.fromstring(notify.junit_xml(*stored.judged(folder)))
    assert (group.get("failures"), group.get("skipped")) == ("0", "6")


# The webhook --------------------------------------------------------------------------------------------------------------


def test_the_address_is_taken_out_of_the_environment() -> None:
    environ = {notify.URL: f"https://hooks.example/{SECRET}", notify.TOKEN: "t0ken", notify.FORMAT: "slack", "PATH": "/bin"}
    webhook = notify.take_webhook(environ)
    assert webhook == Webhook(f"https://hooks.example/{SECRET}", Format.SLACK, "t0ken")
    assert environ == {"PATH": "/bin"}
    assert SECRET not in repr(webhook)
    assert "t0ken" not in repr(webhook)
    assert notify.take_webhook(environ) is None


@pytest.mark.parametrize("url", [f"file:///{SECRET}", SECRET, f"https:///{SECRET}", f"http://[{SECRET}"])
def test_an_address_that_is_none_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(UserError) as caught:
        notify.take_webhook({notify.URL: url})
    assert "s3cr3t" not in str(caught.value)
    assert notify.URL in str(caught.value)
    with pytest.raises(UserError, match=r"teams.*json, slack"):
        notify.take_webhook({notify.URL: "https://x", notify.FORMAT: "teams"})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with listening(monkeypatch) as kept:
        yield kept


SAID = Notice(
    "suspect", 4, "Suspect: one case.", "small", "run-1",
    cases=(Case("two/fprop", "n1 c2 k3 8x8 f3x3", "suspect", 0.08, 1.08e6, None, "run-1", "torch 2.13 → 2.14"),), more=3,
)  # fmt: skip


def test_json_has_every_field(server: Server) -> None:
    assert notify.post(Webhook(server.url, token="t0ken"), SAID) == ""
    ((headers, body),) = server.got
    assert headers["Authorization"] == "Bearer t0ken"
    assert headers["Content-Type"] == "application/json"
    assert (body["schema"], body["level"], body["code"], body["run_id"]) == (1, "suspect", 4, "run-1")
    assert body["cases"][0]["cause"] == "torch 2.13 → 2.14"
    assert body["cases"][0]["baseline_ns"] is None


def test_slack_gets_its_blocks(server: Server) -> None:
    assert notify.post(Webhook(server.url, Format.SLACK), SAID) == ""
    ((headers, body),) = server.got
    assert "Authorization" not in headers
    assert body["text"] == "convbench: small suspect: Suspect: one case."
    assert [block["type"] for block in body["blocks"]] == ["header", "section", "context"]
    assert (
        "• suspect: two/fprop (n1 c2 k3 8x8 f3x3) +8.0 % (torch 2.13 → 2.14)\n• and 3 more" in body["blocks"][1]["text"]["text"]
    )


def test_a_long_message_fits_slack() -> None:
    many = replace(SAID, cases=SAID.cases * 200)
    text = notify.payload(many, Format.SLACK)["blocks"][1]["text"]["text"]
    assert len(text) <= 3000
    assert text.endswith("\n…")


def test_a_server_at_fault_is_tried_again_after_pauses(server: Server) -> None:
    slept: list[float] = []
    server.answers = [503, 429, 200]
    assert notify.post(Webhook(server.url), SAID, slept.append) == ""
    assert (len(server.got), slept) == (3, [2.0, 4.0])
    server.answers = [500]
    assert notify.post(Webhook(server.url), SAID, slept.append) == "HTTP status 500"
    assert len(server.got) == 6


@pytest.mark.parametrize("code", [400, 403, 404, 302, 307])
def test_what_is_refused_or_redirected_is_not_tried_again(server: Server, code: int) -> None:
    server.answers = [code]
    assert notify.post(Webhook(server.url, token="t0ken"), SAID, pytest.fail) == f"HTTP status {code}"
    assert len(server.got) == 1


def test_a_server_that_says_nothing_is_not_waited_for(server: Server) -> None:
    server.answers = [0]
    began = time.monotonic()
    why = notify.post(Webhook(server.url), SAID, lambda seconds: None, timeout_s=0.05)
    assert why == "no answer in time"
    assert time.monotonic() - began < 5


def test_why_it_failed_never_tells_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nobody = notify.post(Webhook(f"http://127.0.0.1:{port}/{SECRET}"), SAID, lambda seconds: None)
    assert nobody == "no connection"
    odd = notify.post(Webhook(f"http://127.0.0.1:{port}/{SECRET} x"), SAID, lambda seconds: None)
    assert odd != ""
    assert "s3cr3t" not in odd


def test_a_night_that_failed_says_so_in_one_line() -> None:
    said = notify.failed("small", ValueError("no\nsuch suite"), 2)
    assert (said.level, said.code, said.sentence) == ("error", 2, "The night failed: no such suite")
    assert notify.markdown(said).splitlines()[0] == "## convbench: small error"
