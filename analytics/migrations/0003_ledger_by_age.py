"""Old ranges of the ledger are looked for each hour, among many that are not."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("analytics", "0002_books_of_boots")]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX usage_batch_shipped ON usage_batch (shipped_at)", "DROP INDEX usage_batch_shipped"
        )
    ]
