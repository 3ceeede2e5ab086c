"""``python -m pytest -p tests.compiled``: test the compiled gateway in this process, not the sources it was made of.

Its constants and methods are fixed when it is compiled, so a test that alters one of them is skipped here.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from proxy.dataplane import compiled

compiled.use({compiled.VARIABLE: "require"})
_set = pytest.MonkeyPatch.setattr


def pytest_configure(config: pytest.Config) -> None:
    # How coroutines that mypyc made hand on what is raised within them; from Python 3.12 on it is deprecated.
    config.addinivalue_line("filterwarnings", r"ignore:the \(type, exc, tb\) signature of throw:DeprecationWarning")


def _set_or_skip(patch: pytest.MonkeyPatch, target: Any, *arguments: Any, **options: Any) -> None:
    if isinstance(target, str):
        owner = target.rpartition(".")[0]
    elif isinstance(target, ModuleType):
        owner = target.__name__
    else:
        owner = getattr(target, "__module__", "")
    if owner in compiled.MODULES:
        pytest.skip(f"changes {owner}, which is compiled")
    _set(patch, target, *arguments, **options)


pytest.MonkeyPatch.setattr = _set_or_skip  # type: ignore[method-assign,assignment]
