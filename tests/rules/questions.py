"""What the alerting rules and the dashboards ask Prometheus: every expression, and what it is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RULES = REPOSITORY / "scripts/prometheus/pangolin_exporter.rules.yml"
DASHBOARDS = REPOSITORY / "scripts/grafana/dashboards"

# What users of Pangolin's proposed metrics are told to ask.
DOCUMENTED_QUERIES = (
    "rate(pangolin_site_bandwidth_bytes_total[5m])",
    "rate(pangolin_resource_requests_total[5m])",
    "rate(pangolin_resource_request_duration_seconds_sum[5m])"
    " / rate(pangolin_resource_request_duration_seconds_count[5m])",
    "pangolin_resource_active_connections",
    "rate(pangolin_resource_errors_total[5m])",
)

# All values of every variable of a dashboard, and what Grafana computes.
EVERYTHING = {
    "$__rate_interval": "1m",
    "$__range_s": "300",
    "$__range": "5m",
    "$instance": ".*",
    "$site_id": ".*",
    "$resource_id": ".*",
}


@dataclass(frozen=True)
class Question:
    where: str
    expression: str
    legend: str = ""


def dashboards() -> dict[str, dict]:
    """By uid."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def of_dashboards() -> Iterator[Question]:
    for uid, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield Question(
                    f"{uid}: {panel['title']} {target['refId']}", target["expr"], target["legendFormat"]
                )


def variables() -> Iterator[tuple[str, dict]]:
    """Those of dashboards that ask Prometheus, with a name for each."""
    for uid, dashboard in dashboards().items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{uid}: ${variable['name']}", variable


def of_variables() -> Iterator[Question]:
    for where, variable in variables():
        matched = re.fullmatch(r"label_values\((.*), \w+\)|query_result\((.*)\)", variable["query"])
        yield Question(where, matched[1] or matched[2])


def of_readme() -> Iterator[Question]:
    """The queries of README.md's table; one that continues another begins with dots."""
    table = (
        (REPOSITORY / "README.md").read_text().split("| question | query |\n|---|---|\n")[1].split("\n\n")[0]
    )
    for line in table.splitlines():
        for query in re.findall(r"`([^`]+)`", line.split(" | ")[1].replace("\\|", "|")):
            yield Question("README.md", query.replace("...", "pangolin_tunnel_up"))


def substituted(expression: str, values: dict[str, str] = EVERYTHING) -> str:
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression


STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
SELECTOR = re.compile(r"([a-zA-Z_]\w*)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
WORD = re.compile(r"(?<![\w$.])[a-zA-Z_]\w*")
FUNCTIONS = {
    *("sum", "min", "max", "avg", "count", "group", "topk", "and", "or", "unless", "offset"),
    *("rate", "increase", "changes", "absent", "clamp_max", "max_over_time", "histogram_quantile"),
    *("label_replace", "vector", "time"),
}


@dataclass(frozen=True)
class Parts:
    metrics: set[str]
    matchers: list[tuple[str, str, str]]  # metric, label, value
    grouping: set[str]  # labels
    made: set[str]  # labels that label_replace() sets


def parts(expression: str) -> Parts:
    """Of an expression whose variables have been substituted."""
    matchers = [
        (metric, label, value)
        for metric, selector in SELECTOR.findall(expression)
        for label, _, value in MATCHER.findall(selector)
    ]
    made = set(re.findall(r', "(\w+)", "\$1", "\w+"', expression))
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset \w+", "", expression)
    grouping = {label.strip() for _, labels in GROUPING.findall(rest) for label in labels.split(",")} - {""}
    words = set(WORD.findall(STRING.sub("", GROUPING.sub("", rest))))
    return Parts(words - FUNCTIONS, matchers, grouping, made)
