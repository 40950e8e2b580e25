"""Modules by the names that they had in version 0.2.0.

Processes of that version that still run during an upgrade in place, such as a worker, a server or a kernel,
start their helpers by these names: ``python -m workbench.runner``. Each name starts today's module, whose
arguments and messages are still those of 0.2.0, so what runs goes on and ends as it would have. ``workbench``
puts this folder on its path; nothing imports these modules.
"""
