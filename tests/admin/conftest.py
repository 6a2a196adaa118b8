"""Shared fixtures of the operator's commands."""

from tests.clipcite.conftest import no_settings_of_this_user

__all__ = ["no_settings_of_this_user"]
