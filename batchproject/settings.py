"""Settings of the project. Environment variables set the values of an installation: see docs/reference/settings.md."""

import os
from importlib.util import find_spec
from typing import Any

import dj_database_url
import django
from django.core.exceptions import ImproperlyConfigured

from batches.conf import config_from_environment, config_from_mapping, install_command

from .environment import LEVELS, read_choice, read_list, read_number, read_switch, read_text, read_time_zone
from .installation import BASE_DIR, IS_CLONE, find_data_directory
from .installation import PROGRAM as PROGRAM
from .private_files import create_private_file
from .secret_key import load_secret_key

VAR_DIR = find_data_directory()

DEBUG = read_switch("DEBUG")
SECRET_KEY = load_secret_key(os.environ.get("SECRET_KEY", ""), VAR_DIR / "secret_key", allow_weak=DEBUG)
ALLOWED_HOSTS = read_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = read_list("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "batches",
    "batchproject.admin.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "batches.web.middleware.request_id",
    "batchproject.csp.content_security_policy",
    "batches.web.probes.ProbesMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "batchproject.logins.LoginThrottleMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "batches.web.middleware.DatabaseOutageMiddleware",
]

# No inline scripts or styles, none from other sites, and no form that posts to another site.
SECURE_CSP = {
    "default-src": ["'self'"],
    "img-src": ["'self'", "data:"],  # the style sheet of the API documentation contains its images
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}

# A proxy in front of this application terminates HTTPS and sets X-Forwarded-Proto.
HTTPS = read_switch("HTTPS")
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
# Off by default: browsers remember it for that long, for all subdomains, and nothing here can revoke it.
SECURE_HSTS_SECONDS = read_number("HSTS_SECONDS", 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_SECONDS > 0
# Requests a place in the lists of browsers, which takes months to undo.
SECURE_HSTS_PRELOAD = read_switch("HSTS_PRELOAD")
SILENCED_SYSTEM_CHECKS = ["security.W021"]  # recommends that for everybody

SESSION_ENGINE = "batchproject.sessions"

ROOT_URLCONF = "batchproject.urls"
WSGI_APPLICATION = "batchproject.wsgi.application"

CONTEXT_PROCESSORS = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "batchproject" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": CONTEXT_PROCESSORS},
    }
]

BATCHES = config_from_environment(os.environ)
# For BATCHES_EXECUTOR=celery: amqp://user:password@host:5672/name or redis://:password@host:6379/0
CELERY_BROKER_URL = read_text("CELERY_BROKER_URL")

# BEGIN IMMEDIATE takes SQLite's write lock at the start. Otherwise two transactions can both read, both try to write,
# and fail with "database is locked". WAL lets readers continue during a write. A checkpoint every 8,000 pages (32 MB)
# instead of every 1,000 makes recording 10 % faster. A log that grew larger, beside a long reader or in a large
# transaction, shrinks to 64 MB at the next checkpoint.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-20000; "
    "PRAGMA wal_autocheckpoint=8000; PRAGMA journal_size_limit=67108864;",
}

# Every wait has a timeout. Locks have the same as on SQLite. A client that goes idle within a transaction (a frozen
# machine) loses its connection and its locks when its lease expires: the next worker can then take over. The
# longest statement, recounting millions of rows, takes seconds. A dead network is noticed within a minute.
# `?options=…` and similar parameters in DATABASE_URL override these.
IDLE_MS = min(max(1, round(config_from_mapping(BATCHES).lease_seconds * 1000)), 2**31 - 1)  # its largest value
POSTGRESQL_OPTIONS = {
    "options": f"-c lock_timeout=20s -c idle_in_transaction_session_timeout={IDLE_MS}ms -c statement_timeout=600s",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def parse_database_url(url: str, *, pooled: bool = False) -> dict[str, Any]:
    """Parse sqlite:///path or postgres://user:password@host:port/name. `pooled`: through a transaction pool."""
    try:
        settings: dict[str, Any] = {**dj_database_url.parse(url, conn_max_age=600, conn_health_checks=True)}
    except (ValueError, dj_database_url.ParseError) as error:
        raise ImproperlyConfigured(f"DATABASE_URL is not valid: {error}") from error
    defaults = {"django.db.backends.sqlite3": SQLITE_OPTIONS, "django.db.backends.postgresql": POSTGRESQL_OPTIONS}
    settings["OPTIONS"] = defaults.get(settings["ENGINE"], {}) | settings.get("OPTIONS", {})
    if settings["ENGINE"] == "django.db.backends.postgresql" and find_spec("psycopg") is None:
        install = "python -m pip install -r requirements.txt" if IS_CLONE else install_command("postgres")
        raise ImproperlyConfigured(f"PostgreSQL needs the package psycopg. Run: {install}")
    if pooled:  # a pool refuses such parameters, and the next query may meet another connection
        settings["OPTIONS"].pop("options", None)
        settings["DISABLE_SERVER_SIDE_CURSORS"] = True
    return settings


#: The SQLite file of this installation, unless DATABASE_URL is set. The program `batches` creates the tables in it.
OWN_DATABASE = None
if not (DATABASE_URL := os.environ.get("DATABASE_URL", "")):
    OWN_DATABASE = create_private_file(VAR_DIR / "batches.sqlite3")
    DATABASE_URL = f"sqlite:///{OWN_DATABASE}"
DATABASES = {"default": parse_database_url(DATABASE_URL, pooled=read_switch("TRANSACTION_POOL"))}
# It counts requests and attempts to log in. With Django's 300 entries, strangers could displace the counts of others.
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}Validator"}
    for name in ("UserAttributeSimilarity", "MinimumLength", "CommonPassword", "NumericPassword")
]

# The mail server for the messages of subscriptions. The timeout is for each step: a server that scans a message for
# longer before it accepts it gets it again.
MAIL_SERVER = {
    "host": read_text("EMAIL_HOST", "localhost"),
    "port": read_number("EMAIL_PORT", 25),
    "username": read_text("EMAIL_HOST_USER"),
    "password": os.environ.get("EMAIL_HOST_PASSWORD", ""),
    "use_tls": read_switch("EMAIL_USE_TLS"),
    "use_ssl": read_switch("EMAIL_USE_SSL"),
    "timeout": 30,
}
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": MAIL_SERVER}}
else:
    EMAIL_HOST, EMAIL_PORT = MAIL_SERVER["host"], MAIL_SERVER["port"]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = MAIL_SERVER["username"], MAIL_SERVER["password"]
    EMAIL_USE_TLS, EMAIL_USE_SSL = MAIL_SERVER["use_tls"], MAIL_SERVER["use_ssl"]
    EMAIL_TIMEOUT = MAIL_SERVER["timeout"]
DEFAULT_FROM_EMAIL = read_text("DEFAULT_FROM_EMAIL", "batches@localhost")

# The admin speaks the language of the browser. The project's own pages are in the catalogue of the app: LOCALE_PATHS.
# German is offered if the catalogue is compiled, by make or in the package: otherwise only Django's texts would be
# German.
LANGUAGE_CODE = "en"
LOCALE_PATHS = [BASE_DIR / "batches" / "locale"]
LANGUAGES = [("en", "English")]
if (LOCALE_PATHS[0] / "de" / "LC_MESSAGES" / "django.mo").exists():
    LANGUAGES.append(("de", "Deutsch"))
# Django's own pages show times in the format of the app.
FORMAT_MODULE_PATH = "batchproject.formats"
TIME_ZONE = read_time_zone("TIME_ZONE", "UTC")

# The path of the site, for a proxy that removes it; `serve --url-prefix` sets it automatically.
FORCE_SCRIPT_NAME = read_text("FORCE_SCRIPT_NAME") or None

STATIC_URL = "static/"
# Otherwise whitenoise reads STATIC_URL at the start, and Django keeps that value, without the prefix of requests.
WHITENOISE_STATIC_PREFIX = "/static/"
WHITENOISE_IMMUTABLE_FILE_TEST = lambda path, url: False  # noqa: E731 — no file has a hash in its name
# For `collectstatic` only, if another web server serves the static files.
STATIC_ROOT = os.environ.get("STATIC_ROOT")
# Serves the apps' static files without `collectstatic`, even with DEBUG off.
WHITENOISE_USE_FINDERS = True

# Room for 100,000 addresses, pasted or in a JSON body. Longer lists are uploaded as a file, which is streamed.
DATA_UPLOAD_MAX_MEMORY_SIZE = 20_000_000
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "batches.web.uploads.TemporaryListHandler",
]

# The API's own settings belong to its views: see `batches.api.base` and `batches.api.docs`.
REST_FRAMEWORK = {"TEST_REQUEST_DEFAULT_FORMAT": "json"}
SPECTACULAR_SETTINGS = {"ENABLE_DJANGO_DEPLOY_CHECK": False}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "batchproject.logs.LineFormatter",
            "format": "{asctime} {levelname} {message}",
            "style": "{",
            "datefmt": "%Y-%m-%d %H:%M:%S",
        },
        "json": {"()": "batchproject.logs.JsonLineFormatter"},
    },
    "filters": {"context": {"()": "batches.log_context.ContextFilter"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": read_choice("LOG_FORMAT", "line", ("line", "json"), "log format"),
            "filters": ["context"],
        }
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        # We log one line for each; a traceback would be useless.
        "django.security.NoRoom": {"level": "CRITICAL"},
        "django.security.RequestDataTooBig": {"level": "CRITICAL"},
        "batches": {"level": read_choice("LOG_LEVEL", "INFO", LEVELS, "log level")},
        "waitress": {"level": "INFO"},
    },
}
