#!/usr/bin/env python3
"""Alerting rules and dashboards against the catalogue, and against Prometheus' own parser.

python3 tests/rules/test_questions.py [--exporter build/pangolin_exporter]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "lab")]

import harness  # noqa: E402  (the path above)
import questions  # noqa: E402
from prometheus_server import Prometheus, Refused  # noqa: E402

UIDS = {"pangolin-overview", "pangolin-resource", "pangolin-server", "pangolin-site"}
KINDS = {"heatmap", "row", "stat", "state-timeline", "table", "timeseries"}
# Prometheus' own series, and what it adds to all.
OTHERS = {"up": set(), "ALERTS": {"alertname", "alertstate"}}
SCRAPED = {"job", "instance"}
# Values that no source file has: Prometheus', HTTP's and the kernel's.
FOREIGN_VALUES = {"firing", "Pangolin.*", "pangolin", ".*", "5..", "no_socket", "tcp_.*"}


def values_of(key: str, document: object) -> Iterator[object]:
    """All values of a key, however deep."""
    if isinstance(document, list):
        for each in document:
            yield from values_of(key, each)
    elif isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                yield value
            yield from values_of(key, value)


class Questions(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls) -> None:
        listing = subprocess.run(
            [harness.exporter_path, "catalog", "--format", "json"], check=True, capture_output=True, text=True
        ).stdout
        cls.labels = dict(OTHERS)
        for row in json.loads(listing):
            histogram = row["type"] in ("histogram", "summary")
            for suffix in ("_bucket", "_sum", "_count") if histogram else ("",):
                cls.labels[row["name"] + suffix] = set(row["labels"]) | (
                    {"le"} if suffix == "_bucket" else set()
                )
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-"))
        cls.prometheus = cls.enterClassContext(Prometheus(Path(folder), rule_files=[questions.RULES]))
        cls.prometheus.wait_ready()
        cls.alerts = cls.prometheus.rules()
        cls.asked = [
            *(questions.Question(rule["name"], rule["query"]) for rule in cls.alerts),
            *questions.of_dashboards(),
            *questions.of_variables(),
            *questions.of_readme(),
            *(questions.Question("the documented queries", query) for query in questions.DOCUMENTED_QUERIES),
        ]

    def complaints(self, expression: str) -> list[str]:
        """Of names that the catalogue does not have."""
        made_of = questions.parts(expression)
        wrong = [f"no metric {name}" for name in made_of.metrics - self.labels.keys()]
        known = (
            set().union(*(self.labels.get(name, set()) for name in made_of.metrics)) | SCRAPED | made_of.made
        )
        wrong += [f"no label {label}" for label in made_of.grouping - known]
        for metric, label, _ in made_of.matchers:
            if label not in self.labels.get(metric, set()) | SCRAPED:
                wrong.append(f"{metric} has no label {label}")
        return wrong

    def test_names_are_the_catalogues(self) -> None:
        self.assertGreater(len(self.asked), 150)
        for question in self.asked:
            with self.subTest(question.where):
                self.assertEqual(self.complaints(questions.substituted(question.expression)), [])

    def test_a_wrong_name_is_found(self) -> None:
        for expression, complaint in (
            ("rate(pangolin_site_bytes_total[1m])", "no metric pangolin_site_bytes_total"),
            ("pangolin_tunnel_up_bucket", "no metric pangolin_tunnel_up_bucket"),
            ("pangolin_tunnel_latency_seconds", "no metric pangolin_tunnel_latency_seconds"),
            ('pangolin_tunnel_up{site="a"}', "pangolin_tunnel_up has no label site"),
            ("sum by (site) (pangolin_tunnel_up)", "no label site"),
            ("x * on (a, site_id) group_left (name) pangolin_site_info", "no metric x"),
        ):
            self.assertIn(complaint, self.complaints(expression))

    def test_values_are_those_of_the_sources(self) -> None:
        folders = ("exporter", "userspace", "loader")
        sources = [path for folder in folders for path in (questions.REPOSITORY / folder).rglob("*.[hc]*")]
        literals = set(re.findall(r'"([\w.]+)"', "\n".join(path.read_text() for path in sources)))
        for question in self.asked:
            for metric, label, value in questions.parts(questions.substituted(question.expression)).matchers:
                missing = set(value.split("|")) - literals - FOREIGN_VALUES
                self.assertFalse(missing, f"{question.where}: {metric} {label}")

    def test_prometheus_understands_all(self) -> None:
        with self.assertRaises(Refused):
            self.prometheus.query("sum by (site_id")
        for question in self.asked:
            with self.subTest(question.where):
                self.prometheus.query(questions.substituted(question.expression))

    def test_all_metrics_of_the_document_are_shown(self) -> None:
        header = (questions.REPOSITORY / "exporter/metrics_service.h").read_text()
        names = {f"pangolin_{name}" for name in re.findall(r"^ *each\(\w+, ([a-z_]+)\)", header, re.MULTILINE)}
        self.assertEqual(len(names), 46)
        shown = set()
        for question in questions.of_dashboards():
            made_of = questions.parts(questions.substituted(question.expression))
            shown |= {re.sub("_(bucket|sum|count)$", "", name) for name in made_of.metrics} | made_of.metrics
        self.assertEqual(names - shown, set())


class Alerts(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        with (
            tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-") as folder,
            Prometheus(Path(folder), rule_files=[questions.RULES]) as server,
        ):
            server.wait_ready()
            cls.rules = server.rules()

    def test_each_says_what_it_is(self) -> None:
        self.assertGreater(len(self.rules), 20)
        for rule in self.rules:
            with self.subTest(rule["name"]):
                self.assertEqual(rule["type"], "alerting")
                self.assertGreaterEqual(rule["duration"], 60)
                self.assertIn(rule["labels"]["severity"], ("critical", "warning", "info"))
                self.assertEqual(set(rule["annotations"]), {"summary", "description"})
                self.assertGreater(len(rule["annotations"]["description"]), 80)

    def test_each_fires_in_a_case(self) -> None:
        cases = "".join(path.read_text() for path in Path(__file__).parent.glob("*_test.yml"))
        firing = set(re.findall(r'labels: \'\{alertname="(\w+)"', cases))
        self.assertEqual(firing, {rule["name"] for rule in self.rules})


class Dashboards(unittest.TestCase):
    def test_identities(self) -> None:
        """Links and provisioned dashboards hold on to them."""
        for name, dashboard in questions.dashboards().items():
            self.assertEqual(dashboard["uid"], name)
            identities = [panel["id"] for panel in dashboard["panels"]]
            self.assertEqual(len(identities), len(set(identities)), name)
        self.assertEqual(set(questions.dashboards()), UIDS)

    def test_panels(self) -> None:
        for name, dashboard in questions.dashboards().items():
            taken = set()
            for panel in dashboard["panels"]:
                with self.subTest(f"{name}: {panel['title']}"):
                    self.assertIn(panel["type"], KINDS)
                    place = panel["gridPos"]
                    self.assertLessEqual(place["x"] + place["w"], 24)
                    cells = {
                        (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
                    }
                    self.assertFalse(cells & taken, "panels above one another")
                    taken |= cells
                    if panel["type"] != "row":
                        self.assertTrue(panel["description"])
                        self.assertTrue(panel["targets"])

    def test_the_data_source_is_the_variable(self) -> None:
        for name, dashboard in questions.dashboards().items():
            sources = list(values_of("datasource", dashboard))
            self.assertGreater(len(sources), 20)
            for source in sources:
                self.assertEqual(source, {"type": "prometheus", "uid": "${datasource}"}, name)
            self.assertEqual(dashboard["templating"]["list"][0]["type"], "datasource")

    def test_windows_are_grafanas_choice(self) -> None:
        """None that a scrape interval makes too short."""
        expressions = "".join(question.expression for question in questions.of_dashboards())
        self.assertEqual(set(re.findall(r"\[([^\]]*)\]", expressions)), {"$__rate_interval", "$__range"})


def series(metric: str, **labels: str) -> str:
    return metric + "{" + ", ".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


class Names(unittest.TestCase):
    """Of exporters that have the same ids for sites, resources and backends."""

    EXPORTERS = (
        {"job": "pangolin", "instance": "a"},
        {"job": "pangolin", "instance": "b"},
        {"job": "x", "instance": "b"},
    )
    SITE = {"site_id": "home"}
    RESOURCE = {"resource_id": "web"}
    BACKEND = {"backend": "b:1", "site_id": "home"}
    # What a question's answer has, but for the exporter and the name.
    ANSWERS = (
        ("pangolin-overview: Sites A", "name", SITE),
        ("pangolin-overview: Tunnels A", "name", SITE),
        ("pangolin-overview: Connections in use A", "name", RESOURCE),
        ("pangolin-site: Backends A", "target", BACKEND),
        ("pangolin-resource: Health A", "target", BACKEND),
    )

    def published(self) -> Iterator[str]:
        for exporter in self.EXPORTERS:
            name = "of " + " ".join(exporter.values())
            yield series("pangolin_site_info", **exporter, **self.SITE, name=name)
            yield series("pangolin_site_online", **exporter, **self.SITE, transport="websocket")
            yield series("pangolin_tunnel_up", **exporter, **self.SITE, transport="wireguard")
            yield series("pangolin_resource_info", **exporter, **self.RESOURCE, name=name)
            yield series("pangolin_resource_active_connections", **exporter, **self.SITE, **self.RESOURCE)
            yield series("pangolin_backend_info", **exporter, **self.BACKEND, **self.RESOURCE, target=name)
            yield series("pangolin_backend_health_status", **exporter, **self.BACKEND)

    def answered(self, label: str, labels: dict[str, str]) -> list[dict]:
        return [
            {"labels": series("", **exporter, **labels, **{label: "of " + " ".join(exporter.values())}), "value": 1}
            for exporter in self.EXPORTERS
        ]

    def test_each_exporter_has_its_own(self) -> None:
        asked = {each.where: questions.substituted(each.expression) for each in questions.of_dashboards()}
        case = {
            "interval": "1m",
            "input_series": [{"series": each, "values": "1+0x10"} for each in self.published()],
            "promql_expr_test": [
                {"expr": asked[where], "eval_time": "5m", "exp_samples": self.answered(label, labels)}
                for where, label, labels in self.ANSWERS
            ],
        }
        with tempfile.NamedTemporaryFile("w", prefix="pangolin_exporter-test-", suffix=".yml") as file:
            json.dump({"tests": [case]}, file)
            file.flush()
            tested = subprocess.run(["promtool", "test", "rules", file.name], capture_output=True, text=True)
        self.assertEqual(tested.returncode, 0, tested.stdout + tested.stderr)

    def test_all_are_joined_by_exporter(self) -> None:
        joins = 0
        for question in questions.of_dashboards():
            for labels in re.findall(r"on \(([^)]*)\) group_left \((?:name|target)\)", question.expression):
                joins += 1
                self.assertLess(SCRAPED, set(labels.split(", ")), question.where)
                self.assertTrue("{{instance}}" in question.legend or question.legend == "__auto", question.where)
        self.assertGreater(joins, 40)


if __name__ == "__main__":
    harness.main()
