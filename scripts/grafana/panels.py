"""Panels and dashboards in Grafana's JSON, schema 39 (Grafana 11 and newer)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .expressions import Catalogue

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
GREEN, RED, YELLOW = "green", "red", "orange"

# Values of gauges that are 0 or 1.
STATES = [
    {
        "type": "value",
        "options": {
            "0": {"text": "down", "color": RED, "index": 0},
            "1": {"text": "up", "color": GREEN, "index": 1},
        },
    }
]


@dataclass(frozen=True)
class Query:
    expression: str
    legend: str = ""
    instant: bool = False
    format: str = "time_series"


def named_legend(label: str, more: str = "") -> str:
    """For what expressions.named() gives: two exporters may have the same name for something."""
    return " ".join(filter(None, (f"{{{{{label}}}}}", more, "({{instance}})")))


@dataclass
class Panel:
    """One panel; what it says of itself comes from the catalogue's help and `note`."""

    title: str
    queries: list[Query]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    note: str = ""
    thresholds: list[tuple[float | None, str]] = field(default_factory=lambda: [(None, GREEN)])
    options: dict = field(default_factory=dict)
    custom: dict = field(default_factory=dict)
    defaults: dict = field(default_factory=dict)
    overrides: list[dict] = field(default_factory=list)
    transformations: list[dict] = field(default_factory=list)


@dataclass
class Row:
    title: str
    panels: list[Panel]


@dataclass
class Dashboard:
    uid: str
    title: str
    description: str
    rows: list[Row]
    variables: list[dict]

    def scopes(self) -> tuple[str, ...]:
        return tuple(variable["name"] for variable in self.variables)


def graph(title: str, *queries: Query, **more) -> Panel:
    options = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    custom |= more.pop("custom", {})
    return Panel(title, list(queries), options=options, custom=custom, **more)


def stacked(title: str, *queries: Query, **more) -> Panel:
    return graph(
        title, *queries, custom={"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 30}, **more
    )


def events(title: str, *queries: Query, **more) -> Panel:
    """What happens seldom."""
    custom = {"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal", "group": "A"}}
    return graph(title, *queries, custom=custom, **more)


def number(title: str, expression: str, **more) -> Panel:
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "auto",
        "justifyMode": "auto",
        "orientation": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }
    return Panel(title, [Query(expression)], "stat", **({"width": 4, "height": 4} | more), options=options)


def states(title: str, *queries: Query, **more) -> Panel:
    options = {
        "mergeValues": True,
        "showValue": "never",
        "rowHeight": 0.8,
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    more = {"defaults": {"mappings": STATES}} | more
    return Panel(
        title,
        list(queries),
        "state-timeline",
        options=options,
        custom={"fillOpacity": 70, "lineWidth": 0},
        **more,
    )


def heatmap(title: str, histogram: str, unit: str = "s", **more) -> Panel:
    options = {
        "calculate": False,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "steps": 64,
            "exponent": 0.5,
            "fill": "dark-orange",
            "reverse": False,
        },
        "yAxis": {"axisPlacement": "left", "unit": unit},
        "cellGap": 1,
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
        "legend": {"show": True},
        "filterValues": {"le": 1e-9},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "showValue": "never",
    }
    query = Query(f"sum by (le) (increase({histogram}_bucket[]))", "{{le}}", format="heatmap")
    return Panel(title, [query], "heatmap", options=options, **more)


def table(title: str, columns: dict[str, str], *queries: Query, **more) -> Panel:
    """`columns` are the names under which those of the answer are shown, in this order; others are left out."""
    order = {name: place for place, name in enumerate(columns)}
    return Panel(
        title,
        list(queries),
        "table",
        options={"showHeader": True, "cellHeight": "sm", "frameIndex": 0},
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}},
            {"id": "organize", "options": {"indexByName": order, "renameByName": columns, "excludeByName": {}}},
        ],
        **more,
    )


def column(name: str, **properties) -> dict:
    """An override for a table's column, by the name that is shown."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [
            {"id": identity.replace("__", "."), "value": value} for identity, value in properties.items()
        ],
    }


def link(title: str, uid: str, parameter: str) -> list[dict]:
    """From a table's cell to the dashboard of what it names."""
    variables = "${datasource:queryparam}&${instance:queryparam}&${__url_time_range}"
    return [{"title": title, "url": f"/d/{uid}?var-{parameter}=${{__value.raw}}&{variables}"}]


def datasource_variable() -> dict:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
        "current": {"selected": True, "text": "default", "value": "default"},
        "options": [],
    }


def query_variable(name: str, label: str, query: str, regex: str = "") -> dict:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": query,
        "regex": regex,
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "skipUrlSync": False,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
    }


def instance_variable() -> dict:
    return query_variable("instance", "Exporter", "label_values(pangolin_exporter_build_info, instance)")


def named_variable(name: str, label: str, info: str, fallback: str) -> dict:
    """Shows names and holds ids, also those of which nothing but a number is known. Prometheus sorts labels by name."""
    unnamed = f'label_replace(group by ({name}) ({fallback}), "name", "$1", "{name}", "(.+)")'
    query = f"query_result({info} or on ({name}) {unnamed})"
    return query_variable(name, label, query, f'/[{{,]name="(?<text>[^"]*)".*[,]{name}="(?<value>[^"]+)"/')


def described(panel: Panel, catalogue: Catalogue) -> str:
    families = dict.fromkeys(name for query in panel.queries for name in catalogue.used(query.expression))
    # Names are joined nearly everywhere.
    families = [name for name in families if not name.endswith("_info")] or families
    lines = [f"`{name}`: {catalogue.rows[name]['help']}" for name in families]
    return "\n\n".join([panel.note, *lines] if panel.note else lines)


def target(query: Query, place: int, panel: Panel, catalogue: Catalogue, scopes: tuple[str, ...]) -> dict:
    return {
        "refId": chr(ord("A") + place),
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": catalogue.scoped(query.expression, scopes),
        "legendFormat": query.legend or "__auto",
        "format": query.format,
        "instant": query.instant,
        "range": not query.instant,
    }


def panel_json(
    panel: Panel, identity: int, x: int, y: int, catalogue: Catalogue, scopes: tuple[str, ...]
) -> dict:
    defaults = {
        "unit": panel.unit,
        "color": {"mode": "thresholds" if panel.kind in ("stat", "state-timeline") else "palette-classic"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": at, "color": color} for at, color in panel.thresholds],
        },
        "custom": panel.custom,
        "mappings": [],
    } | panel.defaults
    return {
        "id": identity,
        "type": panel.kind,
        "title": panel.title,
        "description": described(panel, catalogue),
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": [
            target(query, place, panel, catalogue, scopes) for place, query in enumerate(panel.queries)
        ],
        "options": panel.options,
        "fieldConfig": {"defaults": defaults, "overrides": panel.overrides},
        "transformations": panel.transformations,
    }


def laid_out(rows: Iterable[Row], catalogue: Catalogue, scopes: tuple[str, ...]) -> list[dict]:
    """Panels from left to right, and below one another where they do not fit."""
    found: list[dict] = []
    y = 0
    for row in rows:
        found.append(
            {
                "id": len(found) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                "panels": [],
            }
        )
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            found.append(panel_json(panel, len(found) + 1, x, y, catalogue, scopes))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return found


def dashboard_json(dashboard: Dashboard, catalogue: Catalogue) -> dict:
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["pangolin"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "title": "Pangolin",
                "tags": ["pangolin"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "",
                "url": "",
            }
        ],
        "annotations": {"list": []},
        "templating": {"list": [datasource_variable(), *dashboard.variables]},
        "panels": laid_out(dashboard.rows, catalogue, dashboard.scopes()),
    }
