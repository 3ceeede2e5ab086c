from django.db import migrations

# The database cache (settings.CACHES): sign-in limits live in it and so survive restarts (security.md P9).
CREATE = """
CREATE TABLE IF NOT EXISTS cache_entry (
    cache_key varchar(255) PRIMARY KEY,
    value text NOT NULL,
    expires timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS cache_entry_expires ON cache_entry (expires);
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_invitation")]

    operations = [migrations.RunSQL(CREATE, "DROP TABLE IF EXISTS cache_entry")]
