"""The exit codes of commands."""

DONE, FAILED, WRONG_USE, CANCELLED = 0, 1, 2, 75

#: The shell's convention for a command ended by Ctrl-C.
INTERRUPTED = 130
