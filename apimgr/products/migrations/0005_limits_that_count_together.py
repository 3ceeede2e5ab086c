from django.db import migrations, models

# The first limit of each place goes on as it is. What others of its place have counted in this period is not added.
TOGETHER = """
UPDATE products_limit AS own SET counts_as = first.id
FROM products_plan AS plan, (
    SELECT min(other.id) AS id, product_id, kind, period, api_id, operation_id
    FROM products_limit AS other JOIN products_plan ON products_plan.id = other.plan_id
    GROUP BY product_id, kind, period, api_id, operation_id
) AS first
WHERE plan.id = own.plan_id AND first.id <> own.id
    AND (first.product_id, first.kind, first.period) = (plan.product_id, own.kind, own.period)
    AND first.api_id IS NOT DISTINCT FROM own.api_id AND first.operation_id IS NOT DISTINCT FROM own.operation_id
"""


class Migration(migrations.Migration):
    """Limits of one product's plans that are of one kind and period for the same calls count together."""

    dependencies = [
        ("products", "0004_limits_of_an_api"),
    ]

    operations = [
        migrations.AddField(
            model_name="limit",
            name="counts_as",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.RunSQL(TOGETHER, migrations.RunSQL.noop),
    ]
