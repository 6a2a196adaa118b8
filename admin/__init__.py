"""Commands of the operator. They work on the database, storage and processes of this machine.

They may import everything. Only the command `clipcite` imports them, by name.
"""
