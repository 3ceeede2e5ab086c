import apimgr.core.ids
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0003_operations_are_found_by_words'),
        ('products', '0003_rules_of_a_plan'),
    ]

    operations = [
        migrations.CreateModel(
            name='ApiLimit',
            fields=[
                ('id', models.BigIntegerField(default=apimgr.core.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('kind', models.CharField(choices=[('rate', 'Rate limit'), ('quota', 'Quota'), ('concurrency', 'Calls at once')], max_length=12)),
                ('amount', models.PositiveBigIntegerField()),
                ('period', models.CharField(choices=[('second', 'second'), ('minute', 'minute'), ('hour', 'hour'), ('day', 'day'), ('month', 'month'), ('billing', 'billing month'), ('none', 'at once')], max_length=8)),
                ('api', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='limits', to='catalog.api')),
                ('operation', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='catalog.operation')),
            ],
            options={
                'ordering': [models.OrderBy(models.F('operation_id'), nulls_first=True), '-kind', 'id'],
                'constraints': [models.UniqueConstraint(fields=('api', 'kind', 'period', 'operation'), name='api_limit_once', nulls_distinct=False), models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='api_limit_amount_positive'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'rate'), ('period__in', ['second', 'minute', 'hour', 'day'])), models.Q(('kind', 'quota'), ('period__in', ['day', 'month'])), models.Q(('kind', 'concurrency'), ('period', 'none')), _connector='OR'), name='api_limit_period_fits_kind')],
            },
        ),
    ]
