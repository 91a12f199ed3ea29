"""Grafana's dashboards, made from one table for two kinds of servers; what is committed in `shipped/grafana` is their output.

    python -m services.metrics.dashboards services/metrics/shipped/grafana/dashboards

Prometheus holds what `exporter` shows, VictoriaMetrics what `influx` writes: the same house under other names, and what services
say of themselves only at the first.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

PHASES: Final = {
    "prepurge": "light-blue",
    "ignition": "orange",
    "combustion": "red",
    "burnout": "purple",
    "keep_fire": "dark-yellow",
}
"""Phases of a boiler that are drawn as regions, with Grafana's names of colours."""


class Panel(NamedTuple):
    """One panel: `queries` are expressions with their legends; a unit by Grafana's name."""

    title: str
    kind: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    width: int = 12


class Server(NamedTuple):
    """How a kind of server calls what is measured, by the words that `PANELS` uses."""

    name: str
    where: str
    """Legend of a series."""
    series: Mapping[str, str]
    """Quantity → metric, with the comma or brace before its labels left open."""
    keep: str
    """What keeps a metric's name through a function."""
    state: str
    """Metric with one series for each word of a state."""


PROMETHEUS: Final = Server(
    "prometheus",
    "{{place}} {{thing}} {{name}}",
    {
        "temperature": "constellation_temperature_celsius{",
        "power": "constellation_power_watts{",
        "current": "constellation_current_amperes{",
        "voltage": "constellation_voltage_volts{",
        "cell": 'constellation_voltage_volts{name=~"cell_[0-9]+_voltage",',
        "processor": 'constellation_temperature_celsius{name="processor_temperature",',
        "soc": "constellation_soc_percent{",
        "charge": "constellation_charge_ah{",
        "usage": "constellation_usage_percent{",
        "mass": "constellation_mass_kg{",
        "duty": "constellation_duty_percent{",
        "energy": "constellation_energy_kwh_total{",
        "volume": "constellation_volume_cubic_meters_total{",
        "cycles": "constellation_cycles_total{",
        "switch": '{__name__=~"constellation_(active|fault|alarm|warning|present)",',
        "fault": "constellation_fault{",
    },
    "",
    "constellation_phase{",
)

VICTORIAMETRICS: Final = Server(
    "victoriametrics",
    "{{place}} {{thing}} {{__name__}}",
    {
        **{
            word: f'{{__name__=~"${{root}}_(.+_)?{word}",'
            for word in "temperature power current voltage soc charge usage mass duty energy volume cycles fault".split()  # noqa: SIM905
        },
        "cell": '{__name__=~"${root}_cell_[0-9]+_voltage",',
        "processor": '{__name__="${root}_processor_temperature",',
        "switch": '{__name__=~"${root}_(.+_)?(active|fault|alarm|warning|present)",',
    },
    " keep_metric_names",
    "${root}_phase_is{",
)


def boards(server: Server) -> dict[str, tuple[Panel, ...]]:
    """Panels of each dashboard."""
    where, keep = server.where, server.keep

    def of(word: str, labels: str = "") -> str:
        return f"{server.series[word]}{labels}}}"

    at, pack = 'place="$boiler"', 'place="$battery"'
    increase = f"increase({{}}[1d]){keep}"
    spread = "max by (place, thing) ({0}) - min by (place, thing) ({0})".format(of("cell", pack))
    prometheus = server is PROMETHEUS
    return {
        "house": (
            Panel("Temperatures", "timeseries", "celsius", ((of("temperature"), where),), 24),
            Panel("Power", "timeseries", "watt", ((of("power"), where),)),
            Panel("Energy in 24 hours", "bargauge", "kwatth", ((increase.format(of("energy")), where),)),
            Panel("Batteries", "gauge", "percent", ((of("soc"), where),)),
            Panel("Water in 24 hours", "stat", "m3", ((increase.format(of("volume")), where),)),
            Panel("On, off, and what is wrong", "state-timeline", "none", ((of("switch"), where),), 24),
            *(
                (Panel("Alerts", "state-timeline", "none", (("constellation_alert_firing", "{{alert}}"),), 24),)
                if prometheus
                else ()
            ),
        ),
        "boiler": (
            Panel("Temperatures, with phases", "timeseries", "celsius", ((of("temperature", at), where),), 24),
            Panel("Phase", "state-timeline", "none", ((f"{server.state}{at}}}", "{{state}}"),), 24),
            Panel(
                "Share of each phase",
                "bargauge",
                "percentunit",
                ((f"avg_over_time({server.state}{at}}}[$__range])", "{{state}}"),),
            ),
            Panel("Currents of motors and igniter", "timeseries", "amp", ((of("current", at), where),)),
            Panel("Fuel", "timeseries", "masskg", ((of("mass", at), where),)),
            Panel("Cycles in 24 hours", "stat", "none", ((increase.format(of("cycles", at)), where),), 6),
            Panel("Duty of the day", "gauge", "percent", ((of("duty", at), where),), 6),
            Panel("Faults", "state-timeline", "none", ((of("fault", at), where),), 24),
        ),
        "battery": (
            Panel("Charge", "gauge", "percent", ((of("soc", pack), where),), 6),
            Panel("Capacity", "stat", "none", ((of("charge", pack), where),), 6),
            Panel("Power", "timeseries", "watt", ((of("power", pack), where),)),
            Panel("Current", "timeseries", "amp", ((of("current", pack), where),)),
            Panel("Voltage", "timeseries", "volt", ((of("voltage", pack), where),)),
            Panel("Cells", "timeseries", "volt", ((of("cell", pack), where),), 24),
            Panel("Difference of cells", "timeseries", "volt", ((spread, "{{place}} {{thing}}"),)),
            Panel("Temperatures", "timeseries", "celsius", ((of("temperature", pack), where),)),
            Panel("Cycles", "stat", "none", ((of("cycles", pack), where),), 6),
        ),
        "meters": (
            Panel("Energy in 24 hours", "bargauge", "kwatth", ((increase.format(of("energy")), where),)),
            Panel("Water in 24 hours", "bargauge", "m3", ((increase.format(of("volume")), where),)),
            Panel("Power", "timeseries", "watt", ((of("power"), where),), 24),
            Panel("Energy by the hour", "timeseries", "kwatth", ((f"increase({of('energy')}[1h]){keep}", where),), 24),
            Panel("Meters", "stat", "none", ((of("energy"), where), (of("volume"), where)), 24),
        ),
        "system": _of_services() if prometheus else _of_readings(),
    }


def _of_services() -> tuple[Panel, ...]:
    """What services say of themselves."""

    def one(  # noqa: PLR0917 (as Panel)
        title: str, kind: str, unit: str, query: str, legend: str = "{{service}}", width: int = 12
    ) -> Panel:
        return Panel(title, kind, unit, ((query, legend),), width)

    rate = "rate(constellation_service_{}_total[$__rate_interval])"
    return (
        one("Readings lost", "stat", "none", "sum(constellation_lost_readings_total)", "lost", 6),
        one("Services that run", "stat", "none", "sum(constellation_service_up)", "up", 6),
        one("Broker", "stat", "none", "constellation_broker_connected", "connected", 6),
        one("Alerts that fire", "stat", "none", "sum(constellation_alert_firing)", "firing", 6),
        one("Services", "state-timeline", "none", "constellation_service_up", width=24),
        one("States", "state-timeline", "none", "constellation_service_state == 1", "{{service}} {{state}}", 24),
        one("Published a second", "timeseries", "none", rate.format("published")),
        one("Stored a second", "timeseries", "none", rate.format("stored")),
        one("Errors a second", "timeseries", "none", rate.format("errors")),
        one("Topics that are silent", "timeseries", "none", "constellation_service_stale_topics"),
        one("Readings that wait for the archive", "timeseries", "none", "constellation_service_spool_waiting"),
        one("Starts in 24 hours", "bargauge", "none", "increase(constellation_service_starts_total[1d])"),
        one("Processor", "timeseries", "celsius", PROMETHEUS.series["processor"] + "}", "{{place}} {{thing}}"),
        one("Memory and disk", "timeseries", "percent", PROMETHEUS.series["usage"] + "}", PROMETHEUS.where),
        one("Length of a scrape", "timeseries", "s", 'scrape_duration_seconds{job="constellation"}', "{{instance}}"),
    )


def _of_readings() -> tuple[Panel, ...]:
    """What readings say of the system, where services say nothing."""
    every = '{__name__=~"${root}_.+"}'
    series, where = VICTORIAMETRICS.series, VICTORIAMETRICS.where
    return (
        Panel("Readings a minute", "timeseries", "none", ((f"sum(count_over_time({every}[5m])) / 5", "readings"),)),
        Panel("Topics", "stat", "none", ((f"count({every})", "topics"),)),
        Panel("Age of the newest reading", "bargauge", "s", ((f"min by (place, thing) (lag({every}[1h]))", "{{place}} {{thing}}"),), 24),
        Panel("Processor", "timeseries", "celsius", ((series["processor"] + "}", "{{place}} {{thing}}"),)),
        Panel("Memory and disk", "timeseries", "percent", ((series["usage"] + "}", where),)),
        Panel("Faults", "state-timeline", "none", ((series["fault"] + "}", where),), 24),
    )  # fmt: skip


def dashboard(server: Server, name: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """One dashboard as Grafana provisions it (schema 39, Grafana 11)."""
    source = {"type": "prometheus", "uid": f"constellation-{server.name}"}
    return {
        "uid": f"constellation-{server.name}-{name}",
        "title": f"Constellation: {name}",
        "tags": ["constellation", server.name],
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 39,
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": _regions(server, source) if name == "boiler" else []},
        "templating": {"list": _variables(server, name, source)},
        "panels": list(_laid_out(panels, source)),
    }


def _laid_out(panels: tuple[Panel, ...], source: dict[str, str]) -> list[dict[str, Any]]:
    found, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > 24:  # noqa: PLR2004 (columns of Grafana's grid)
            x, y = 0, y + 8
        now = panel.kind in ("stat", "gauge", "bargauge")
        found.append(
            {
                "id": number,
                "title": panel.title,
                "type": panel.kind,
                "datasource": source,
                "gridPos": {"x": x, "y": y, "w": panel.width, "h": 8},
                "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
                "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if now else {},
                "targets": [
                    {
                        "refId": chr(ord("A") + place),
                        "datasource": source,
                        "editorMode": "code",
                        "expr": expression,
                        "legendFormat": legend,
                        "instant": now,
                        "range": not now,
                    }
                    for place, (expression, legend) in enumerate(panel.queries)
                ],
            }
        )
        x += panel.width
    return found


def _regions(server: Server, source: dict[str, str]) -> list[dict[str, Any]]:
    """Phases as annotations: samples that follow each other in one step are one region."""
    return [
        {
            "name": phase,
            "datasource": source,
            "enable": True,
            "iconColor": colour,
            "expr": f'{server.state}place="$boiler",state="{phase}"}} == 1',
            "step": "60s",
            "titleFormat": phase,
        }
        for phase, colour in PHASES.items()
    ]


def _variables(server: Server, name: str, source: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if server is VICTORIAMETRICS:
        root = {"text": "home", "value": "home"}
        found.append(
            {"name": "root", "label": "Root of the topics", "type": "textbox", "query": "home", "current": root}
        )
    metric = {"boiler": f"{server.state}}}", "battery": f"{server.series['soc']}}}"}.get(name)
    if metric:
        query = {"query": f"label_values({metric}, place)", "refId": "places"}
        found.append({"name": name, "type": "query", "datasource": source, "query": query, "refresh": 2, "sort": 1})
    return found


def main(folder: Path) -> None:
    """Write all of them."""
    for server in (PROMETHEUS, VICTORIAMETRICS):
        for name, panels in boards(server).items():
            path = folder / server.name / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(dashboard(server, name, panels), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
