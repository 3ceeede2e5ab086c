from django.db import migrations, models
from django.db.migrations.state import StateApps
from django.db.models.functions import Coalesce


def begin(apps: StateApps, schema_editor: object) -> None:
    """For subscriptions that are there already, from the last decision on; nothing counted by billing months yet."""
    counting = apps.get_model("portal", "Subscription").objects.filter(state__in=["active", "suspended"])
    counting.update(billing_from=Coalesce("decided_at", "created_at"))


class Migration(migrations.Migration):
    dependencies = [
        ("portal", "0002_former_secret"),
    ]

    operations = [
        migrations.AddField(
            model_name="subscription",
            name="billing_from",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunPython(begin, migrations.RunPython.noop),
    ]
