"""The evaluation report, as views."""
