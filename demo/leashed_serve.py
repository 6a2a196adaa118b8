"""`clipcite serve`, ending with the demo however that one ends, also by `kill -9`.

python -m demo.leashed_serve serve …      takes the arguments of `clipcite`
"""

from clipcite.cli.main import main
from core.parent_watch import exit_with_parent

if __name__ == "__main__":
    exit_with_parent(grace_seconds=12)
    main()
