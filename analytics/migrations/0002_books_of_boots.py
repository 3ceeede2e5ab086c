"""What kind each range of the ledger is, and how much of each boot is in the counts.

A gateway that does not know of kinds yet stores none: its ranges are calls, as all were.
"""

from django.db import migrations, models

FORWARDS = """
ALTER TABLE usage_batch ADD COLUMN kind smallint NOT NULL DEFAULT 0;
CREATE TABLE usage_boot (
    node text NOT NULL,
    boot bigint NOT NULL,
    stored bigint NOT NULL,
    cut_off bigint NOT NULL,
    quarantined bigint NOT NULL,
    set_aside_bytes bigint NOT NULL,
    rolled_up bigint NOT NULL,
    PRIMARY KEY (node, boot)
);
INSERT INTO usage_boot
SELECT node, boot, sum(events), 0, 0, coalesce(sum(to_offset - from_offset) FILTER (WHERE events = 0), 0), sum(events)
FROM usage_batch WHERE rolled_up_at IS NOT NULL GROUP BY node, boot;
"""
BACKWARDS = "DROP TABLE usage_boot; ALTER TABLE usage_batch DROP COLUMN kind;"


class Migration(migrations.Migration):
    dependencies = [("analytics", "0001_initial")]

    operations = [
        migrations.RunSQL(
            FORWARDS,
            BACKWARDS,
            state_operations=[
                migrations.AddField("usagebatch", "kind", models.SmallIntegerField(db_default=0, default=0)),
                migrations.CreateModel(
                    name="UsageBoot",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "node", "boot", blank=True, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("node", models.TextField()),
                        ("boot", models.BigIntegerField()),
                        ("stored", models.BigIntegerField()),
                        ("cut_off", models.BigIntegerField()),
                        ("quarantined", models.BigIntegerField()),
                        ("set_aside_bytes", models.BigIntegerField()),
                        ("rolled_up", models.BigIntegerField()),
                    ],
                    options={"db_table": "usage_boot"},
                ),
            ],
        )
    ]
