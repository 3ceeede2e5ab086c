"""CI is not green for want of what it could have; what it cannot have is told once, at the end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests import here, tools


def test_what_can_be_installed_has_to_be_there_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "IS_CI", False)
    with pytest.raises(pytest.skip.Exception, match="not on this machine: a thing"):
        here.do_without("a thing")
    monkeypatch.setattr(here, "IS_CI", True)
    with pytest.raises(pytest.fail.Exception, match="there is a thing"):
        here.do_without("a thing")


@pytest.mark.parametrize(("is_ci", "status"), [(False, 0), (True, 1)])
def test_what_is_lacking_is_told_before_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_ci: bool, status: int
) -> None:
    for name in ("ensure_redis", "ensure_compiler", "ensure_chromium"):
        monkeypatch.setattr(tools, name, lambda: False)
    monkeypatch.setattr(tools, "IS_CI", is_ci)
    assert tools.main() == status
    told = capsys.readouterr().err
    assert [word for word in ("redis-server", "compiled", "Chromium") if word not in told] == []
    for name in ("ensure_redis", "ensure_compiler", "ensure_chromium"):
        monkeypatch.setattr(tools, name, lambda: True)
    assert tools.main() == 0


def test_what_was_not_run_is_summed_up() -> None:
    told: list[str] = []

    def tell(what: str, **_: object) -> None:
        told.append(what)

    where = ("a.py", 7)
    reports = [
        SimpleNamespace(longrepr=(*where, f"Skipped: {here.not_here(what)}"))
        for what in ("leave to mount a file system", "it's gone", "leave to mount a file system")
    ]
    reports.append(SimpleNamespace(longrepr=(*where, "Skipped: only root can be somebody else")))
    here.pytest_terminal_summary(SimpleNamespace(stats={"skipped": reports}, section=tell, line=tell))
    assert told == ["3 TESTS WERE NOT RUN", "   2 leave to mount a file system", "   1 it's gone"]


def test_how_long_the_faults_took_is_told() -> None:
    told: list[str] = []
    reports = [
        SimpleNamespace(nodeid=f"tests/{where}::test_it", duration=2.5)
        for where in ("faults/test_faults.py", "faults/test_checker.py", "faults/test_faults.py")
    ]
    stats = {"": reports[:1], "passed": reports[1:], "deselected": [SimpleNamespace(nodeid=reports[0].nodeid)]}
    here.pytest_terminal_summary(SimpleNamespace(stats=stats, line=told.append))
    assert told == ["The faults took 5 s; their schedule is chosen for 240 at the most."]
