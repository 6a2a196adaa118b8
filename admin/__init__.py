"""Commands of the operator. They work on the database, storage and processes of this machine.

Only the command `clipcite` imports them, by name.
"""
