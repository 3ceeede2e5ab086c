"""What each node does not understand: no receipt is given for it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("proxy", "0003_books_of_boots")]

    operations = [
        migrations.CreateModel(
            name="RejectedDocument",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("node", models.CharField(max_length=100)),
                ("since", models.BigIntegerField()),
                ("kind", models.CharField(max_length=20)),
                ("key", models.CharField(max_length=500)),
                ("reason", models.TextField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("node", "kind", "key"), name="rejected_document_once")
                ],
            },
        ),
    ]
