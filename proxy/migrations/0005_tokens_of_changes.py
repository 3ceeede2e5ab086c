"""Changes of one number in two histories can be told apart. Rewrites the log, which compacting keeps short."""

from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("proxy", "0004_rejected_documents")]

    operations = [
        migrations.AddField(
            model_name="gatewaychange",
            name="token",
            field=models.UUIDField(db_default=RandomUUID(), editable=False),
        ),
    ]
