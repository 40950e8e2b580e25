"""The base of all panels: widget classes, live updates, form fields and theme."""
