"""Output of commands: tables, reports, progress.

May import `clipcite.client` and `clipcite.cli.connection`.
"""
