from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("portal", "0005_leak_notices"),
    ]

    operations = [
        migrations.AddField(
            model_name="credential",
            name="leaked_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
