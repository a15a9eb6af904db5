from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('batches', '0007_access_tokens'),
    ]

    operations = [
        migrations.AddField(
            model_name='batch',
            name='worker',
            field=models.CharField(blank=True, editable=False, max_length=150, null=True),
        ),
    ]
