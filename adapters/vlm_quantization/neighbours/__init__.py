"""Exact nearest codes: columns of a nested code, the scans that read them, and the search at every length."""
