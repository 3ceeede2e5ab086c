"""The compiled gateway in a process of its own, asked what it makes of the bytes that the sources are tried with.

``python -m tests.fuzz.twin`` is that process: on its standard input ``size:u32 name NUL bytes``, on its output
``size:u32 reading``, again and again.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from proxy.dataplane import compiled

_SIZE = struct.Struct("!I")


class Differs(AssertionError):
    """The message shows where the readings part."""


class Twin:
    """``with`` it, or it ends with this process. Needs a build that fits the sources (``compiled.home``)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.twin"],
            cwd=compiled.ROOT,
            env={**os.environ, compiled.VARIABLE: "require"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def reading(self, name: str, data: bytes) -> bytes:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _write(process.stdin, name.encode() + b"\0" + data)
            return _read(process.stdout)
        except (BrokenPipeError, EOFError):
            raise Differs(f"the compiled gateway died ({process.wait()}) of {data!r}") from None

    def compare(self, name: str, data: bytes) -> None:
        """Raises ``Differs`` unless the sources in this process read ``data`` in the same way."""
        from tests.fuzz.readings import reading

        ours, its = reading(name, data), self.reading(name, data)
        if ours != its:
            pairs = zip_longest(ours.split(b"\n"), its.split(b"\n"), fillvalue=b"")
            said, answered = next((one, other) for one, other in pairs if one != other)
            raise Differs(f"{name} of {data!r}\nsources:  {said!r}\ncompiled: {answered!r}")


def _write(stream: IO[bytes], message: bytes) -> None:
    stream.write(_SIZE.pack(len(message)) + message)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    """Raises ``EOFError``."""
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError
    return stream.read(_SIZE.unpack(head)[0])


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """To the end of the questions."""
    compiled.use()
    from proxy.dataplane.http import request
    from tests.fuzz.readings import reading

    assert Path(request.__file__).is_relative_to(compiled.home()), f"not compiled: {request.__file__}"
    while True:
        try:
            name, _, data = _read(questions).partition(b"\0")
        except EOFError:
            return
        _write(answers, reading(name.decode(), data))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
