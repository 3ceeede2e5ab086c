"""``python -m proxy.dataplane``: a gateway node. Its own children are the same program in the roles below.

Whatever may be compiled is imported late, when it is settled where from.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from proxy.dataplane import compiled
from proxy.dataplane.config import READY_VARIABLE, ImproperConfiguration, from_environment, key_pepper

_USAGE: Final = """usage: python -m proxy.dataplane, with its settings in the environment
       python -m proxy.dataplane check FILE        see whether a configuration file is good
       python -m proxy.dataplane new-key [PREFIX]  make a key, and the digest to write down for it"""
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    match arguments:
        case []:
            return _serve(_supervise)
        case ["agent", fd, parent]:
            return _serve(partial(_be_agent, int(fd), int(parent)))
        case ["worker", number, fd, parent]:
            return _serve(partial(_be_worker, int(number), int(fd), int(parent)))
        case ["check", path]:
            return _check(path)
        case ["new-key", *prefix] if len(prefix) <= 1:
            return _new_key(*prefix)
    print(_USAGE, file=sys.stderr)
    return 2


def _serve(role: Callable[[], int]) -> int:
    """Play a role in a node, compiled if that is to be had."""
    try:
        compiled.use()
    except compiled.CannotUseBuild as error:
        print(error, file=sys.stderr)
        return 2
    return role()


def _supervise() -> int:
    from proxy.dataplane.supervisor import CannotStart, Supervisor

    try:
        supervisor = Supervisor(from_environment())
    except (ImproperConfiguration, CannotStart) as error:
        print(error, file=sys.stderr)
        return 2
    return supervisor.run()


def _check(path: str) -> int:
    from proxy.dataplane.replica import declaration

    try:
        documents = declaration.read(Path(path))
    except declaration.InvalidDeclaration as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path} is good: {len(documents)} documents")
    return 0


def _new_key(prefix: str = "ak") -> int:
    from apimgr.contracts.credentials import digest_key, generate_key
    from proxy.dataplane.replica.declaration import DIGEST_PREFIX

    try:
        pepper = key_pepper(os.environ)
        key = generate_key(prefix).secret
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"key:    {key}\ndigest: {DIGEST_PREFIX}{digest_key(key.encode(), pepper).hex()}")
    return 0


def _be_agent(fd: int, parent: int) -> int:
    from proxy.dataplane import agent

    if _tie_to(parent):
        agent.run(from_environment(), socket.socket(fileno=fd), _ready_fd())
    return 0


def _be_worker(number: int, fd: int, parent: int) -> int:
    from proxy.dataplane import worker

    if _tie_to(parent):
        worker.run(from_environment(), number, [socket.socket(fileno=fd)], _ready_fd())
    return 0


def _ready_fd() -> int | None:
    given = os.environ.pop(READY_VARIABLE, None)
    return int(given) if given else None


def _tie_to(parent: int) -> bool:
    """Have the kernel stop us when the supervisor dies, however it dies. False if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
