"""Secrets come from a file that only its owner reads, and are never shown."""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap_lib import secrets
from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.credentials import given_to, missing_secrets
from bootstrap_lib.installation import Installation
from bootstrap_lib.registry import Registry
from bootstrap_lib.secrets import MissingSecretError, Secret, SecretError, keep, resolve

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Write a secret's file into the folder that the environment names; systemd's own folder and /etc are not there."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CONSTELLATION_CREDENTIALS", str(folder))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr(secrets, "FOLDER", tmp_path / "etc")

    def write(text: str, mode: int = 0o600, name: str = "token", into: Path = folder) -> Path:
        into.mkdir(exist_ok=True)
        path = into / name
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def test_a_reference_is_resolved_and_the_end_of_the_line_is_none_of_it(put: Put) -> None:
    put("  swordfish\n")
    assert resolve("secret:token") == "swordfish"
    assert resolve("token") == "swordfish"


@pytest.mark.parametrize("between", ["\n", "\r\n", "\x00", "\x7f"])
def test_a_secret_that_no_header_can_carry_is_refused_and_a_file_of_lines_is_not(put: Put, between: str) -> None:
    """The library that cannot send it would show it."""
    path = put(f"sword{between}fish")
    with pytest.raises(SecretError, match=f"{path} has several lines, or control characters") as caught:
        resolve("secret:token")
    assert "sword" not in str(caught.value)
    assert resolve("secret:token", lines=True).startswith("sword")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601, 0o610, 0o602, 0o620])
def test_a_secret_that_others_may_read_or_change_is_refused(put: Put, mode: int) -> None:
    path = put("swordfish", mode)
    with pytest.raises(SecretError, match=re.escape(f"{path} can be read by others: chmod 600 {path}")) as refused:
        resolve("secret:token")
    assert "swordfish" not in str(refused.value)
    path.chmod(0o600)
    assert resolve("secret:token") == "swordfish"


def test_a_credential_that_systemd_hands_over_may_have_its_own_rights(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = put("from systemd", 0o440, into=tmp_path / "handed").parent
    put("from the file")
    assert resolve("secret:token") == "from the file"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    assert resolve("secret:token") == "from systemd"


def test_folders_of_the_services_own_come_first_and_etc_last(put: Put, tmp_path: Path) -> None:
    put("of /etc", into=tmp_path / "etc")
    assert resolve("secret:token") == "of /etc"
    put("of the environment")
    assert resolve("secret:token") == "of the environment"
    own = put("of the service", into=tmp_path / "own").parent
    assert resolve("secret:token", own) == "of the service"


@pytest.mark.parametrize("reference", ["secret:", "secret:../token", "secret:a/b", "secret:.hidden", "", "/etc/shadow"])
def test_a_reference_that_leads_elsewhere_names_no_secret(put: Put, reference: str) -> None:
    put("swordfish")
    with pytest.raises(SecretError, match="names no secret: write secret:NAME"):
        resolve(reference)


def test_a_secret_that_is_missing_or_empty_is_said_with_its_place(put: Put, tmp_path: Path) -> None:
    with pytest.raises(MissingSecretError, match=f"put it into a file token .mode 0600. in {tmp_path}"):
        resolve("secret:token")
    path = put("\n")
    with pytest.raises(SecretError, match=f"{path} is empty"):
        resolve("secret:token")


def test_a_secret_is_not_shown_by_accident(put: Put, caplog: pytest.LogCaptureFixture) -> None:
    put("swordfish")
    found = resolve("secret:token")
    assert isinstance(found, Secret)
    logging.getLogger("test").warning("%r and %s", found, [found])
    assert "swordfish" not in repr(found) + caplog.text
    assert "Secret(…)" in caplog.text


def test_secrets_that_are_kept_are_whole_and_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    old = os.umask(0)
    try:
        keep(folder, {"meter.1": "a1", "meter.2": "b2"})
        keep(folder, {"meter.1": "c3"})
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: (path.read_text(), path.stat().st_mode & 0o777) for path in folder.iterdir()} == {
        "meter.1": ("c3\n", 0o600),
        "meter.2": ("b2\n", 0o600),
    }
    assert resolve("secret:meter.1", folder) == "c3"


def test_no_service_is_handed_another_users_password_or_the_authoritys_key_whatever_its_lines_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "topics.yaml").write_text(
        "sources: {radio: {service: wmbus, device: /dev/radio}}\ntopics:\n"
        "  a/b/energy: {from: radio, meter: 1, secret: 'secret:mqtt.operator'}\n"
        "  a/c/energy: {from: radio, meter: 2, secret: 'secret:ca.key'}\n"
        "  a/d/energy: {from: radio, meter: 3, secret: 'secret:house.water'}\n"
    )
    folder = tmp_path / "etc/constellation/credentials"
    folder.mkdir(parents=True)
    for name in ("mqtt.operator", "mqtt.radio", "ca.key", "house.water", "radio.x", "wmbus.2", "pushover.token"):
        (folder / name).touch(0o600)
    registry = Registry(tmp_path / "topics.yaml")
    radio, system = registry.instances["radio"], Installation(tmp_path)
    assert given_to(system, registry, radio) == ["house.water", "radio.x", "wmbus.2"]
    assert missing_secrets(system, registry, radio) == []
    said = [str(problem) for problem in problems_of(registry)]
    assert len(said) == 2
    assert "secret:mqtt.operator is handed to no service, it is another's key to the house" in said[0]
    (folder / "house.water").unlink()
    assert missing_secrets(system, registry, radio) == ["house.water"]


def test_a_link_that_somebody_laid_beside_is_not_followed(tmp_path: Path) -> None:
    folder, strange = tmp_path / "keys", tmp_path / "strange"
    folder.mkdir()
    (folder / ".meter.1.new").symlink_to(strange)
    keep(folder, {"meter.1": "a1"})
    assert not strange.exists()
    assert (folder / "meter.1").read_text() == "a1\n"
