from django.apps import AppConfig


class PlatformConfig(AppConfig):
    """The composition root: management commands of the whole project live here."""

    name = "apimgr"
    label = "platform"
