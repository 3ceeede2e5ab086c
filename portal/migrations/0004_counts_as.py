import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Subscriptions there are already go on counting as themselves, so that no count is lost on the day of the change."""

    dependencies = [
        ("portal", "0003_billing_months"),
    ]

    operations = [
        migrations.AddField(
            model_name="subscription",
            name="counts_as",
            field=models.ForeignKey(
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.RESTRICT,
                related_name="+",
                to="portal.subscription",
            ),
        ),
    ]
