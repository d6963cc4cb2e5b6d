"""PromQL as the dashboards need it: within a dashboard's variables, and with names where there are any."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

_SELECTOR = re.compile(r"\b((?:pangolin|process)_[a-z_]+)(?:\{([^}]*)\})?")
# What Prometheus tells exporters apart by.
EXPORTER = "job, instance"
_HISTOGRAM_SUFFIX = re.compile(r"_(bucket|sum|count)$")


class Catalogue:
    """The metrics that there are, as `pangolin_exporter catalog` says."""

    def __init__(self, exporter: Path) -> None:
        listing = subprocess.run(
            [exporter, "catalog", "--format", "json"], check=True, capture_output=True, text=True
        )
        self.rows = {row["name"]: row for row in json.loads(listing.stdout)}

    def row(self, series: str) -> dict:
        """Of a family, or of a histogram's or summary's series."""
        family = _HISTOGRAM_SUFFIX.sub("", series)
        for name in (series, family):
            if name in self.rows and (name == series or self.rows[name]["type"] in ("histogram", "summary")):
                return self.rows[name]
        raise KeyError(f"the catalogue has no {series}")

    def used(self, expression: str) -> list[str]:
        """The families of an expression, in its order."""
        return list(dict.fromkeys(self.row(match[1])["name"] for match in _SELECTOR.finditer(expression)))

    def scoped(self, expression: str, variables: tuple[str, ...]) -> str:
        """With a matcher for each variable whose label a metric has and the expression does not match itself, and with
        the window that Grafana computes for `[]`."""

        def scope(match: re.Match) -> str:
            labels = [*self.row(match[1])["labels"], "instance"]
            matchers = match[2].split(",") if match[2] else []
            own = [re.match(r"\w+", matcher)[0] for matcher in matchers]
            matchers += [f'{label}=~"${label}"' for label in variables if label in labels and label not in own]
            return f"{match[1]}{{{','.join(matchers)}}}"

        return _SELECTOR.sub(scope, expression).replace("[]", "[$__rate_interval]")


def of_each_exporter(expression: str) -> str:
    """Grouped by exporter as well: what has one id at two of them is not the same."""
    return re.sub(r"\bby \(", f"by ({EXPORTER}, ", expression)


def named(expression: str, key: str, info: str, label: str = "name") -> str:
    """Of each exporter, with a label of the _info family, by `key`; what has no _info keeps its first key in the
    label's place."""
    expression = of_each_exporter(expression)
    on = f"{EXPORTER}, {key}"
    found = f"({expression}) * on ({on}) group_left ({label}) topk by ({on}) (1, {info})"
    own = key.split(",")[0]
    return f'{found} or on ({on}) label_replace({expression}, "{label}", "$1", "{own}", "(.*)")'


def by_site(expression: str) -> str:
    return named(expression, "site_id", "pangolin_site_info")


def by_resource(expression: str) -> str:
    return named(expression, "resource_id", "pangolin_resource_info")


def by_backend(expression: str) -> str:
    return named(expression, "backend, site_id", "pangolin_backend_info", "target")


def quantile(share: float, histogram: str, by: str = "") -> str:
    grouping = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, sum by ({grouping}) (rate({histogram}[])))"


def mean(histogram: str, by: str) -> str:
    return f"sum by ({by}) (rate({histogram}_sum[])) / sum by ({by}) (rate({histogram}_count[]))"


def or_zero(expression: str) -> str:
    """For a number that is to be there when nothing has happened."""
    return f"{expression} or vector(0)"
