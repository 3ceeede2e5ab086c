"""Up to where the log may lack removals: who has read less reads all anew."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("proxy", "0005_tokens_of_changes")]

    operations = [
        migrations.AddField(
            model_name="changecounter",
            name="whole_since",
            field=models.BigIntegerField(db_default=0, default=0),
        ),
    ]
