from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0006_versions_at_one_address"),
    ]

    operations = [
        migrations.AddField(
            model_name="gatewaysettings",
            name="authentication",
            field=models.CharField(
                choices=[("key", "Callers with a key"), ("none", "Anybody, without a key")],
                db_default="key",
                default="key",
                max_length=4,
            ),
        ),
        migrations.AddField(
            model_name="gatewaysettings",
            name="when_unrecordable",
            field=models.CharField(
                choices=[("refuse", "Refuse them (503)"), ("pass", "Forward them, without a record")],
                db_default="refuse",
                default="refuse",
                max_length=6,
            ),
        ),
    ]
