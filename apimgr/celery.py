"""The Celery application. Tasks carry no data, only "go look" (docs/explanation/analytics.md)."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apimgr.settings")

app = Celery("apimgr")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
