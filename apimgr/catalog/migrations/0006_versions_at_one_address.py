import django.db.models.deletion
from django.db import migrations, models

import apimgr.core.ids


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0005_gateway_settings'),
    ]

    operations = [
        migrations.AddField(
            model_name='version',
            name='selector',
            field=models.CharField(blank=True, db_default='', default='', max_length=40),
        ),
        migrations.CreateModel(
            name='Selection',
            fields=[
                ('id', models.BigIntegerField(default=apimgr.core.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('select_by', models.CharField(choices=[('header', 'Header field'), ('query', 'Query parameter')], max_length=6)),
                ('name', models.CharField(max_length=60)),
                ('host', models.CharField(blank=True, default='', max_length=253)),
                ('base_path', models.CharField(max_length=200)),
                ('api', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='selections', to='catalog.api')),
                ('default_version', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='catalog.version')),
            ],
        ),
        migrations.AddField(
            model_name='api',
            name='selection',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='in_force_for', to='catalog.selection'),
        ),
        migrations.AddConstraint(
            model_name='selection',
            constraint=models.UniqueConstraint(fields=('api', 'host', 'base_path'), name='selection_once_per_address'),
        ),
    ]
