"""See to it that the programs tests can use are here: Chromium, Redis, a C compiler. ``make test`` runs this first.

As root on Debian their packages are installed; otherwise Playwright's Chromium. What cannot be had is said aloud, and
CI ends there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from proxy.build import what_is_missing
from tests.here import IS_CI, NO_REDIS

IS_ROOT = os.geteuid() == 0


def apt_install(package: str, *more: str) -> bool:
    """``package`` is called as its program is."""
    apt = shutil.which("apt-get")
    if not IS_ROOT or apt is None:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = [apt, "install", "-y", "-qq", "--no-install-recommends", package, *more]
    # A first attempt without `update`: in most images the lists are either fresh or absent.
    return any(
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
        and shutil.which(package) is not None
        for command in (install, ["sh", "-c", f"{apt} update -qq && {' '.join(install)}"])
    )


def has_chromium() -> bool:
    from playwright.sync_api import sync_playwright

    names = (os.environ.get("APIMGR_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    if any(shutil.which(name) for name in names if name):
        return True
    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path).exists()


def ensure_chromium() -> bool:
    if has_chromium():
        return True
    print("Installing Chromium for the browser tests", flush=True)
    if apt_install("chromium"):
        return True
    # --with-deps needs root; without it Playwright's own build may lack libraries, which the first launch would tell.
    command = [sys.executable, "-m", "playwright", "install", *(["--with-deps"] if IS_ROOT else []), "chromium"]
    return subprocess.run(command, check=False).returncode == 0 and has_chromium()


def ensure_redis() -> bool:
    return any(map(shutil.which, ("redis-server", "valkey-server"))) or apt_install("redis-server")


def ensure_compiler() -> bool:
    return not what_is_missing() or (apt_install("gcc", "libc6-dev", "python3-dev") and not what_is_missing())


def what_is_lacking() -> list[str]:
    """What is not here and cannot be had, and what that means, a sentence each."""
    lacking = []
    if not ensure_redis():
        lacking.append(f"There is {NO_REDIS}. Tests of limits that hosts share cannot run.")
    if not ensure_compiler():
        lacking.append(f"The compiled gateway cannot be tested: {what_is_missing()}")
    if not ensure_chromium():
        lacking.append(
            "There is no Chromium: install it, or set APIMGR_CHROMIUM to its path. Browser tests cannot run."
        )
    return lacking


def main() -> int:
    """On CI nothing may be lacking: it would be green without a part of the proof."""
    lacking = what_is_lacking()
    for sentence in lacking:
        print(f"!!! {sentence}", file=sys.stderr)
    return 1 if lacking and IS_CI else 0


if __name__ == "__main__":
    sys.exit(main())
