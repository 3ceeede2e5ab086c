from django.apps import AppConfig


class ProductsConfig(AppConfig):
    name = "apimgr.products"

    def ready(self) -> None:
        from apimgr.products import receivers, sentences  # noqa: F401  # registers them
