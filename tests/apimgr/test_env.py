"""What an installation refuses to start with (security.md P17)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from apimgr import env
from apimgr.contracts.credentials import digest_key

GOOD = "0123456789abcdef" * 4


@pytest.mark.parametrize("value", ["short", GOOD + "x", "a" * 40, "é" * 40])
def test_a_pepper_that_cannot_be_one_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("APIMGR_KEY_PEPPER", value)
    with pytest.raises(env.ImproperEnvironment, match="APIMGR_KEY_PEPPER"):
        env.secret("APIMGR_KEY_PEPPER", maximum=64)


def test_every_pepper_that_is_taken_digests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("APIMGR_KEY_PEPPER", GOOD)
    assert digest_key(b"key", env.secret("APIMGR_KEY_PEPPER", maximum=64).encode())
    monkeypatch.delenv("APIMGR_KEY_PEPPER")
    monkeypatch.setenv("APIMGR_VAR", str(tmp_path))
    made = env.secret("APIMGR_KEY_PEPPER", maximum=64)
    assert digest_key(b"key", made.encode())
    assert made == env.secret("APIMGR_KEY_PEPPER", maximum=64)
    assert (tmp_path / "secrets" / "apimgr_key_pepper").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", ["8081", "host:", "host:http", "host:70000"])
def test_an_address_needs_its_port(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("APIMGR_GATEWAY_ADMIN_LISTEN", value)
    with pytest.raises(env.ImproperEnvironment, match="APIMGR_GATEWAY_ADMIN_LISTEN"):
        env.address("APIMGR_GATEWAY_ADMIN_LISTEN", "127.0.0.1:8081")


@pytest.mark.parametrize(
    ("web_url", "given", "named"),
    [
        ("https://apis.example", {"APIMGR_DEBUG": "1"}, "APIMGR_DEBUG"),
        ("https://apis.example", {"APIMGR_ALLOWED_HOSTS": "*"}, "APIMGR_ALLOWED_HOSTS"),
        ("https://apis.example", {"APIMGR_KEY_PEPPER": GOOD + "x"}, "APIMGR_KEY_PEPPER"),
        ("https://apis.example", {"APIMGR_SECRET_KEY": "changeme"}, "APIMGR_SECRET_KEY"),
        ("apis.example", {}, "APIMGR_WEB_URL"),
        ("https://apis.example", {"APIMGR_ALLOWED_HOSTS": "apis.example"}, ""),
        ("http://localhost:8000", {"APIMGR_DEBUG": "1"}, ""),
    ],
)
def test_settings_refuse_what_is_unsafe(tmp_path: Path, web_url: str, given: dict[str, str], named: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("APIMGR_")}
    environment |= {"APIMGR_VAR": str(tmp_path), "APIMGR_WEB_URL": web_url, **given}
    run = subprocess.run(
        [sys.executable, "-c", "import apimgr.settings"],
        cwd=env.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode != 0) == bool(named)
    if named:
        assert named in run.stderr.splitlines()[-1]
