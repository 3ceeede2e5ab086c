"""The compiled gateway: that it is used when it fits and never else, and that it passes the tests of its sources."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from apimgr.env import BASE_DIR
from proxy import build
from proxy.dataplane import compiled
from proxy.models import GatewayNode
from tests.here import has_build
from tests.proxy.processes.conftest import Published
from tests.proxy.processes.node import TOKEN, running, wait_for

TESTED = (
    *sorted(str(path.relative_to(BASE_DIR)) for path in (BASE_DIR / "tests/proxy/dataplane").glob("test_*.py")),
    "tests/proxy/usage/test_spool.py",
    "tests/proxy/usage/test_inflight.py",
)
PARTS = 4  # each has a time of its own, and starts a pytest of its own
WHERE = "import proxy.dataplane.exchange as module; print(module.__file__)"


@pytest.fixture
def no_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compiled, "BUILDS", tmp_path / "builds")
    return tmp_path / "builds"


def test_without_a_build_python_reads_the_sources(no_builds: Path) -> None:
    assert not compiled.use({})
    assert not compiled.is_in_use()


def test_a_build_may_be_required(no_builds: Path) -> None:
    with pytest.raises(compiled.CannotUseBuild, match="run `make compiled`"):
        compiled.use({compiled.VARIABLE: "require"})


def test_a_choice_that_is_none(no_builds: Path) -> None:
    with pytest.raises(compiled.CannotUseBuild, match="not one of auto, require, off"):
        compiled.use({compiled.VARIABLE: "yes"})


@pytest.mark.parametrize("changed", ["proxy/dataplane/exchange.py", "apimgr/contracts/outcomes.py"])
def test_a_change_of_any_source_makes_a_build_unfit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    for name in ("proxy/dataplane/exchange.py", "proxy/dataplane/http/body.py", "apimgr/contracts/outcomes.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("A = 1\n")
    monkeypatch.setattr(compiled, "ROOT", tmp_path)
    before = compiled.home()
    assert compiled.home() == before
    (tmp_path / changed).write_text("A = 2\n")
    assert compiled.home() != before


def test_another_python_has_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiled.home()
    monkeypatch.setattr(compiled, "SUFFIX", ".cpython-399-x86_64-linux-gnu.so")
    assert compiled.home() != before


def test_every_module_is_there() -> None:
    for module in compiled.MODULES:
        assert compiled.source_of(module).is_file(), module


@pytest.mark.parametrize(("missing", "words"), [("CC", "no C compiler"), ("headers", "Python's headers are not here")])
def test_what_a_build_lacks_is_said(
    no_builds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str, words: str
) -> None:
    if missing == "CC":
        monkeypatch.setenv("CC", "no-such-compiler")
    else:
        monkeypatch.setenv("CC", sys.executable)  # something that exists
        monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    assert build.main([]) == 1
    assert words in capsys.readouterr().err
    assert build.main(["--if-possible"]) == 0
    assert "runs as Python" in capsys.readouterr().err
    assert not no_builds.exists()


def test_a_source_that_changes_meanwhile_is_no_build(no_builds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter("ab")
    monkeypatch.setattr(compiled, "home", lambda: no_builds / next(names))
    monkeypatch.setattr(build, "what_is_missing", lambda: "")
    monkeypatch.setattr(build, "_compile", lambda made, scratch: made.mkdir())
    with pytest.raises(build.CannotBuild, match="changed meanwhile"):
        build.build()
    assert list(no_builds.iterdir()) == []


@has_build
def test_modules_come_from_the_build_when_asked() -> None:
    def place(choice: str) -> Path:
        code = f"from proxy.dataplane import compiled; compiled.use(); {WHERE}"
        environment = {**os.environ, compiled.VARIABLE: choice}
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=True
        )
        return Path(run.stdout.strip())

    assert place("require").is_relative_to(compiled.home())
    assert place("off") == compiled.source_of("proxy.dataplane.exchange")


def test_what_needs_no_build_asks_for_none() -> None:
    """A key is made, and help given, where one is required and there is none."""
    environment = {**os.environ, compiled.VARIABLE: "require", "APIMGR_KEY_PEPPER": "p" * 32}
    code = (
        "import sys; from proxy.dataplane import __main__ as m, compiled; compiled.home = lambda: compiled.ROOT / 'no'"
    )
    for arguments, status, words in (
        (["new-key"], 0, "digest:"), (["help"], 2, "usage:"), ([], 2, "run `make compiled`"),
    ):  # fmt: skip
        run = subprocess.run(
            [sys.executable, "-c", f"{code}; sys.exit(m.main({arguments!r}))"],
            cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (run.returncode, words in run.stdout + run.stderr) == (status, True), run


@has_build
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_compiled_passes_the_tests_of_its_sources(part: int) -> None:
    """Those that alter constants aside, which it skips."""
    tested = TESTED[part::PARTS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.compiled", "-p", "no:cacheprovider", *tested]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    run = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("choice", "version"), [pytest.param("require", "0.1.0+compiled", marks=has_build), ("off", "0.1.0")]
)
def test_a_node_serves_either_way_and_says_which(
    published: Published, tmp_path: Path, choice: str, version: str
) -> None:
    """Other tests of nodes run what ``auto`` finds."""
    with running(tmp_path / "node", **{compiled.VARIABLE: choice}) as node:
        node.wait_ready()
        assert node.call("/echo/things/1", published.key)[:2] == (200, "/things/1")
        assert node.call("/echo/things/1")[0] == 401
        _, metrics = node.get("/metrics", Authorization=f"Bearer {TOKEN}")
        assert f'apimgr_gateway_build_info{{version="{version}"}} 1' in metrics
        wait_for(GatewayNode.objects.filter(software_version=version).exists)
    assert f"The gateway ({version}) listens" in node.log.read_text()
