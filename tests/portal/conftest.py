from __future__ import annotations

import pytest
from django.test import Client

from apimgr.accounts.models import Organisation, User
from apimgr.catalog.models import API, Version
from apimgr.products.models import Plan
from portal import services
from portal.models import Application
from tests.factories import make_api, make_plan, make_product, make_version


@pytest.fixture
def api(acme: Organisation) -> API:
    return make_api(acme, "Orders", summary="Orders and parcels", description="Where is **my parcel**?")


@pytest.fixture
def version(api: API) -> Version:
    return make_version(api)


@pytest.fixture
def plan(version: Version) -> Plan:
    return make_plan(make_product(version))


@pytest.fixture
def gold(plan: Plan) -> Plan:
    return make_plan(plan.product, "Gold", ("rate", 600, "minute"), requires_approval=True)


@pytest.fixture
def application(dev: User, builders: Organisation) -> Application:
    return services.create_application(actor=dev, organisation=builders, name="Shop")


@pytest.fixture
def as_olga(client: Client, olga: User) -> Client:
    client.force_login(olga)
    return client


@pytest.fixture
def as_dev(client: Client, dev: User) -> Client:
    client.force_login(dev)
    return client
