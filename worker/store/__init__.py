"""A tenant's git repository: takes paths and limits; knows no Redis, no Celery and no settings."""
