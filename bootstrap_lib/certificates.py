"""Certificates of the house: an authority of its own, made once, and the broker's, by the openssl command that every Debian has."""

import socket
import subprocess
import tempfile
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from bootstrap_lib.installation import Installation, InstallError

FOLDER: Final = Path("/etc/mosquitto/constellation")
"""Where the broker's own files lie: passwords, rights, its certificate and key."""
GROUP: Final = "constellation-broker"
"""The broker's group, which may read its key, passwords and rights."""
CA: Final = Path("/etc/constellation/ca.crt")
CA_KEY: Final = Path("/etc/constellation/credentials/ca.key")

CA_DAYS, SERVER_DAYS, RENEW_DAYS = 7300, 3650, 60


def _openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InstallError("the certificates cannot be made: apt install openssl") from None


_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256")


def _request(
    installation: Installation, key: Path, certificate: Path, group: str | None, *arguments: str | Path
) -> None:
    """Make a key and a certificate together, and put both in place."""
    with tempfile.TemporaryDirectory(prefix="constellation-") as folder:
        new_key, new_certificate = Path(folder, "key"), Path(folder, "certificate")
        done = _openssl("req", "-x509", *_KEY, "-keyout", new_key, "-out", new_certificate, *arguments)
        if done.returncode:
            raise InstallError(f"openssl cannot make {certificate}: {' '.join(done.stderr.split())[-300:]}")
        installation.write(key, new_key.read_text(), mode=0o640 if group else 0o600, group=group)
        installation.write(certificate, new_certificate.read_text())


def make(installation: Installation, host: str) -> None:
    """Make an authority of the house's own once, and the broker's certificate whenever it is missing, wrong or old."""
    names = dict.fromkeys(
        ("localhost", socket.gethostname(), f"{socket.gethostname()}.local", host, "127.0.0.1", "::1")
    )
    authority, server = installation.path(CA), installation.path(FOLDER / "server.crt")
    if not authority.exists():
        installation.say(f"made a certificate authority for this house ({installation.path(CA_KEY)} is its key)")
        if installation.dry_run:
            return
        use = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        subject = ("-subj", f"/CN=Constellation of {socket.gethostname()[:40]}")
        _request(installation, CA_KEY, CA, None, "-days", str(CA_DAYS), *subject, *use)
    if server.exists() and _is_right(server, authority, names):
        return
    installation.say(f"made the broker's certificate, for {', '.join(names)}")
    if installation.dry_run:
        return
    if not installation.path(CA_KEY).exists():
        raise InstallError(
            f"{CA_KEY} is missing, so the broker's certificate cannot be made: put it back, or remove {CA} to begin anew"
        )
    _request(
        installation,
        FOLDER / "server.key",
        FOLDER / "server.crt",
        GROUP,
        *("-days", str(SERVER_DAYS), "-subj", f"/CN={socket.gethostname()[:60]}"),
        *("-CA", authority, "-CAkey", installation.path(CA_KEY)),
        *("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"),
        *("-addext", "keyUsage=critical,digitalSignature"),
        *("-addext", "subjectAltName=" + ",".join(f"{'IP' if _address(name) else 'DNS'}:{name}" for name in names)),
    )


def _is_right(certificate: Path, authority: Path, names: dict[str, None]) -> bool:
    """Whether a certificate is the authority's, good for all names, and for some time to come."""
    if _openssl("verify", "-CAfile", authority, certificate).returncode:
        return False
    if _openssl("x509", "-noout", "-checkend", str(RENEW_DAYS * 86400), "-in", certificate).returncode:
        return False
    said = _openssl("x509", "-noout", "-ext", "subjectAltName", "-in", certificate).stdout
    have = {entry.strip().partition(":")[2] for entry in said.partition("\n")[2].split(",")}
    return {_address(name) or name for name in have} >= {_address(name) or name for name in names}


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
