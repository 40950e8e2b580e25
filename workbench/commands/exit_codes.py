"""How a command ends."""

DONE, FAILED, WRONG_USE, CANCELLED = 0, 1, 2, 75

#: What a shell says of a command that Ctrl-C ended.
INTERRUPTED = 130
