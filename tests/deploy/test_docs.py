"""The deployment page against the deployment files."""

import re
import shlex

from tests.deploy.files import ROOT, compose

PAGE = (ROOT / "docs" / "operate" / "compose.md").read_text(encoding="utf-8")
VERBS = {"build", "up", "exec", "run", "stop"}


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_its_commands_name_services_and_files_that_exist() -> None:
    services = set(compose()["services"])
    for words in commands():
        if words[0] == "sh":
            assert (ROOT / words[1]).is_file()
        elif words[0] == "docker":
            assert words[1] == "compose"
            assert words[2] in VERBS
            # Options with a value use `=`, except for this one.
            rest = [w for n, w in enumerate(words[3:], 3) if w[0] != "-" and words[n - 1] != "--entrypoint"]
            named = rest if words[2] in {"build", "stop", "up"} else rest[:1]
            assert set(named) <= services, words
        else:
            assert words[0] == "curl"
