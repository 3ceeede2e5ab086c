"""What each node counted, boot by boot: closed books stay to be read."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("proxy", "0002_change_log_identity_and_receipts")]

    operations = [
        migrations.CreateModel(
            name="GatewayBoot",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "node", "boot", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("node", models.CharField(max_length=100)),
                ("boot", models.BigIntegerField()),
                ("software_version", models.CharField(max_length=40)),
                ("started_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("closed_at", models.DateTimeField(null=True)),
                ("generated", models.BigIntegerField()),
                ("spooled", models.BigIntegerField()),
                ("unrecorded", models.BigIntegerField()),
                ("acknowledged", models.BigIntegerField()),
            ],
        ),
    ]
