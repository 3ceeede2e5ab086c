import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import apimgr.core.ids


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0004_upstream_max_connections'),
    ]

    operations = [
        migrations.CreateModel(
            name='GatewaySettings',
            fields=[
                ('id', models.BigIntegerField(default=apimgr.core.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('unknown_operation', models.CharField(choices=[('refuse', 'Refuse them (404)'), ('pass', 'Forward them')], default='refuse', max_length=6)),
                ('max_body_bytes', models.PositiveBigIntegerField(default=10485760, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1099511627776)])),
                ('upgrades', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=40), blank=True, default=list, size=None)),
                ('websocket_origins', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=300), blank=True, default=list, size=None)),
                ('tunnel_idle_ms', models.PositiveIntegerField(default=300000, validators=[django.core.validators.MinValueValidator(1000), django.core.validators.MaxValueValidator(86400000)])),
                ('max_message_bytes', models.PositiveIntegerField(default=1048576, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1073741824)])),
                ('version', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='gateway_settings', to='catalog.version')),
            ],
            options={
                'verbose_name_plural': 'gateway settings',
            },
        ),
    ]
