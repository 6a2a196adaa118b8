"""Output that commands share: tables, verdicts, progress."""
