import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0003_operations_are_found_by_words'),
    ]

    operations = [
        migrations.AddField(
            model_name='upstream',
            name='max_connections',
            field=models.PositiveIntegerField(db_default=256, default=256, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(65536)]),
        ),
        migrations.AlterField(
            model_name='upstream',
            name='connect_timeout_ms',
            field=models.PositiveIntegerField(default=5000, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(600000)]),
        ),
        migrations.AlterField(
            model_name='upstream',
            name='read_timeout_ms',
            field=models.PositiveIntegerField(default=30000, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(3600000)]),
        ),
    ]
