"""The panel that compares runs, and its static HTML for saved notebooks."""
