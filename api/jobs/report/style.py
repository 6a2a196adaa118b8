"""The report's CSS and its hash.

The Content-Security-Policy of the report and of the web page allows no other inline style.
"""

import base64
import hashlib
import re
from pathlib import Path

FOLDER = Path(__file__).parent
STATIC = FOLDER.parents[1] / "web" / "static"


def _style() -> str:
    """Return the report's CSS with the colours of the web page. Printouts are always light."""
    light, dark = re.findall(r":root \{[^}]*\}", (STATIC / "styles" / "base.css").read_text(encoding="utf-8"))
    own = (FOLDER / "report.css").read_text(encoding="utf-8")
    return f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n@media print {{ {light} }}\n{own}"


STYLE = _style()
STYLE_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
