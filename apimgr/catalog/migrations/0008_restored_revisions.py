import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0007_open_and_unrecorded_calls"),
    ]

    operations = [
        migrations.AddField(
            model_name="revision",
            name="restored_from",
            field=models.ForeignKey(
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="catalog.revision",
            ),
        ),
    ]
