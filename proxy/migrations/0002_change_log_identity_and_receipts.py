from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("proxy", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="changecounter",
            name="log_id",
            field=models.UUIDField(db_default=RandomUUID(), editable=False),
        ),
        migrations.CreateModel(
            name="AppliedChanges",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("node", models.CharField(max_length=100)),
                ("sequence", models.BigIntegerField()),
                ("applied_at", models.DateTimeField()),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=["node", "sequence"], name="applied_changes_once")],
            },
        ),
    ]
