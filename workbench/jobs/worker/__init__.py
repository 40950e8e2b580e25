"""The worker: a process that claims jobs and runs each in a process of its own."""
