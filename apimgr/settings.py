"""Settings, all of them: one file, driven by the environment (``apimgr.env``)."""

from __future__ import annotations

from typing import Any

import dj_database_url

from apimgr import env

BASE_DIR = env.BASE_DIR
VAR_DIR = env.var_dir()

DEBUG = env.flag("APIMGR_DEBUG")
SECRET_KEY = env.secret("APIMGR_SECRET_KEY")
ALLOWED_HOSTS = env.words("APIMGR_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
WEB_URL = env.text("APIMGR_WEB_URL", "http://localhost:8000").rstrip("/")
CSRF_TRUSTED_ORIGINS = [WEB_URL]
env.refuse_unsafe(web_url=WEB_URL, debug=DEBUG, allowed_hosts=ALLOWED_HOSTS)

# --- The gateway as callers see it ----------------------------------------------------------------------------------
GATEWAY_URL = env.text("APIMGR_GATEWAY_URL", "http://localhost:8080").rstrip("/")
# Mixed into every key's digest, so that a stolen database cannot even confirm a guess (security.md K4).
KEY_PEPPER = env.secret("APIMGR_KEY_PEPPER", maximum=64).encode()  # the longest key BLAKE2b takes
KEY_PREFIX = env.text("APIMGR_KEY_PREFIX", "ak")
# Hosts or networks that imports and upstream tests may reach although they are not public (security.md R2).
EGRESS_ALLOW = env.networks("APIMGR_EGRESS_ALLOW")

# --- Apps ---------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "apimgr.apps.PlatformConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.usersessions",
    "django_cotton",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "csp",
    "apimgr.core",
    "apimgr.audit",
    "apimgr.accounts",
    "apimgr.catalog",
    "apimgr.products",
    "portal",
    "analytics",
    "proxy.apps.ProxyConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "apimgr.core.middleware.RequestIdMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apimgr.core.middleware.SessionAgeMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "apimgr.accounts.middleware.UserSessionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "apimgr.core.middleware.DomainErrorMiddleware",
    "apimgr.core.middleware.NulMiddleware",
]

ROOT_URLCONF = "apimgr.urls"
WSGI_APPLICATION = "apimgr.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    [
                        "django_cotton.cotton_loader.Loader",
                        "django.template.loaders.filesystem.Loader",
                        "django.template.loaders.app_directories.Loader",
                    ],
                )
            ],
            "builtins": ["django_cotton.templatetags.cotton", "apimgr.core.templatetags.ui"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.i18n",
                "apimgr.core.context.shell",
            ],
        },
    }
]
COTTON_DIR = "components"

# --- Data ---------------------------------------------------------------------------------------------------------
DATABASES = {"default": {**dj_database_url.parse(env.database_url(), conn_max_age=60, conn_health_checks=True)}}
REDIS_URL = env.text("REDIS_URL")
# What no allow-list opens: a published API must not lead to the admin port, to the data or round in a circle (H21).
EGRESS_NEVER = [
    env.address("APIMGR_GATEWAY_ADMIN_LISTEN", "127.0.0.1:8081"),
    env.address("APIMGR_GATEWAY_LISTEN", "127.0.0.1:8080"),
    env.url_address(env.database_url(), 5432),
    *([env.url_address(REDIS_URL, 6379)] if REDIS_URL else []),
]
# Limits on signing in live in the cache and must survive a restart, so without Redis it is a table. Counting REST
# calls is worth no write per call: without Redis each web process counts its own.
_REDIS = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
CACHES = {
    "default": _REDIS
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache_entry"},
    "throttle": _REDIS if REDIS_URL else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}
# How long usage is kept, in days, per kind of table (analytics.partitions); counts per day are kept for ever.
USAGE_RETENTION_DAYS = {
    "event": env.number("APIMGR_USAGE_EVENT_DAYS", 30, minimum=1),
    "minute": env.number("APIMGR_USAGE_MINUTE_DAYS", 14, minimum=2),
    "hour": env.number("APIMGR_USAGE_HOUR_DAYS", 760, minimum=32),
}

# Days after which a gateway node that was not heard, and of which no call is outstanding, is known no more.
GATEWAY_NODE_DAYS = env.number("APIMGR_GATEWAY_NODE_DAYS", 30, minimum=1)

# --- Accounts -----------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_PASSWORD_RESET_BY_CODE_ENABLED = True
ACCOUNT_PASSWORD_RESET_BY_CODE_TIMEOUT = 15 * 60
ALLAUTH_USER_CODE_FORMAT = {"numeric": True, "dashed": False, "length": 6}
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "apimgr.accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    "login": "apimgr.accounts.forms.entrance.LoginForm",
    "signup": "apimgr.accounts.forms.entrance.SignupForm",
    "reset_password": "apimgr.accounts.forms.entrance.ResetPasswordForm",
    "reset_password_from_key": "apimgr.accounts.forms.entrance.NewPasswordForm",
    "change_password": "apimgr.accounts.forms.entrance.ChangePasswordForm",
    "set_password": "apimgr.accounts.forms.entrance.SetPasswordForm",
    "reauthenticate": "apimgr.accounts.forms.entrance.ReauthenticateForm",
    "confirm_email_verification_code": "apimgr.accounts.forms.entrance.EmailCodeForm",
    "confirm_password_reset_code": "apimgr.accounts.forms.entrance.ResetCodeForm",
}
ALLAUTH_TRUSTED_PROXY_COUNT = env.number("APIMGR_TRUSTED_PROXIES", 0)  # whose X-Forwarded-For counts, for limits
USERSESSIONS_TRACK_ACTIVITY = True
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"

# --- Security -----------------------------------------------------------------------------------------------------
_HTTPS = WEB_URL.startswith("https://")
SESSION_COOKIE_NAME = "__Host-session" if _HTTPS else "session"
CSRF_COOKIE_NAME = "__Host-csrf" if _HTTPS else "csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _HTTPS
SESSION_COOKIE_AGE = 7 * 24 * 3600
SESSION_IDLE_SECONDS = 12 * 3600  # core.middleware.SessionAgeMiddleware ends a session by these two
SESSION_ABSOLUTE_SECONDS = SESSION_COOKIE_AGE
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "apimgr.core.views.csrf_failure"
SECURE_SSL_REDIRECT = False  # The edge in front redirects; health checks stay plain.
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if _HTTPS else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}

# --- Pages --------------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = env.text("APIMGR_STATIC_ROOT") or VAR_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "django.contrib.staticfiles.storage.StaticFilesStorage"
            if DEBUG
            else "apimgr.staticfiles.StaticFilesStorage"
        )
    },
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 22 * 1024 * 1024  # A pasted specification may reach 20 MiB.
FILE_UPLOAD_MAX_MEMORY_SIZE = 22 * 1024 * 1024

# --- E-mail -------------------------------------------------------------------------------------------------------
# `APIMGR_MAILBOX=1` keeps mail in `var/mail` and shows it at /mailbox/: for the demo and for trying things out.
MAILBOX = env.flag("APIMGR_MAILBOX")
EMAIL_BACKEND = f"django.core.mail.backends.{'filebased' if MAILBOX else 'smtp'}.EmailBackend"
EMAIL_FILE_PATH = VAR_DIR / "mail"
EMAIL_HOST = env.text("APIMGR_EMAIL_HOST", "localhost")
EMAIL_PORT = env.number("APIMGR_EMAIL_PORT", 25)
EMAIL_HOST_USER = env.text("APIMGR_EMAIL_USER")
EMAIL_HOST_PASSWORD = env.text("APIMGR_EMAIL_PASSWORD")
EMAIL_USE_TLS = env.flag("APIMGR_EMAIL_TLS")
DEFAULT_FROM_EMAIL = env.text("APIMGR_EMAIL_FROM", "apimgr@localhost")

# --- REST ---------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apimgr.accounts.rest.ApiTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apimgr.core.rest_formats.JsonParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "apimgr.core.rest_formats.Negotiation",
    "DEFAULT_PAGINATION_CLASS": "apimgr.core.rest.KeysetPagination",
    "DEFAULT_SCHEMA_CLASS": "apimgr.core.openapi.Schema",
    "DEFAULT_THROTTLE_CLASSES": ["apimgr.accounts.rest.TokenThrottle"],
    "DEFAULT_THROTTLE_RATES": {"token": "1200/min", "leaks": "10/min"},
    "EXCEPTION_HANDLER": "apimgr.core.rest.problem_response",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "apimgr",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "DESCRIPTION": "Everything a page of the platform can do. Send `Authorization: Bearer <API token>`; a token acts "
    "as its owner in one organisation. Lists come newest first: follow `next`. Errors are `application/problem+json`."
    "\n\nNames that are not known, in a body or after `?`, are refused with 400 and those that are: nothing is passed "
    "over in silence, but that a PUT or PATCH may send back what a GET of the same address answers. "
    "Bodies are JSON objects of UTF-8 up to 1 MiB, each name once.",
    "SERVERS": [{"url": "/"}],
    "TAGS": [
        {"name": "me", "x-displayName": "Me", "description": "Who a token acts as."},
        {"name": "organisations", "x-displayName": "Organisations", "description": "Who owns APIs and applications."},
        {"name": "members", "x-displayName": "Members", "description": "People, their roles, and invitations."},
        {"name": "tokens", "x-displayName": "API tokens", "description": "What programs use this API with."},
        {"name": "apis", "x-displayName": "APIs", "description": "What you publish: documents, versions, routes."},
        {"name": "products", "x-displayName": "Products", "description": "What is offered: versions of APIs."},
        {"name": "plans", "x-displayName": "Plans", "description": "The limits a product is offered with."},
        {"name": "catalogue", "x-displayName": "Catalogue", "description": "The APIs you can get a key for."},
        {"name": "applications", "x-displayName": "Applications", "description": "The programs that call APIs."},
        {"name": "subscriptions", "x-displayName": "Subscriptions", "description": "An application's access."},
        {"name": "credentials", "x-displayName": "Keys", "description": "What an application calls the gateway with."},
        {"name": "usage", "x-displayName": "Usage", "description": "Calls, counted and one by one."},
        {"name": "audit", "x-displayName": "Audit", "description": "Who changed what, and when."},
        {"name": "nodes", "x-displayName": "Gateway nodes", "description": "What runs, and what it has loaded."},
    ],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "apimgr.core.openapi.add_problems",
        "apimgr.core.openapi.close_bodies",
    ],
    "ENUM_NAME_OVERRIDES": {
        "RoleEnum": "apimgr.accounts.models.Role",
        "TokenStateEnum": ["active", "expired", "revoked"],
        "VersionStateEnum": "apimgr.catalog.models.VersionState",
        "ApplicationStateEnum": "portal.models.ApplicationState",
        "SubscriptionStateEnum": "portal.models.SubscriptionState",
        "CredentialStateEnum": "portal.models.CredentialState",
        "LimitKindEnum": "apimgr.products.models.LimitKind",
        "LimitPeriodEnum": "apimgr.products.models.LimitPeriod",
    },
}

# --- Work in the background ---------------------------------------------------------------------------------------
# Without Redis the broker is a folder: it needs no server and loses at most a "go look" (docs/adr/0006).
CELERY_BROKER_URL = REDIS_URL or "filesystem://localhost//"
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {}
    if REDIS_URL
    else {
        "data_folder_in": str(VAR_DIR / "celery" / "queue"),
        "data_folder_out": str(VAR_DIR / "celery" / "queue"),
        "control_folder": str(VAR_DIR / "celery" / "control"),
    }
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celery" / "beat")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
