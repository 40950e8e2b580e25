"""Frozen encoders: one protocol, one registry, one file each."""
