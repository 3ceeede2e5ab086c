from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "apimgr.accounts"

    def ready(self) -> None:
        from apimgr.accounts import sentences  # noqa: F401  # registers them
