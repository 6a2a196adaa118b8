"""Packages of the wheel: one top-level name, `clipcite`, with the server as `clipcite/_server`.

An editable installation runs the server beside `clipcite/`. Without mapped folders setuptools makes it a
path, which editors and type checkers follow, instead of an import hook.
"""

import sys

from setuptools import find_namespace_packages, setup

EDITABLE = "editable_wheel" in sys.argv
SERVER = () if EDITABLE else ("admin", "api", "core", "migrations", "worker")
inside = find_namespace_packages(include=[pattern for name in SERVER for pattern in (name, f"{name}.*")])
setup(
    packages=[
        *find_namespace_packages(include=["clipcite", "clipcite.*"]),
        *(f"clipcite._server.{package}" for package in inside),
    ],
    package_dir={"": "."} if EDITABLE else {f"clipcite._server.{name}": name for name in SERVER},
)
