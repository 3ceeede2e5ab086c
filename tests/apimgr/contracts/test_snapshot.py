from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimgr.contracts.snapshot import (
    FORMAT,
    KIND_OF,
    ApplicationDocument,
    CredentialDocument,
    Document,
    InvalidDocument,
    LimitDocument,
    OperationDocument,
    PlanDocument,
    RouteDocument,
    SubscriptionDocument,
    UpstreamDocument,
    VersionDocument,
    dump,
    load,
)

_ids = st.integers(1, 2**63 - 1)
_text = st.text(max_size=20)
_operations = st.builds(OperationDocument, id=_ids, method=st.sampled_from(["GET", "POST"]), path=_text)
_limits = st.builds(
    LimitDocument,
    id=_ids,
    kind=st.sampled_from(["rate", "quota"]),
    amount=st.integers(1, 10**9),
    period=st.sampled_from(["second", "minute", "hour", "day", "month"]),
)
_subscriptions = st.builds(
    SubscriptionDocument, id=_ids, product_id=_ids, plan_id=_ids, state=st.sampled_from(["active", "suspended"])
)


def tuples(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


documents: st.SearchStrategy[Document] = st.one_of(
    st.builds(RouteDocument, host=_text, base_path=_text, version_id=_ids),
    st.builds(
        VersionDocument,
        id=_ids,
        api_id=_ids,
        organisation_id=_ids,
        name=_text,
        state=st.sampled_from(["published", "deprecated", "retired"]),
        base_path=_text,
        upstream=st.builds(UpstreamDocument, url=_text),
        product_ids=tuples(_ids),
        operations=tuples(_operations),
        authentication=st.sampled_from(["key", "none"]),
    ),
    st.builds(PlanDocument, id=_ids, name=_text, limits=tuples(_limits)),
    st.builds(ApplicationDocument, id=_ids, organisation_id=_ids, name=_text, subscriptions=tuples(_subscriptions)),
    st.builds(CredentialDocument, id=_ids, application_id=_ids, digest=_text, test=st.booleans()),
)


@given(documents)
def test_what_is_dumped_is_loaded(document: Document) -> None:
    assert load(dump(document)) == document
    assert load(dump(document).decode()) == document


@given(documents)
def test_the_same_document_gives_the_same_bytes(document: Document) -> None:
    assert dump(document) == dump(load(dump(document))) == dump(replace(document))


@given(documents, st.data())
def test_a_missing_field_without_a_default_is_refused(document: Document, data: st.DataObject) -> None:
    body = json.loads(dump(document))
    name = data.draw(st.sampled_from([field.name for field in fields(document)]))
    del body[name]
    try:
        loaded = load(json.dumps(body))
    except InvalidDocument:
        return
    default = next(field.default for field in fields(document) if field.name == name)
    assert getattr(loaded, name) == default


@given(documents, st.text(min_size=1))
def test_an_unknown_field_is_refused(document: Document, name: str) -> None:
    body = json.loads(dump(document))
    if name in body:
        return
    with pytest.raises(InvalidDocument, match="unknown field"):
        load(json.dumps({**body, name: 1}))


@given(documents, st.data())
def test_a_value_of_another_type_is_refused(document: Document, data: st.DataObject) -> None:
    body = json.loads(dump(document))
    name = data.draw(st.sampled_from([field.name for field in fields(document)]))
    wrong = data.draw(st.sampled_from([None, 1.5, {"a": 1}, [["x"]]]))
    with pytest.raises(InvalidDocument):
        load(json.dumps({**body, name: wrong}))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff"])
def test_what_is_no_document_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidDocument):
        load(raw)


@pytest.mark.parametrize(
    "change", [{"format": FORMAT + 1}, {"format": None}, {"kind": "policy"}, {"id": True}, {"limits": [{"id": 1}]}]
)
def test_what_this_node_does_not_know_is_refused(change: dict[str, Any]) -> None:
    body = json.loads(dump(PlanDocument(id=1, name="Free")))
    with pytest.raises(InvalidDocument):
        load(json.dumps({**body, **change}))


def test_a_credential_keeps_its_digest_out_of_logs() -> None:
    assert "feed" not in repr(CredentialDocument(id=1, application_id=2, digest="feed"))


def test_every_document_is_frozen_and_has_a_kind() -> None:
    for cls in KIND_OF:
        assert is_dataclass(cls)
        assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
