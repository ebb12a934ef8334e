"""Webhooks and digests: tells other programs and people what happened."""
