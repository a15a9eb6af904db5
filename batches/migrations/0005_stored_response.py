from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [("batches", "0004_api")]

    operations = [migrations.RenameModel("KeptAnswer", "StoredResponse")]
