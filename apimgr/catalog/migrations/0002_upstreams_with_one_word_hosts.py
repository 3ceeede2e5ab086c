import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]

    operations = [
        migrations.AlterField(
            model_name="upstream",
            name="url",
            field=models.CharField(max_length=500),
        ),
        migrations.AlterField(
            model_name="version",
            name="specification",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="versions",
                to="catalog.specification",
            ),
        ),
        migrations.AlterField(
            model_name="version",
            name="deployed_revision",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="catalog.revision"
            ),
        ),
    ]
