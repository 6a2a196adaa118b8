"""`clipcite serve` that exits with the demo, even after `kill -9`.

python -m demo.serve serve …      takes the arguments of `clipcite`
"""

from clipcite.__main__ import main
from core.parent_watch import exit_with_parent

if __name__ == "__main__":
    exit_with_parent(grace_seconds=12)
    main()
