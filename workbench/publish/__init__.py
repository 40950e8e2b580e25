"""Publish the search page for visitors without a kernel of their own."""
