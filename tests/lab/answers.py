"""What Prometheus answers to the alerting rules and the dashboards, beside a world in which nearly all happens."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from harness import REPOSITORY
from prometheus_server import Prometheus, Refused

sys.path.insert(0, str(REPOSITORY / "tests/rules"))

import questions  # noqa: E402  (the path above)
from questions import Question  # noqa: E402

# Nothing like it happens there.
NEVER_SEEN = {"pangolin_client_bandwidth_bytes_total", "pangolin_relay_bytes_total"}
# An alert that has lasted for as long as its rule demands takes minutes.
UNANSWERED = {"pangolin-overview: Firing alerts A"}


def complaints(server: Prometheus, seldom: set[str] = frozenset()) -> Iterator[str]:
    """Of questions that Prometheus refuses, and of those to which it knows nothing although all of their metrics are
    there. `seldom` are metrics that this host cannot have."""
    there = set(server.get("label/__name__/values"))
    asked = [*questions.of_dashboards(), *questions.of_variables()]
    asked += [Question(f"documented: {query}", query) for query in questions.DOCUMENTED_QUERIES]
    for question in asked:
        expression = questions.substituted(question.expression)
        missing = questions.parts(expression).metrics - there
        yield from (f"{question.where}: nothing has {name}" for name in missing - NEVER_SEEN - seldom)
        try:
            answer = server.query(expression)
        except Refused as error:
            yield f"{question.where}: {error}"
            continue
        if not answer and not missing and question.where not in UNANSWERED:
            yield f"{question.where}: no answer to {expression}"
        yield from legend_complaints(question, [labels for labels, _ in answer])


def legend_complaints(question: Question, answer: list[dict[str, str]]) -> Iterator[str]:
    """Each series has the labels that its legend shows, and no two look the same; a table's columns are the labels."""
    if question.legend in ("", "__auto"):
        return
    wanted = re.findall(r"\{\{(\w+)\}\}", question.legend)
    shown = [tuple(labels.get(label) for label in wanted) for labels in answer]
    if any(None in each for each in shown):
        yield f"{question.where}: {question.legend} of {answer[:3]}"
    if len(set(shown)) < len(shown):
        yield f"{question.where}: {question.legend} is the same for several of {answer}"


def rule_complaints(server: Prometheus) -> Iterator[str]:
    for rule in server.rules():
        if rule["health"] != "ok":
            yield f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}"


def alerts(server: Prometheus) -> set[tuple[str, ...]]:
    """What fires or is about to: the alert's name, and what it is about."""
    about = ("site_id", "resource_id", "backend", "source", "domain", "map", "reason")
    return {
        (alert["labels"]["alertname"], *(alert["labels"][label] for label in about if label in alert["labels"]))
        for alert in server.get("alerts")["alerts"]
    }


def choices(server: Prometheus, where: str) -> dict[str, str]:
    """What Grafana offers for a variable, text by value, as it makes them from the answer."""
    variable = dict(questions.variables())[where]
    expression = re.fullmatch(r"query_result\((.*)\)", variable["query"])[1]
    pattern = re.compile(variable["regex"].strip("/").replace("(?<", "(?P<"))
    found = {}
    for labels, value in server.query(questions.substituted(expression)):
        name = labels.pop("__name__", "")
        text = (
            name + "{" + ",".join(f'{label}="{content}"' for label, content in labels.items()) + f"}} {value} 0"
        )
        matched = pattern.search(text)
        found[matched["value"]] = matched["text"]
    return found
