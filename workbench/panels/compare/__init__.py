"""The panel that compares runs, and its page without a kernel."""
