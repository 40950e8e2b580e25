"""Frozen encoders: one protocol, one registry, one file per encoder."""
