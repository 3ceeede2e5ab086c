import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import apimgr.core.ids


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("portal", "0004_counts_as"),
    ]

    operations = [
        migrations.CreateModel(
            name="LeakNotice",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        default=apimgr.core.ids.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("secret", models.CharField(max_length=40)),
                ("was_former", models.BooleanField()),
                ("found_at", models.CharField(blank=True, max_length=500)),
                (
                    "credential",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="portal.credential"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={"abstract": False},
        ),
    ]
