"""Bridges to other programs, based on the public client. No module needs another one."""
