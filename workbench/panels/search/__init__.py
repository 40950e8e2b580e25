"""The search panel and the published search page."""
