"""The settings of a project that has everything unusual at once."""

from .plain import *  # noqa: F403
from .plain import DATABASES, INSTALLED_APPS, MIDDLEWARE, dj_database_url, os

INSTALLED_APPS += ["batches.tests.hosts.people"]
AUTH_USER_MODEL = "people.Person"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES["default"]["ATOMIC_REQUESTS"] = True
DATABASES["other"] = dj_database_url.parse(os.environ["OTHER_DATABASE_URL"]) | {"ATOMIC_REQUESTS": True}
DATABASE_ROUTERS = ["batches.tests.hosts.routers.NotesElsewhere"]

MIDDLEWARE += ["batches.web.middleware.DatabaseOutageMiddleware"]
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "batches.web.uploads.TemporaryListHandler",
]

FORCE_SCRIPT_NAME = "/host"
STATIC_URL = "/host/static/"
LANGUAGE_CODE = "de"
LOCALE_PATHS = [os.environ.get("CATALOGUE", "")]  # without make, the catalogue of the code is not compiled
USE_THOUSAND_SEPARATOR = True
TIME_ZONE = "Asia/Kathmandu"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_THROTTLE_CLASSES": [],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
    "DEFAULT_FILTER_BACKENDS": ["rest_framework.filters.SearchFilter"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 1,
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "DEFAULT_VERSION": "2000-01-01",
    "ALLOWED_VERSIONS": ["2000-01-01"],
    "DEFAULT_SCHEMA_CLASS": "rest_framework.schemas.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "batches.tests.hosts.urls.hide_errors",
    "UNAUTHENTICATED_USER": None,
    "NON_FIELD_ERRORS_KEY": "__all__",
    "DATETIME_FORMAT": "%d.%m.%Y",
    "COMPACT_JSON": False,
    "UNICODE_JSON": False,
    "STRICT_JSON": False,
}
