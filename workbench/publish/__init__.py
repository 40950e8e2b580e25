"""Publish the search page to people without a kernel of their own."""
