from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "apimgr.core"

    def ready(self) -> None:
        from apimgr.core import openapi  # noqa: F401  # registers how callers authenticate
