from django.db import migrations

# Whoever reaches the database through the application can add to the trail, not rewrite it (security.md P12).
# TRUNCATE stays possible, for the owner of the table alone.
REFUSE = """
CREATE FUNCTION audit_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are only ever added';
END $$;
CREATE TRIGGER audit_entry_only_added BEFORE UPDATE OR DELETE ON audit_auditentry
    FOR EACH ROW EXECUTE FUNCTION audit_entry_refuse();
"""
ALLOW = "DROP TRIGGER audit_entry_only_added ON audit_auditentry; DROP FUNCTION audit_entry_refuse();"


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [migrations.RunSQL(REFUSE, ALLOW)]
