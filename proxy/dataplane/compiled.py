"""What every call passes through, as machine code where it was built: the same sources, translated by mypyc.

``proxy.build`` makes a build for one Python on one kind of machine, of the very sources that lie here; ``use`` has the
gateway's processes import from it. Without one, or after any source has changed, Python reads the sources as always:
nobody runs code other than what stands in these files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

VARIABLE: Final = "APIMGR_GATEWAY_COMPILED"
CHOICES: Final = ("auto", "require", "off")
ROOT: Final = Path(__file__).parents[2]
BUILDS: Final = ROOT / "build" / "gateway"
SUFFIX: Final = EXTENSION_SUFFIXES[0]  # says which Python on what machine
LIBRARY: Final = "apimgr_gateway"  # the one library that the modules of a build are doors to

# Everything that a usual call runs through, and nothing that a node needs once a second.
MODULES: Final = (
    "apimgr.contracts.credentials",
    "apimgr.contracts.usage",
    "proxy.dataplane.exchange",
    "proxy.dataplane.http.body",
    "proxy.dataplane.http.fields",
    "proxy.dataplane.http.malformed",
    "proxy.dataplane.http.path",
    "proxy.dataplane.http.pieces",
    "proxy.dataplane.http.problem",
    "proxy.dataplane.http.request",
    "proxy.dataplane.http.response",
    "proxy.dataplane.http.websocket",
    "proxy.dataplane.limits.asking",
    "proxy.dataplane.limits.earlier",
    "proxy.dataplane.limits.leased",
    "proxy.dataplane.limits.meter",
    "proxy.dataplane.limits.table",
    "proxy.dataplane.limits.windows",
    "proxy.dataplane.listener",
    "proxy.dataplane.policies.admit",
    "proxy.dataplane.policies.forwarding",
    "proxy.dataplane.policies.identify",
    "proxy.dataplane.policies.limit",
    "proxy.dataplane.policies.refusal",
    "proxy.dataplane.policies.select",
    "proxy.dataplane.policies.upgrade",
    "proxy.dataplane.rebuilt",
    "proxy.dataplane.records",
    "proxy.dataplane.replica.reader",
    "proxy.dataplane.request_ids",
    "proxy.dataplane.routing",
    "proxy.dataplane.runtime",
    "proxy.dataplane.stats",
    "proxy.dataplane.timers",
    "proxy.dataplane.trail",
    "proxy.dataplane.tunnel",
    "proxy.dataplane.upstreams.connection",
    "proxy.dataplane.upstreams.pool",
    "proxy.dataplane.usage.inflight",
    "proxy.dataplane.usage.mapped",
    "proxy.dataplane.usage.spool",
    "proxy.dataplane.worker",
)


class CannotUseBuild(ValueError):
    """The setting is wrong, or asks for a build that is not there; the message says what to do."""


def source_of(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def home() -> Path:
    """Where the build of these sources for this Python lies, or would."""
    # All of both planes' common ground: constants of modules that are not compiled are part of those that are.
    sources = [*ROOT.glob("apimgr/contracts/*.py"), *ROOT.glob("proxy/dataplane/**/*.py")]
    digest = sha256()
    for source in sorted(sources):
        content = source.read_bytes()
        digest.update(b"%b %d\n%b" % (os.fsencode(source.relative_to(ROOT)), len(content), content))
    return BUILDS / f"{digest.hexdigest()[:16]}{SUFFIX.removesuffix('.so')}"


def use(environ: Mapping[str, str] = os.environ) -> bool:
    """Import compiled modules from now on, if there are any that fit. Call it before they are imported.

    Raises ``CannotUseBuild``.
    """
    choice = environ.get(VARIABLE, "").strip() or "auto"
    if choice not in CHOICES:
        raise CannotUseBuild(f"{VARIABLE}={choice!r} is not one of {', '.join(CHOICES)}")
    if choice == "off":
        return False
    build = home()
    if not build.is_dir():
        if choice == "require":
            raise CannotUseBuild(f"{VARIABLE}=require, and the gateway is not compiled: run `make compiled`")
        return False
    if not is_in_use():
        sys.meta_path.insert(0, _Finder(build))
    return True


def is_in_use() -> bool:
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


class _Finder(MetaPathFinder):
    def __init__(self, build: Path) -> None:
        self._build = build
        self._library = f"{LIBRARY}__mypyc"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES and fullname != self._library:
            return None
        file = self._build.joinpath(*fullname.split(".")).with_suffix(SUFFIX)
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))
