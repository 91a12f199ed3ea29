"""The fleet's own authority: who is a house, who is the centre, and who no longer is. By openssl, which every Debian has.

A house makes its key itself and sends a request; whatever that says, the certificate bears the name that the token was made for, is
good for a client only, and the authority's own is good for this fleet's names only.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bootstrap_lib import StartError

HOUSE_DAYS: Final = 400
AUTHORITY_DAYS: Final = 7300
CENTRE_DAYS: Final = 3650
LIST_DAYS: Final = 60
"""Days for which a list of revocations is good: past them nobody gets in, so it is renewed weekly, and its age is looked at."""

NEAR: Final = 30
"""Days before its end from which on a certificate or a list that was not renewed is an alarm."""

_CONFIG: Final = """
[ca]
default_ca=fleet
[fleet]
database={folder}/index.txt
new_certs_dir={folder}/issued
certificate={folder}/ca.crt
private_key={folder}/ca.key
serial={folder}/serial
crlnumber={folder}/crlnumber
default_md=sha256
default_days={house_days}
default_crl_days={list_days}
policy=named
unique_subject=no
copy_extensions=none
[named]
organizationName=supplied
commonName=supplied
[authority]
basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
nameConstraints=critical,permitted;DNS:{address},permitted;dirName:names{excluded}
[names]
O=fleet
[house]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth
[centre]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName={kind}:{address}
[req]
distinguished_name=empty
[empty]
"""

_NO_ADDRESSES: Final = ",excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0"
_KEY: Final = ("ecparam", "-name", "prime256v1", "-genkey", "-noout")


class Authority:
    """A folder that root alone reads, with the authority's key, all that it signed, and the list of what no longer counts."""

    def __init__(self, folder: Path, address: str) -> None:
        """`address` is the name (or IP address) under which houses reach the centre."""
        self.folder, self.address = folder, address

    @property
    def certificate(self) -> Path:
        """The authority's own certificate."""
        return self.folder / "ca.crt"

    @property
    def revocations(self) -> Path:
        """The list of revocations, for the centre's broker."""
        return self.folder / "crl.pem"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate: part of each token, so that a house knows its centre at the first word."""
        return fingerprint(self.certificate.read_text())

    def make(self) -> None:
        """Make the authority and the centre's certificate once; what is there stays."""
        for place in (self.folder, self.folder / "issued"):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_ip = re.fullmatch(r"[\d.]+|.*:.*", self.address) is not None
        settings = _CONFIG.format(
            folder=self.folder, house_days=HOUSE_DAYS, list_days=LIST_DAYS, address=self.address,
            excluded="" if is_ip else _NO_ADDRESSES, kind="IP" if is_ip else "DNS",
        ).replace(f"permitted;DNS:{self.address}," if is_ip else "\0", "")  # fmt: skip
        (self.folder / "ca.cnf").write_text(settings)
        if not self.certificate.exists():
            for name, text in (("index.txt", ""), ("serial", "01\n"), ("crlnumber", "01\n")):
                (self.folder / name).write_text(text)
            self._key("ca")
            words = ("-days", str(AUTHORITY_DAYS), "-subj", "/O=fleet/CN=fleet authority", "-extensions", "authority")
            self._openssl(
                "req", "-x509", "-new", "-key", self.folder / "ca.key", *self._config, *words, "-out", self.certificate
            )
            self.renew_list()
        if not (self.folder / "centre.crt").exists():
            self._key("centre")
            asked = ("-subj", f"/O=fleet/CN={self.address[:60]}", "-out", str(self.folder / "centre.csr"))
            self._openssl("req", "-new", "-key", self.folder / "centre.key", *self._config, *asked)
            given = (
                "-days",
                str(CENTRE_DAYS),
                "-in",
                str(self.folder / "centre.csr"),
                "-out",
                str(self.folder / "centre.crt"),
            )
            self._openssl("ca", "-batch", "-notext", *self._config, "-extensions", "centre", *given)

    @property
    def _config(self) -> tuple[str, str]:
        return "-config", str(self.folder / "ca.cnf")

    def _key(self, name: str) -> None:
        file = self.folder / f"{name}.key"
        file.touch(0o600)
        self._openssl(*_KEY, "-out", file)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Be the only one who writes: openssl keeps its index by no lock of its own, and two houses would get one serial number."""
        return alone(self.folder / "lock")

    def sign(self, name: str, request: str) -> str:
        """Sign a house's request, for the name that is ours to say; StartError where it is none."""
        with self._alone():
            return self._sign(name, request)

    def renew(self, name: str, serial: str, request: str) -> str | None:
        """Sign a request of who holds a certificate; None where that one is revoked, whatever its house got since. StartError."""
        with self._alone():
            return self._sign(name, request) if serial in self._valid(name) else None

    def _sign(self, name: str, request: str) -> str:
        with tempfile.TemporaryDirectory(prefix="constellation-") as folder:
            given, made = Path(folder, "csr"), Path(folder, "crt")
            given.write_text(request)
            words = ("-extensions", "house", "-subj", f"/O=fleet/CN={name}", "-in", str(given), "-out", str(made))
            self._openssl("ca", "-batch", "-notext", *self._config, *words)
            return made.read_text()

    def revoke(self, name: str) -> int:
        """Revoke all certificates of a house, and make the list anew; returns how many there were."""
        with self._alone():
            serials = self._valid(name)
            for serial in serials:
                self._openssl("ca", *self._config, "-revoke", self.folder / "issued" / f"{serial}.pem")
            self._renew_list()
        return len(serials)

    def _valid(self, name: str) -> list[str]:
        """Serial numbers of a house's certificates that are not revoked."""
        lines = [line.split("\t") for line in (self.folder / "index.txt").read_text().splitlines()]
        return [serial for state, _, _, serial, _, subject in lines if (state, subject) == ("V", f"/O=fleet/CN={name}")]

    def renew_list(self) -> None:
        """Make the list of revocations anew, whole at any moment."""
        with self._alone():
            self._renew_list()

    def _renew_list(self) -> None:
        beside = self.folder / "crl.pem.new"
        self._openssl("ca", *self._config, "-gencrl", "-out", beside)
        beside.replace(self.revocations)

    def _openssl(self, *arguments: str | Path) -> str:
        return openssl(*arguments)


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Wait until nobody else, thread or process, is within."""
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def openssl(*arguments: str | Path) -> str:
    """What openssl says; StartError with its words where it fails."""
    if shutil.which("openssl") is None:
        raise StartError("openssl is not installed: sudo apt install openssl")
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError(f"openssl {arguments[0]} failed: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


def fingerprint(certificate: str) -> str:
    """SHA-256 of a certificate, of its first one where there are several."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()


def moment(said: str) -> datetime:
    """Time that openssl says, such as `Jan 26 17:20:01 2027 GMT`."""
    return datetime.strptime(said.strip(), "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)


def lasts(file: Path, *, revocations: bool = False) -> float:
    """Days for which a certificate, or a list of `revocations`, is still good."""
    asked = ("crl", "-nextupdate") if revocations else ("x509", "-enddate")
    ends = moment(openssl(*asked, "-noout", "-in", file).partition("=")[2])
    return (ends - datetime.now(UTC)).total_seconds() / 86400


def spent(certificate: Path) -> float:
    """Share of its life that a certificate has behind it: renewed from two thirds on."""
    first, last = (
        moment(openssl("x509", "-in", certificate, "-noout", f"-{word}").partition("=")[2])
        for word in ("startdate", "enddate")
    )
    return (datetime.now(UTC) - first) / (last - first)


def new_request(folder: Path, name: str) -> str:
    """Make a key that never leaves its folder, and a request for it. The broker enters the folder; the key is its owner's alone."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    key = folder / f"{name}.key"
    if not key.exists():
        beside = folder / f".{name}.key"
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(openssl(*_KEY))
        beside.replace(key)
    return openssl("req", "-new", "-key", key, "-subj", f"/O=fleet/CN={name}")
