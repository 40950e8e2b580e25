"""A workspace on a server: ``workbench.connect`` and the handles it returns."""
