"""Packages of the wheel: one top-level name, `clipcite`, with the server as `clipcite/_server`."""

from setuptools import find_namespace_packages, setup

SERVER = ("admin", "api", "core", "migrations", "worker")
inside = find_namespace_packages(include=[pattern for name in SERVER for pattern in (name, f"{name}.*")])
setup(
    packages=[
        *find_namespace_packages(include=["clipcite", "clipcite.*"]),
        *(f"clipcite._server.{package}" for package in inside),
    ],
    package_dir={f"clipcite._server.{name}": name for name in SERVER},
)
