"""Text that both databases take."""


def sanitize_text(text: str) -> str:
    """Text that PostgreSQL and UTF-8 take: what a crashed process last said may hold anything, and so
    may an id that a stranger asks for."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
