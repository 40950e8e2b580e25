"""The commands of the command line, one module a family of commands.

Each module has ``add(commands)``, which says what its commands take. What a command needs is imported when it
runs, so that ``workbench --help`` loads no more than the parser.
"""
