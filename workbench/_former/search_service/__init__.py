"""The package that version 0.2.0 starts; see :mod:`workbench._former`."""
