"""Bridges to other programs, on the public client: one module and command each, which can be deleted alone.

A module has `command`, which is the command of its name.
"""

import pkgutil
from importlib import import_module

import typer


def install(app: typer.Typer) -> None:
    """Add the commands of all modules of this folder."""
    for found in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        app.command(found.name.replace("_", "-"))(module.command)
