import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0003_operations_are_found_by_words'),
        ('products', '0001_initial'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='limit',
            options={'ordering': [models.OrderBy(models.F('api_id'), nulls_first=True), models.OrderBy(models.F('operation_id'), nulls_first=True), '-kind', 'id']},
        ),
        migrations.RemoveConstraint(
            model_name='limit',
            name='limit_once_per_period',
        ),
        migrations.RemoveConstraint(
            model_name='limit',
            name='limit_period_fits_kind',
        ),
        migrations.AddField(
            model_name='limit',
            name='api',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='catalog.api'),
        ),
        migrations.AddField(
            model_name='limit',
            name='operation',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='catalog.operation'),
        ),
        migrations.AlterField(
            model_name='limit',
            name='kind',
            field=models.CharField(choices=[('rate', 'Rate limit'), ('quota', 'Quota'), ('concurrency', 'Calls at once')], max_length=12),
        ),
        migrations.AlterField(
            model_name='limit',
            name='period',
            field=models.CharField(choices=[('second', 'second'), ('minute', 'minute'), ('hour', 'hour'), ('day', 'day'), ('month', 'month'), ('billing', 'billing month'), ('none', 'at once')], max_length=8),
        ),
        migrations.AddConstraint(
            model_name='limit',
            constraint=models.UniqueConstraint(fields=('plan', 'kind', 'period', 'api', 'operation'), name='limit_once', nulls_distinct=False),
        ),
        migrations.AddConstraint(
            model_name='limit',
            constraint=models.CheckConstraint(condition=models.Q(('api', None), ('operation', None), _connector='OR'), name='limit_narrowed_once'),
        ),
        migrations.AddConstraint(
            model_name='limit',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'rate'), ('period__in', ['second', 'minute', 'hour', 'day'])), models.Q(('kind', 'quota'), ('period__in', ['day', 'month', 'billing'])), models.Q(('kind', 'concurrency'), ('period', 'none')), _connector='OR'), name='limit_period_fits_kind'),
        ),
    ]
