"""Output that commands share: tables, verdicts, progress.

May import `clipcite.client` and `clipcite.cli.connection`.
"""
