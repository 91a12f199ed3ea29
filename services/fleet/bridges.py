"""What the brokers of a fleet are told: a house's, so that it brings its centre what is wanted, and the centre's, who may come in."""

from pathlib import Path
from typing import Final

from bootstrap_lib import Bus, Registry, StartError, broker
from services.fleet.wire import FLEET_ROOT

DROP_IN: Final = broker.ADDED / "fleet.conf"

_BRIDGE: Final = """# Written by `constellation fleet join`: the way of this house to its centre (docs/fleet.md).
connection {name}
address {address}:{port}
bridge_protocol_version mqttv50
bridge_cafile {folder}/ca.crt
bridge_certfile {folder}/{name}.crt
bridge_keyfile {folder}/{name}.key
bridge_insecure false
remote_clientid {name}
local_clientid bridge.{name}
cleansession false
try_private true
notifications true
notification_topic {name}/link
keepalive_interval 15
# Back-off with jitter: after a centre's failure not all houses come at once.
restart_timeout 1 30
bridge_max_packet_size 1048576
# What the centre hears: the registry first, then data, status, health, alerts, and what the archive answers it.
topic service/registry out 1 {root}/ {name}/{fleet_root}/
topic data/# out 1 {root}/ {name}/{fleet_root}/
topic service/+/status out 1 {root}/ {name}/{fleet_root}/
topic service/+/health out 0 {root}/ {name}/{fleet_root}/
topic alert/# out 1 {root}/ {name}/{fleet_root}/
topic replay/central out 1 {root}/service/{record}/ {name}/{fleet_root}/service/archive/
topic response/replay out 1 {root}/service/{record}/ {name}/{fleet_root}/service/archive/
topic response/counts out 1 {root}/service/{record}/ {name}/{fleet_root}/service/archive/
topic service/+/answer/+ out 1 {root}/ {name}/{fleet_root}/
# What it may ask, and its people, by name; never kept for a house that is away.
topic request/replay in 0 {root}/service/{record}/ {name}/{fleet_root}/service/archive/
topic request/counts in 0 {root}/service/{record}/ {name}/{fleet_root}/service/archive/
topic service/+/remote/+ in 0 {root}/ {name}/{fleet_root}/
"""

_CENTRE: Final = """# Written by `constellation fleet centre`: where houses come in, each by its certificate (docs/fleet.md).
listener {port}{address}
cafile {folder}/ca.crt
certfile {folder}/centre.crt
keyfile {folder}/centre.key
crlfile {folder}/crl.pem
require_certificate true
use_identity_as_username true
# A client id belongs to its certificate: nobody throws another house out by calling himself so.
use_username_as_clientid true
tls_version tlsv1.2
"""

RIGHTS: Final = (
    "# A house reaches its own branch and nothing else: %u is the name of its certificate.\npattern readwrite %u/#\n"
)


def bridge(name: str, address: str, port: int, folder: Path, *, root: str = "home", record: str = "archive") -> str:
    """Configuration of a house's bridge; `folder` holds its key and certificates, `record` is its archive's instance."""
    return _BRIDGE.format(
        name=name, address=address, port=port, folder=folder, root=root, fleet_root=FLEET_ROOT, record=record
    )


def listener(port: int, folder: Path, address: str = "") -> str:
    """Configuration of the centre's listener for houses; `folder` is what its broker may read of the authority."""
    return _CENTRE.format(port=port, folder=folder, address=f" {address}" if address else "")


def end_session(registry: Registry, name: str) -> None:
    """End a house's standing connection, which a list of revocations does not: whoever takes its client id throws it out."""
    import threading

    settings = registry.broker
    taken = threading.Event()
    bus = Bus(settings, "operator", lambda _: taken.set(), client_id=name, exact=True, session_expiry=0)
    bus.start()
    if not taken.wait(10):
        raise StartError(
            f"the broker does not let us end the connection of {name}: sudo systemctl restart constellation-broker does"
        )
    bus.stop()
