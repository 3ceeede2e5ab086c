from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email

from apimgr.accounts.services import create_user
from apimgr.core.errors import DomainError


class Command(BaseCommand):
    help = "Create the first operator of this platform and print a password that is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True)
        parser.add_argument("--name", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        password = secrets.token_urlsafe(18)
        try:
            validate_email(options["email"])
            user = create_user(
                actor=None, email=options["email"], password=password, name=options["name"], is_operator=True
            )
        except ValidationError as error:
            raise CommandError(f"{options['email']!r} is not an e-mail address") from error
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Operator {user.email} created. Sign in at {settings.WEB_URL}/accounts/login/ with\n")
        self.stdout.write(f"  {password}\nand change it there: it is not shown again.\n")
