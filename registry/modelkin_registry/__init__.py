"""Fingerprints kept, found again, compared and explained. Reads no weights."""
