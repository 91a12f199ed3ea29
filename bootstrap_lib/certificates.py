"""Certificates of the house: an authority of its own, made once, and the broker's, by the openssl command that every Debian has.

The authority can sign for names and addresses of a house only (name constraints, RFC 5280 4.2.1.10), and for no authority below it:
whoever steals its key can play the house's broker, and nobody else.
"""

import os
import re
import socket
import subprocess
import tempfile
from datetime import UTC, date, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Final

from bootstrap_lib.installation import Installation, InstallError

FOLDER: Final = Path("/etc/mosquitto/constellation")
"""Where the broker's own files lie: passwords, rights, its certificate and key."""
GROUP: Final = "constellation-broker"
"""The broker's group, which may read its key, passwords and rights."""
CA: Final = Path("/etc/constellation/ca.crt")
CA_KEY: Final = Path("/etc/constellation/credentials/ca.key")
SERVER: Final = FOLDER / "server.crt"

CA_DAYS, SERVER_DAYS, RENEW_DAYS = 7300, 365, 60

HOUSES: Final = (
    "localhost",
    "local",
    "lan",
    "home",
    "home.arpa",
    "internal",
    "localdomain",
    "fritz.box",
    "example",
    "test",
)
"""Domains that no site of the internet has (RFC 2606, 6761, 6762, 8375) or that routers give to a house."""
NETWORKS: Final = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"),
    *("::1/128", "fc00::/7", "fe80::/10"),
)
"""Addresses of this machine, of private networks and of those between a provider's (RFC 1918, 4193, 6598)."""

_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256")


def _openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InstallError("the certificates cannot be made: apt install openssl") from None


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


def make(installation: Installation, host: str, *, key: Path | None = None) -> None:
    """Make an authority of the house's own once, and the broker's certificate whenever it is missing, wrong or old.

    `key` is the authority's, where that is kept elsewhere.
    """
    names = list(
        dict.fromkeys(("localhost", socket.gethostname(), f"{socket.gethostname()}.local", host, "127.0.0.1", "::1"))
    )
    authority, server = installation.path(CA), installation.path(SERVER)
    if not authority.exists():
        installation.say(f"made a certificate authority for this house ({installation.path(CA_KEY)} is its key)")
        if installation.dry_run:
            return
        _authority(installation, names)
    installation.refuse_foreign(authority)
    names = [name for name in names if is_permitted(authority, name)]
    if host not in names:
        raise InstallError(
            f"{authority} may not sign for {host}: give broker: a name of the house (such as {socket.gethostname()}.local),"
            f" or begin with a new authority: sudo rm {authority}, and this again (every other machine joins anew)"
        )
    if server.exists() and _is_right(server, authority, names):
        if days_left(server) > RENEW_DAYS:
            return
        if not (key or installation.path(CA_KEY)).exists():  # kept elsewhere: `constellation ca renew` tells people
            return
    installation.say(f"made the broker's certificate, for {', '.join(names)}")
    if installation.dry_run:
        return
    key = key or installation.path(CA_KEY)
    if not key.exists():
        raise InstallError(
            f"{key} is missing, so the broker's certificate cannot be made: put it back, name it with"
            f" `constellation ca renew --key FILE`, or remove {CA} to begin anew"
        )
    _request(
        installation,
        FOLDER / "server.key",
        SERVER,
        GROUP,
        *("-days", str(SERVER_DAYS), "-subj", f"/CN={socket.gethostname()[:60]}"),
        *("-CA", authority, "-CAkey", key),
        *("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"),
        *("-addext", "keyUsage=critical,digitalSignature"),
        *("-addext", "subjectAltName=" + ",".join(f"{'IP' if _address(name) else 'DNS'}:{name}" for name in names)),
    )


def _authority(installation: Installation, names: list[str]) -> None:
    domains = dict.fromkeys((*HOUSES, *(name for name in names if not _address(name))))
    networks = dict.fromkeys((*NETWORKS, *(name for name in names if _address(name))))
    permitted = [f"permitted;DNS:{domain}" for domain in domains]
    permitted += [f"permitted;IP:{net.network_address}/{net.netmask}" for net in map(ip_network, networks)]
    _request(
        installation,
        CA_KEY,
        CA,
        None,
        *("-days", str(CA_DAYS), "-subj", f"/CN=Constellation of {socket.gethostname()[:40]}"),
        *("-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        *("-addext", f"nameConstraints=critical,{','.join(permitted)}"),
        *("-config", _empty_configuration()),
    )


def _empty_configuration() -> str:
    """Have openssl read no file: Debian's adds a basicConstraints of its own, and two are none."""
    return os.devnull


def constraints(authority: Path) -> list[str]:
    """What an authority may sign for, as openssl writes it; empty where it may for everything."""
    said = _openssl("x509", "-noout", "-ext", "nameConstraints", "-in", authority).stdout
    return re.findall(r"(?:DNS|IP):\S+", said)


def is_permitted(authority: Path, name: str) -> bool:
    """Whether an authority may sign for a name or an address."""
    permitted = constraints(authority)
    address = _address(name)
    if not permitted:
        return True
    if address is None:
        domains = [entry.removeprefix("DNS:").lower() for entry in permitted if entry.startswith("DNS:")]
        return any(name.lower() == domain or name.lower().endswith(f".{domain}") for domain in domains)
    for entry in permitted:
        base, _, mask = entry.removeprefix("IP:").partition("/")
        if mask and (net := _address(base)) is not None and net.version == address.version:
            bits = int(ip_address(mask))
            if int(net) & bits == int(address) & bits:
                return True
    return False


def days_left(certificate: Path, *, revocations: bool = False) -> int:
    """Days until a certificate, or a list of `revocations`, ends; below zero when it has."""
    asked = ("crl", "-nextupdate") if revocations else ("x509", "-enddate")
    said = _openssl(*asked, "-noout", "-dateopt", "iso_8601", "-in", certificate).stdout
    found = re.search(r"=(\d+)-(\d+)-(\d+)", said)
    if found is None:
        return -1
    year, month, day = map(int, found.groups())
    return (date(year, month, day) - datetime.now(UTC).date()).days


def _is_right(certificate: Path, authority: Path, names: list[str]) -> bool:
    """Whether a certificate is the authority's, still good, and for all names."""
    if _openssl("verify", "-CAfile", authority, certificate).returncode:
        return False
    said = _openssl("x509", "-noout", "-ext", "subjectAltName", "-in", certificate).stdout
    have = {entry.strip().partition(":")[2] for entry in said.partition("\n")[2].split(",")}
    return {_address(name) or name for name in have} >= {_address(name) or name for name in names}


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
