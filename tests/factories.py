"""Rows for tests, made with the fewest words. Services are tested on what these make, never the other way round."""

from __future__ import annotations

import itertools
from typing import Any

from apimgr.accounts.models import Membership, Organisation, Role, User
from apimgr.catalog.models import API, Operation, Route, Specification, Upstream, Version, VersionState
from apimgr.products.models import Limit, Plan, Product

_numbers = itertools.count(1)


def make_user(name: str = "", **fields: Any) -> User:
    name = name or f"user{next(_numbers)}"
    return User.objects.create(email=f"{name}@example.com", name=name.title(), **fields)


def make_organisation(name: str = "", *, is_publisher: bool = True) -> Organisation:
    name = name or f"Organisation {next(_numbers)}"
    return Organisation.objects.create(name=name, slug=name.lower().replace(" ", "-"), is_publisher=is_publisher)


def make_member(user: User, organisation: Organisation, role: Role | str) -> Membership:
    return Membership.objects.create(user=user, organisation=organisation, role=role)


def make_api(organisation: Organisation, name: str = "", **fields: Any) -> API:
    name = name or f"API {next(_numbers)}"
    return API.objects.create(organisation=organisation, name=name, slug=name.lower().replace(" ", "-"), **fields)


def make_specification(api: API) -> Specification:
    document = {"openapi": "3.0.3", "info": {"title": api.name, "version": "1"}, "paths": {"/get": {"get": {}}}}
    return Specification.objects.create(
        api=api,
        source="paste",
        raw=b"{}",
        syntax="json",
        openapi_version="3.0.3",
        document=document,
        title=api.name,
        document_version="1",
        sha256="0" * 64,
        size_bytes=2,
    )


def make_version(api: API, name: str = "v1", *, state: str = VersionState.PUBLISHED, **fields: Any) -> Version:
    """A complete version with one operation, ``GET /get``, at ``/{api}/{name}``."""
    version = Version.objects.create(api=api, name=name, state=state, specification=make_specification(api), **fields)
    Operation.objects.create(version=version, method="GET", path="/get")
    Upstream.objects.create(version=version, url="http://8.8.8.8:8090")
    Route.objects.create(version=version, base_path=f"/{api.slug}/{name}")
    return version


def make_product(version: Version) -> Product:
    api = version.api
    product = Product.objects.create(organisation=api.organisation, name=api.name, slug=api.slug)
    product.versions.add(version)
    return product


def make_plan(product: Product, name: str = "Free", *limits: tuple[str, int, str], **fields: Any) -> Plan:
    plan = Plan.objects.create(product=product, name=name, slug=name.lower(), **fields)
    for kind, amount, period in limits or (("rate", 60, "minute"), ("quota", 10_000, "month")):
        Limit.objects.create(plan=plan, kind=kind, amount=amount, period=period)
    return plan
