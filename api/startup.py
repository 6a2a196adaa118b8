"""`python -m api.startup`: check whether the service may start with the present settings.

`clipcite serve` runs this check before it starts any process. It loads no model.
"""

import sys

from api.middleware.auth import startup_error
from core.settings import get_settings

if __name__ == "__main__":
    sys.exit(startup_error(get_settings()))
