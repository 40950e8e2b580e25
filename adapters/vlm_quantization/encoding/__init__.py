"""Checkpoints, and encoding with them: numpy only, so that search loads no training library."""
