from django.apps import AppConfig


class ProxyConfig(AppConfig):
    """The gateway's control half. ``proxy/__init__.py`` stays empty: the data plane imports from this package."""

    name = "proxy"

    def ready(self) -> None:
        from proxy import receivers, sentences  # noqa: F401  # registers them
