from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.core.mail import send_mail
from django.test import Client
from pytest_django import Settings

from apimgr.accounts.mailbox import newest

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.MAILBOX = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = tmp_path
    return tmp_path


def test_there_is_no_mailbox_outside_the_demo(client: Client) -> None:
    assert client.get("/mailbox/").status_code == 404


def test_an_empty_mailbox_says_so(client: Client, folder: Path) -> None:
    assert "No mail yet" in client.get("/mailbox/").content.decode()
    assert newest(folder / "missing") == []


def test_mail_is_shown_escaped_and_newest_first(client: Client, folder: Path) -> None:
    send_mail("The older one", "Grüße & <b>123456</b>", None, ["dev@example.com"])
    (older,) = folder.iterdir()
    os.utime(older, (0, 0))  # two files in one tick of the file system's clock would have no order
    send_mail("<script>alert(1)</script>", "Second", None, ["dev@example.com"])
    page = client.get("/mailbox/").content.decode()
    assert page.index("&lt;script&gt;alert(1)") < page.index("The older one")
    assert "Grüße &amp; &lt;b&gt;123456&lt;/b&gt;" in page
    assert "<script>alert" not in page


def test_it_renews_itself_by_a_fragment(client: Client, folder: Path) -> None:
    send_mail("Code", "123456", None, ["dev@example.com"])
    fragment = client.get("/mailbox/", headers={"HX-Request": "true"}).content.decode()
    assert "123456" in fragment
    assert "<html" not in fragment
