"""A portal that polls devices, in Django."""
