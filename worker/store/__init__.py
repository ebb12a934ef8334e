"""A tenant's git repository. Knows no Redis, no Celery and no settings."""
