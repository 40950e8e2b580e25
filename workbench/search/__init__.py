"""Indexes and the searchers that answer from them, in this process or in the search service."""
