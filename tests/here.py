"""What this machine has to test with. CI has to have what can be installed; the rest is told at the end."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from proxy.dataplane import compiled

IS_CI = os.environ.get("CI", "").lower() in {"1", "true"}
NO_REDIS: Final = "neither redis-server nor valkey-server: `make test` installs one for root, else your system has it"
CORPORA: Final = Path(__file__).parents[2] / "shared" / "corpora"
_NOT_HERE: Final = "not on this machine: "
_FAULTS: Final = "tests/faults/test_faults.py::"
FAULTS_SECONDS: Final = 240  # of a run of the suite


def not_here(what: str) -> str:
    """The reason to skip a test for want of ``what``. Such reasons are summed up after the run."""
    return _NOT_HERE + what


def do_without(what: str) -> NoReturn:
    """End a test for want of a program that can be installed: on CI it fails."""
    if IS_CI:
        pytest.fail(f"CI has to run this test, and there is {what}")
    pytest.skip(not_here(what))


has_build = pytest.mark.skipif(
    not compiled.home().is_dir() and not IS_CI, reason=not_here("the compiled gateway: run `make compiled`")
)


def needs_corpus(name: str) -> pytest.MarkDecorator:
    """Documents and requests of others, which no clone brings along: skipped on CI as well."""
    return pytest.mark.skipif(not (CORPORA / name).is_dir(), reason=not_here(f"../shared/corpora/{name}"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    _sum_up_what_was_not_run(terminalreporter)
    _tell_how_long_faults_took(terminalreporter)


def _sum_up_what_was_not_run(terminalreporter: Any) -> None:
    # Of a skipped test it is its file, line and reason.
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ())]
    found = Counter(what for reason in reasons if (what := reason.partition(_NOT_HERE)[2]))
    if found:
        terminalreporter.section(f"{found.total()} TESTS WERE NOT RUN", sep="!", red=True, bold=True)
        for what, count in found.most_common():
            terminalreporter.line(f"{count:4} {what}", red=True)


def _tell_how_long_faults_took(terminalreporter: Any) -> None:
    """They run one after the other, in one process. Told and not judged: a busy machine fails nothing."""
    reports = [report for each in terminalreporter.stats.values() for report in each]
    took = sum(getattr(report, "duration", 0) for report in reports if _FAULTS in getattr(report, "nodeid", ""))
    if took:
        terminalreporter.line(
            f"The faults took {took:.0f} s; their schedule is chosen for {FAULTS_SECONDS} at the most."
        )
