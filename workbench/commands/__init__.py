"""The commands of the command line, one module per family of commands.

Each module has ``add(commands)``, which declares its commands and their arguments. A command imports what it
needs when it runs, so that ``workbench --help`` loads only the parser.
"""
