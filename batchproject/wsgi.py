"""The web application, for any WSGI server. docs/operations/deploy.md has the options of waitress."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchproject.settings")

application = get_wsgi_application()
