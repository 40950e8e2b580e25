"""Retrieval metrics as expectations over tie orders, and the protocols they follow."""
