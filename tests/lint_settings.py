"""The settings with the migration linter, which is a tool of development and no app of the platform."""

from apimgr.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "django_migration_linter"]  # noqa: F405
MIGRATION_LINTER_OPTIONS = {
    "no_cache": True,
    # Nothing is released yet: these make tables that hold no rows anywhere; the third widens a column and a rule that
    # every row keeps; the last is plain SQL, of which the linter also reads the way back, and takes a column with a
    # default for one without. From the first release on, none is added.
    "ignore_name": ["0001_initial", "0003_cache_table", "0002_every_kind_of_limit", "0002_books_of_boots"],
    # Only ours: what Django and allauth ship is theirs to lint.
    "include_apps": ["accounts", "audit", "catalog", "products", "portal", "analytics", "proxy"],
}
