"""`clipcite keys` as an operator runs them."""

import getpass
import json
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from clipcite.client import address
from core.store.accounts import api_keys, local_token
from core.store.db import migrate
from core.store.db.session import Database
from tests.admin.conftest import call
from tests.core.store import samples


def opened(data: Path, key: str) -> Any:
    database = Database(f"sqlite:///{data / 'clipcite.db'}")
    with database.read() as session:
        row = api_keys.find(session, key)
    database.close()
    return row


def test_create_list_and_revoke(data: Path) -> None:
    """On a fresh folder: where other machines can reach the service, keys must exist before
    the first start.
    """
    made = call(
        data, "create", "--owner", "team-a", "--scope", "classify", "--name", "[laptop]", "--days", "3"
    )
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert api_keys.is_formed(key)  # The key is the only output, so that a script can capture it.
    assert "team-a" in made.stderr
    assert "(classify; expires " in made.stderr
    assert "Copy the key now; it is shown only once." in made.stderr
    assert "Every request now needs a key." in made.stderr
    assert f"Created a new installation in {data}." in made.stderr
    assert "token" not in made.stderr
    row = opened(data, key)
    assert (row.owner, row.scopes, row.name) == ("team-a", ["classify"], "[laptop]")
    assert (row.expires_at - row.created_at).days == 3

    listed = call(data, "list")
    for shown in ("ID", "Scopes", row.id, row.prefix, "team-a", "[laptop]", "classify", "good"):
        assert shown in listed.stdout
    assert key not in listed.stdout
    found = json.loads(call(data, "list", "--json").stdout)
    assert [(one["id"], one["state"], one["last_used_at"]) for one in found] == [(row.id, "good", None)]
    assert found[0]["created_by"] == f"local:{getpass.getuser()}"

    assert row.id in call(data, "revoke", row.id).stdout
    with pytest.raises(api_keys.KeyRefused):
        opened(data, key)
    assert json.loads(call(data, "list", "--owner", "team-a", "--json").stdout)[0]["state"] == "revoked"


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["n", "y", "--yes", "a script"])
def test_the_first_key_ends_the_token_after_a_question(data: Path, answer: str) -> None:
    local_token.ensure(data)
    (data / "serve.lock").write_text("http://127.0.0.1:8123")
    command = ["-m", "clipcite", "keys", "create", "--data", str(data)]
    if answer == "a script":
        said = call(data, "create").stderr
    else:
        terminal = pexpect.spawn(sys.executable, [*command, *[answer] * (answer == "--yes")], timeout=600)
        if answer != "--yes":
            terminal.expect_exact("After that, every request needs a key, and the page's link stops working.")
            terminal.sendline(answer)
        terminal.expect(pexpect.EOF)
        said = " ".join(terminal.before.decode().split())
    refused = answer == "n"
    assert (address.local_token(data) is not None) == refused
    assert ("No keys." in call(data, "list").stderr) == refused
    assert ("The token and its link no longer work." in said) != refused
    assert ("The page is at http://127.0.0.1:8123 and asks for the key." in said) != refused
    if not refused:
        assert "token" not in call(data, "create").stderr


def test_nothing_changes_for_a_service_with_the_operators_key(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPCITE_ADMIN_KEY", "k" * 32)
    said = call(data, "create").stderr
    assert "token" not in said
    assert "now needs" not in said


@pytest.mark.slow
def test_a_key_that_hides_the_models_so_far(data: Path) -> None:
    migrate.upgrade(f"sqlite:///{data / 'clipcite.db'}")
    listed = call(data, "list")
    assert "No keys. Only this machine can connect, with its token" in listed.stderr
    database = Database(f"sqlite:///{data / 'clipcite.db'}")
    samples.publish(database, samples.claimed(database, samples.new_job(database, owner="default")))
    database.close()
    said = " ".join(call(data, "create", "--owner", "team-a").stderr.split())
    assert "1 model of owner default is not visible with this key." in said
    assert "clipcite keys create --owner default" in said
    said = call(data, "create").stderr
    assert "visible" not in said
    assert "now needs a key" not in said  # it has been since the first key


def test_errors_are_reported_without_a_traceback(data: Path) -> None:
    for arguments, says in (
        (["list"], f"No installation in {data}; give the --data of the service, or set CLIPCITE_DATA."),
        (["create", "--owner", "Team A"], "The owner's name"),
        (["create", "--scope", "root"], "Use one or more of classify, adapt, admin."),
        (["revoke", "key_none"], "There is no key with the id 'key_none'"),
    ):
        done = call(data, *arguments)
        assert done.exit_code == 1
        assert says in done.stderr
    assert call(data, "create", "--days", "0").exit_code == 2
