"""The list of settings is the code's own: nothing is missing, nothing is made up."""

from __future__ import annotations

import re

from apimgr.env import BASE_DIR

# Set by one of our processes for another one; nobody gives them.
INTERNAL = {
    "APIMGR_GATEWAY_BOOT",
    "APIMGR_GATEWAY_HANDOVER",
    "APIMGR_GATEWAY_STATS_OFFSET",
    "APIMGR_GATEWAY_OWN_PORTS",
    "APIMGR_GATEWAY_READY_FD",
    "APIMGR_GATEWAY_SHARES_LIMITS",
    "APIMGR_CHROMIUM",
    "APIMGR_GATEWAY_ADMIN_URL",
    "APIMGR_UPSTREAM_URL",
}


def read_by_the_code() -> set[str]:
    sources = [
        path for package in ("apimgr", "portal", "analytics", "proxy") for path in (BASE_DIR / package).rglob("*.py")
    ]
    names = {name for path in sources for name in re.findall(r'"(APIMGR_[A-Z_]+)"', path.read_text())}
    return (names | {"DATABASE_URL", "REDIS_URL"}) - INTERNAL


def documented() -> set[str]:
    text = (BASE_DIR / "docs" / "reference" / "settings.md").read_text()
    return set(re.findall(r"^\| `([A-Z_]+)`", text, re.MULTILINE))


def test_every_setting_is_documented() -> None:
    assert documented() == read_by_the_code()


def test_the_example_names_known_settings() -> None:
    text = (BASE_DIR / ".env.example").read_text()
    given = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert set(given) - {"POSTGRES_PASSWORD"} <= documented()
    secrets = {name for name in given if name.endswith(("PASSWORD", "SECRET_KEY", "PEPPER", "TOKEN"))}
    assert not any(given[name] for name in secrets), "no default secrets"
