import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0002_upstreams_with_one_word_hosts'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='operation',
            index=django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.search.SearchVector(models.Func(django.db.models.functions.text.Concat(models.F('path'), models.Value(' '), models.F('summary'), models.Value(' '), models.F('operation_id'), output_field=models.TextField()), models.Value('[^[:alnum:]]+'), models.Value(' '), models.Value('g'), function='regexp_replace', output_field=models.TextField()), config='english'), name='operation_words'),
        ),
    ]
