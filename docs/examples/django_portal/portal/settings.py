"""The least that Django needs. confkeep reads CONFKEEP_REDIS_URL from the environment by itself."""

import os

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("PORTAL_DATABASE", "portal.sqlite3"),
    }
}
INSTALLED_APPS = ["portal"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
