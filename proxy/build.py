"""``python -m proxy.build``: translate what every call passes through into machine code (``dataplane.compiled``).

Needs what ``requirements-build.txt`` holds, a C compiler and Python's headers. ``--if-possible``: where those are
missing, say so and succeed, for the gateway runs without.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from proxy.dataplane import compiled

_FLAGS: Final = ("--config-file=", "--strict", "--follow-imports=silent", "--ignore-missing-imports")


class CannotBuild(Exception):
    """The message says what is missing or wrong."""


def what_is_missing() -> str:
    """What a build needs and this machine has not; empty if it has all."""
    compiler = shlex.split(os.environ.get("CC", "") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}; Debian: apt install gcc libc6-dev)"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers are not here (Debian: apt install python3-dev)"
    return ""


def build() -> Path:
    """Make the build of the sources as they are, unless it is there. Returns its folder.

    Raises ``CannotBuild``, and leaves nothing half made.
    """
    home = compiled.home()
    if home.is_dir():
        return home
    missing = what_is_missing()
    if missing:
        raise CannotBuild(missing)
    compiled.BUILDS.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=compiled.BUILDS, prefix=".making-") as scratch:
        made = Path(scratch, "made")
        _compile(made, Path(scratch))
        if compiled.home() != home:
            raise CannotBuild("a source changed meanwhile; run it again")
        # A build appears whole, and those of earlier sources go: nothing would ever use them.
        made.replace(home)
    for other in compiled.BUILDS.iterdir():
        if other != home and other.name.endswith(home.suffix):
            shutil.rmtree(other, ignore_errors=True)
    return home


def _compile(made: Path, scratch: Path) -> None:
    from mypyc.build import mypycify  # only where there is something to build
    from setuptools import setup

    sources = [str(compiled.source_of(module).relative_to(compiled.ROOT)) for module in compiled.MODULES]
    os.chdir(compiled.ROOT)  # by their paths from here mypyc knows what modules are called
    told = StringIO()  # remarks on style, unless it fails
    try:
        with redirect_stdout(told):
            setup(
                name=compiled.LIBRARY,
                packages=[],
                py_modules=[],
                ext_modules=mypycify(
                    [*_FLAGS, f"--cache-dir={scratch / 'cache'}", *sources],
                    group_name=compiled.LIBRARY,
                    target_dir=str(scratch / "c"),
                ),
                script_args=["--quiet", "build_ext", f"--build-lib={made}", f"--build-temp={scratch / 'objects'}"],
            )
    except SystemExit as error:  # how both say that they have failed
        raise CannotBuild(f"it did not compile ({error}).\n{told.getvalue()}") from None


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--if-possible"]):
        print("usage: python -m proxy.build [--if-possible]", file=sys.stderr)
        return 2
    try:
        print(f"The gateway is compiled: {build().relative_to(compiled.ROOT)}")
    except CannotBuild as error:
        print(f"The gateway is not compiled, and runs as Python: {error}", file=sys.stderr)
        return 0 if arguments and what_is_missing() else 1  # what does not compile is always wrong
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
