"""The environment, read once: every setting an operator can give, with its default and its check.

``docs/reference/settings.md`` lists the same names; a test holds the two together.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from apimgr.contracts.addresses import EgressRules

BASE_DIR = Path(__file__).resolve().parent.parent


class ImproperEnvironment(RuntimeError):
    """A setting that is missing or wrong; the message says what to set."""


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, default).strip()


def flag(name: str, default: bool = False) -> bool:
    value = text(name).lower()
    if value in {"", "0", "false", "no", "off", "1", "true", "yes", "on"}:
        return default if value == "" else value in {"1", "true", "yes", "on"}
    raise ImproperEnvironment(f"{name}={value!r} is neither true nor false: use 1 or 0")


def number(name: str, default: int, *, minimum: int = 0, maximum: int = 2**31) -> int:
    value = text(name) or str(default)
    if not value.isascii() or not value.isdigit() or not minimum <= int(value) <= maximum:
        raise ImproperEnvironment(f"{name}={value!r} is not a whole number from {minimum} to {maximum}")
    return int(value)


def words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def networks(name: str) -> list[str]:
    """Hosts, addresses and networks, as ``EgressRules`` takes them."""
    try:
        EgressRules(words(name))
    except ValueError as error:
        raise ImproperEnvironment(f"{name}: {error}") from error
    return words(name)


def var_dir() -> Path:
    """Where a node without other orders keeps its state: database, replica, spool, secrets, mail."""
    return Path(text("APIMGR_VAR") or BASE_DIR / "var")


def address(name: str, default: str) -> tuple[str, int]:
    """``host:port``."""
    host, colon, port = text(name, default).rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise ImproperEnvironment(f"{name}={text(name, default)!r} is not host:port")
    return host.strip("[]"), int(port)


def url_address(url: str, port: int) -> tuple[str, int]:
    """Where ``url`` leads, with ``port`` when it names none."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or port


def secret(name: str, *, minimum: int = 32, maximum: int = 1024) -> str:
    """A secret from the environment, or one generated on first use and kept in ``var/secrets/``, readable by its owner.

    Never a default: an instance that is given none makes its own. Lengths are counted in bytes.
    """
    value = text(name)
    if value:
        if not minimum <= len(value.encode()) <= maximum:
            raise ImproperEnvironment(f"{name} must have {minimum} to {maximum} random characters")
        if len(set(value)) < 8:
            raise ImproperEnvironment(f"{name} is not random: give the output of `openssl rand -hex 32`")
        return value
    path = var_dir() / "secrets" / name.lower()
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    value = secrets.token_urlsafe(48)
    # O_EXCL: of two processes starting together one makes the secret, the other reads it.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(value)
    return value


def refuse_unsafe(*, web_url: str, debug: bool, allowed_hosts: list[str]) -> None:
    """Stop the start of an installation that others can reach with settings for trying things out (security.md P17)."""
    if not web_url.startswith(("http://", "https://")):
        raise ImproperEnvironment(f"APIMGR_WEB_URL={web_url!r} must start with http:// or https://")
    if not web_url.startswith("https://"):
        return
    if debug:
        raise ImproperEnvironment("APIMGR_DEBUG shows settings to visitors: unset it, since APIMGR_WEB_URL is https")
    if any("*" in host for host in allowed_hosts):
        raise ImproperEnvironment("APIMGR_ALLOWED_HOSTS must name its hosts, since APIMGR_WEB_URL is https")


def database_url() -> str:
    """``DATABASE_URL``, else the embedded PostgreSQL's own, which its start-up writes into ``var/postgres/``."""
    value = text("DATABASE_URL")
    if value:
        return value
    try:
        return (var_dir() / "postgres" / "database_url").read_text().strip()
    except FileNotFoundError:
        # Commands that need no database (makemigrations --check, the OpenAPI snapshot) must still run.
        return "postgres://nobody@127.0.0.1:1/no-database-url-and-no-embedded-postgres-running"
