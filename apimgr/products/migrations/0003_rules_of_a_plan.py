from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('products', '0002_every_kind_of_limit'),
    ]

    operations = [
        migrations.AddField(
            model_name='plan',
            name='counts_failures',
            field=models.BooleanField(db_default=True, default=True),
        ),
        migrations.AddField(
            model_name='plan',
            name='without_grantor',
            field=models.CharField(choices=[('open', 'Let calls through'), ('closed', 'Refuse calls')], db_default='open', default='open', max_length=8),
        ),
    ]
