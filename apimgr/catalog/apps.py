from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "apimgr.catalog"

    def ready(self) -> None:
        from apimgr.catalog import sentences  # noqa: F401  # registers them
