"""Bridges to other programs, based on the public client. Each module can be deleted alone.

A module has `command`, the function of the command with the module's name.
"""

import pkgutil
from importlib import import_module

import typer


def install(app: typer.Typer) -> None:
    """Add the commands of all modules of this folder."""
    for found in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        app.command(found.name.replace("_", "-"))(module.command)
