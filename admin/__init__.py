"""Commands of the operator, which work on database, storage and processes of this machine.

May import everything; nothing imports them but the command `clipcite`, by name.
"""
