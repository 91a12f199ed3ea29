"""The house in Home Assistant's words: a device for each thing, each service and the alerts, by MQTT device discovery.

Keys are those of https://www.home-assistant.io/integrations/mqtt/ (2025.4 and later). Each component's availability is its own state
topic and its source's status, both: an empty retained message would leave the old value on show for ever. Templates guard that
empty message. `expire_after` is the second belt, for a broker or a source that says nothing any more.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from bootstrap_lib import Duration, Instance, InstanceOptions, Registry, Topic, quantities
from bootstrap_lib.version import VERSION
from services.metrics.names import STATES
from services.page.live import facts_of

PREFIX: Final = "homeassistant"
"""First word of discovery topics; Home Assistant's default."""

THERE: Final = "{{ 'online' if value else 'offline' }}"
VALUE: Final = "{{ value_json.value if value else none }}"
TEXT: Final = "{{ (value_json.value | string)[:255] if value else none }}"
SWITCH: Final = "{{ ('ON' if value_json.value else 'OFF') if value else none }}"
FIRING: Final = "{{ ('ON' if value_json.state == 'firing' else 'OFF') if value else none }}"
ALIVE: Final = "{{ 'ON' if value == 'online' else 'OFF' }}"
STATE: Final = "{{ value_json.state if value else none }}"
PAUSED: Final = "{{ ('ON' if value_json.state == 'paused' else 'OFF') if value else none }}"
ATTRIBUTES: Final = "{{ value if value else '{}' }}"
EVENTS: Final = ("quiet", "message", "urgent", "emergency")
"""Kinds of messages, by their priority from below 0 to 2."""
EVENT: Final = (
    "{% set p = [value_json.priority | default(0) | int, 2] | min if value else 0 %}"
    "{{ {'event_type': ['message', 'urgent', 'emergency'][p] if p >= 0 else 'quiet', 'text': value_json.text, "
    "'title': value_json.title | default('')} | tojson if value and not value_json.withdraw | default(false) else '' }}"
)

OTHER_CLASS: Final = {"var": "reactive_power", "VA": "apparent_power"}
"""Classes of units that are not their quantity's own; not each Home Assistant takes their multiples."""

BEATS: Final = 4
"""Heartbeats after which a service's state is unknown; its health expires at the broker after three."""


class Component(NamedTuple):
    """One entity: its key within the device, its platform, the topic below the root that it shows, all else as Home Assistant reads it."""

    key: str
    platform: str
    shows: str
    content: dict[str, Any]
    earlier: tuple[str, ...] = ()
    """Names that what it shows had before, the latest first."""


class Device(NamedTuple):
    """What stands at `homeassistant/device/<id>/config`."""

    id: str
    about: dict[str, Any]
    components: tuple[Component, ...]

    def config(self, unique: Mapping[str, str], gone: Mapping[str, str]) -> bytes:
        """JSON of the device; `unique` are its components' ids by what they show, `gone` the platforms of those that are no more."""
        about = {"identifiers": [self.id], "manufacturer": "Constellation", "sw_version": VERSION} | self.about
        components: dict[str, Any] = {key: {"p": platform} for key, platform in gone.items()}
        for key, platform, shows, content, _ in self.components:
            components[key] = {"platform": platform, "unique_id": unique[shows], **content}
            if shows.startswith("data/"):  # a topic that was renamed has the entity that it had
                levels = unique[shows].partition("/data/")[2].rstrip("+").replace("/", "_")
                components[key]["default_entity_id"] = f"{platform}.{levels}"
        origin = {"name": "Constellation", "sw_version": VERSION}
        whole = {"device": about, "origin": origin, "qos": 1, "components": components}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def words(name: str) -> str:
    """A name of ours as people write it."""
    return name.replace("_", " ").capitalize()


class HouseDevices:
    """A topics.yaml, as Home Assistant shall see it."""

    def __init__(self, registry: Registry, command: str | None, url: str | None) -> None:
        """`command` is the topic for what Home Assistant may ask, None where it may not; `url` the page that a device links to."""
        self._registry, self._root, self._command = registry, registry.root, command
        self._link = {"configuration_url": url} if url else {}

    def service_id(self, name: str) -> str:
        """Identifier of the device that stands for an instance."""
        return f"{self._root}_service_{name}"

    @property
    def alerts_id(self) -> str:
        """Identifier of the device of alerts and messages."""
        return f"{self._root}_alerts"

    def _there(self, topic: str, instance: str) -> dict[str, Any]:
        """Availability: something stands on the topic, and whoever says it is online."""
        topics: list[dict[str, str]] = [
            {"topic": topic, "value_template": THERE},
            {"topic": f"{self._root}/service/{instance}/status"},
        ]
        return {"availability": topics, "availability_mode": "all"}

    # -- things -------------------------------------------------------------------------------------------------

    def things(self) -> Iterable[Device]:
        """A device for each thing that has topics."""
        found: dict[tuple[str, str], list[Topic[Any]]] = {}
        for topic in self._registry.topics.values():
            place, thing, _ = topic.name.split("/")
            found.setdefault((place, thing), []).append(topic)
        taken = {self.service_id(name) for name in self._registry.instances}
        for (place, thing), topics in found.items():
            identity = f"{self._root}_{place}_{thing}"
            if identity in taken:  # a_b/c and a/b_c
                identity = f"{self._root}__{place}__{thing}"
            taken.add(identity)
            source = self._registry.instances[topics[0].source]
            about = {
                "name": words(f"{place} {thing}"),
                "model": source.service,
                "via_device": self.service_id(source.name),
                **self._link,
            }
            yield Device(identity, about, tuple(self._measurement(topic, str(about["name"])) for topic in topics))

    def _measurement(self, topic: Topic[Any], device: str) -> Component:
        last = topic.name.rpartition("/")[2]
        facts, stands = facts_of(topic), f"{self._root}/data/{topic.name}"
        name = topic.label if facts.named and topic.label.lower() != device.lower() else words(last)
        content: dict[str, Any] = {
            "name": name,
            "state_topic": stands,
            "expire_after": math.ceil(2 * topic.stale),
            **self._there(stands, topic.source),
        }
        row = quantities.QUANTITIES[topic.quantity]
        platform = "binary_sensor" if topic.kind == "switch" else "sensor"
        match topic.kind:
            case "switch":
                content |= {"value_template": SWITCH} | _class(row.device_class if row.kind == "switch" else None)
            case "state":
                content |= {"value_template": VALUE, "device_class": "enum", "options": list(topic.states)}
            case "text":
                content |= {"value_template": TEXT}
            case _:
                content |= {"value_template": VALUE, "suggested_display_precision": facts.decimals}
                content["state_class"] = "total_increasing" if topic.kind == "counter" else "measurement"
                content |= _class(_class_of(topic, row))
                if topic.unit:
                    content["unit_of_measurement"] = topic.unit
        return Component(
            f"{platform}_{last}", platform, f"data/{topic.name}", content, tuple(f"data/{was}" for was in topic.was)
        )

    # -- services -----------------------------------------------------------------------------------------------

    def services(self) -> Iterable[Device]:
        """A device for each instance: whether it is connected, how it is, and for a source its pause."""
        for one in self._registry.instances.values():
            about = {"name": words(one.name), "model": one.service, **self._link}
            yield Device(self.service_id(one.name), about, tuple(self._of_service(one)))

    def _of_service(self, one: Instance) -> Iterable[Component]:
        mine = f"{self._root}/service/{one.name}"
        diagnostic = {"entity_category": "diagnostic"}
        connection = {"name": "Connection", "state_topic": f"{mine}/status", "value_template": ALIVE}
        connection |= {"device_class": "connectivity", **diagnostic}
        yield Component("binary_sensor_connection", "binary_sensor", f"service/{one.name}/status", connection)
        online = {"availability_topic": f"{mine}/status"}
        state: dict[str, Any] = {
            "name": "State",
            "state_topic": f"{mine}/health",
            "value_template": STATE,
            "device_class": "enum",
        }
        state |= {"options": list(STATES), "expire_after": math.ceil(BEATS * _heartbeat(one)), **online, **diagnostic}
        yield Component("sensor_state", "sensor", f"service/{one.name}/health", state)
        if one.section == "sources" and self._command:
            pause: dict[str, Any] = {
                "name": "Pause",
                "state_topic": f"{mine}/health",
                "value_template": PAUSED,
                **online,
            }
            pause |= {"command_topic": self._command, "state_on": "ON", "state_off": "OFF", "entity_category": "config"}
            pause |= {"payload_on": _ask("pause", one.name), "payload_off": _ask("resume", one.name)}
            yield Component("switch_pause", "switch", f"service/{one.name}/pause", pause)

    # -- alerts and messages ------------------------------------------------------------------------------------

    def alerts(self, names: Iterable[str]) -> Device | None:
        """Alerts that stand at the broker, each with a button to acknowledge it, and messages; None in a house without alerts."""
        service = next(iter(self._registry.find("alerts")), None)
        if service is None:
            return None
        components = []
        for name in sorted(names):
            stands = f"{self._root}/alert/{name}"
            common = {"name": words(name), **self._there(stands, service.name)}
            firing = {"state_topic": stands, "value_template": FIRING, "device_class": "problem"}
            attributes = {"json_attributes_topic": stands, "json_attributes_template": ATTRIBUTES}
            components.append(
                Component(f"binary_sensor_{name}", "binary_sensor", f"alert/{name}", common | firing | attributes)
            )
            if self._command:
                press = {"command_topic": self._command, "payload_press": _ask("acknowledge", name)}
                press |= {"name": f"Acknowledge {words(name).lower()}"}
                components.append(
                    Component(f"button_acknowledge_{name}", "button", f"alert/{name}/button", common | press)
                )
        event = {"name": "Message", "state_topic": f"{self._root}/notify/+", "value_template": EVENT}
        components.append(Component("event_message", "event", "notify", event | {"event_types": list(EVENTS)}))
        about = {"name": f"{words(self._root)} alerts", "model": "alerts", "via_device": self.service_id(service.name)}
        return Device(self.alerts_id, about | self._link, tuple(components))


def _heartbeat(one: Instance) -> float:
    """Seconds between an instance's heartbeats."""
    try:
        return Duration.parse(one.raw["heartbeat"])
    except (KeyError, ValueError):  # what is wrong with its options is said by its own check
        return InstanceOptions().heartbeat


def _ask(do: str, name: str) -> str:
    return json.dumps({"do": do, "name": name}, separators=(",", ":"))


def _class(name: str | None) -> dict[str, str]:
    return {"device_class": name} if name else {}


def _class_of(topic: Topic[Any], row: quantities.Quantity) -> str | None:
    """Home Assistant's class of a number; None where its checks would refuse the quantity's."""
    if topic.kind != row.kind:
        return "energy_storage" if topic.quantity == "energy" else None
    return row.device_class if topic.unit == row.unit else OTHER_CLASS.get(topic.unit)
