"""The report of an evaluation, as views."""
