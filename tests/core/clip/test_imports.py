import subprocess
import sys
from pathlib import Path

LIGHT = [
    "core.clip.config",
    "core.clip.errors",
    "core.clip.prompts",
    "core.clip.weights.manifest",
    "core.clip.training.progress",
]


def test_modules_of_the_api_import_no_torch() -> None:
    program = (
        f"import sys, {', '.join(LIGHT)}; "
        "heavy = {'torch', 'open_clip', 'numpy', 'PIL', 'transformers'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
