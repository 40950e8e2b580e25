"""Retrieval metrics with ties by expectation, and the protocols they follow."""
