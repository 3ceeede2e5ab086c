"""Address to version, path and method to operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.dataplane.http.path import without_parameters
from proxy.dataplane.http.request import RequestHead
from proxy.dataplane.policies.refusal import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.runtime import Version


def find_operation(version: Version, path: bytes, head: RequestHead) -> int:
    """The operation's id, 0 for one the description does not know where the version lets those pass."""
    operation, allowed = version.trie.find(path, head.method)
    if b";" in path or b"%3B" in path:
        plain = without_parameters(path)
        if plain != path and version.trie.find(plain, head.method) != (operation, allowed):
            raise Refusal("bad_path", "Servers differ on what the path means with its parameters.")
    if operation or version.document.unknown_operation == "pass":
        return operation
    if allowed:
        raise Refusal("method_not_allowed", lines=b"Allow: " + b", ".join(allowed) + b"\r\n")
    raise Refusal("operation_not_found")


def check_body_size(version: Version, head: RequestHead) -> None:
    if head.body_length > version.document.max_body_bytes:
        raise too_large(version)


def too_large(version: Version) -> Refusal:
    return Refusal("body_too_large", f"The API accepts bodies of up to {version.document.max_body_bytes} bytes.")


def check_hops(head: RequestHead, pseudonym: bytes) -> None:
    """Refuse a call that has been here before."""
    if head.block.via and pseudonym in head.block.via.replace(b",", b" ").split():
        raise Refusal("loop_detected")
