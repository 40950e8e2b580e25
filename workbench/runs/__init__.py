"""Runs: logging them, describing them, their files, and settling those whose process is gone."""
