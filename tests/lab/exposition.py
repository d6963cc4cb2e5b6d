"""Reads the Prometheus text format (0.0.4), and refuses whatever is not exactly that."""

from __future__ import annotations

import re
from collections.abc import Iterator

Number = int | float
Labels = frozenset[tuple[str, str]]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|Inf)|NaN")
_TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


class MalformedExposition(AssertionError):
    pass


class Samples:
    """One scrape: values by family name and labels."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, Labels], Number] = {}
        self.types: dict[str, str] = {}

    def select(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], Number]]:
        """All series of the name that have at least these labels."""
        wanted = set(labels.items())
        for (series, having), value in self.values.items():
            if series == name and wanted <= having:
                yield dict(having), value

    def value(self, name: str, **labels: str) -> Number | None:
        """The one series of the name that has these labels; None without any, an error when there are several."""
        found = list(self.select(name, **labels))
        if len(found) > 1:
            raise AssertionError(f"{name} with {labels} is not one series but {len(found)}: {found}")
        return found[0][1] if found else None

    def total(self, name: str, **labels: str) -> Number:
        return sum(value for _, value in self.select(name, **labels))

    def counters(self) -> dict[tuple[str, Labels], Number]:
        return {
            key: value for key, value in self.values.items() if self.types[self.family(key[0])] == "counter"
        }

    def family(self, series: str) -> str:
        for name in (series, *(series.removesuffix(suffix) for suffix in ("_bucket", "_sum", "_count"))):
            if name in self.types and (name == series or self.types[name] in _SUFFIXES):
                return name
        raise MalformedExposition(f"{series} has no TYPE line")


def parse(text: str) -> Samples:
    samples = Samples()
    if not text.endswith("\n"):
        raise MalformedExposition("the last line has no end")
    current, finished, with_help = None, set(), set()
    for number, line in enumerate(text[:-1].split("\n"), 1):
        try:
            if line.startswith("# HELP ") or line.startswith("# TYPE "):
                _, keyword, name, rest = line.split(" ", 3)
                check(_NAME.fullmatch(name), "bad family name")
                if name != current:
                    check(name not in finished, f"the family {name} is in two places")
                    finished.add(current)
                    current = name
                if keyword == "TYPE":
                    check(rest in _TYPES, f"unknown type {rest}")
                    check(name not in samples.types, "second TYPE line")
                    samples.types[name] = rest
                else:
                    check(name not in with_help, "second HELP line")
                    with_help.add(name)
            elif not line.startswith("#"):
                name, labels, value = parse_sample(line)
                check(samples.family(name) == current, f"{name} is not below its own TYPE line")
                check((name, labels) not in samples.values, "the same series twice")
                check(samples.types[current] != "counter" or value >= 0, "a negative counter")
                samples.values[name, labels] = value
        except (MalformedExposition, ValueError) as error:
            raise MalformedExposition(f"line {number}: {error}: {line[:200]}") from None
    return samples


def check(condition: object, what: str) -> None:
    if not condition:
        raise MalformedExposition(what)


def parse_sample(line: str) -> tuple[str, Labels, Number]:
    matched = _NAME.match(line)
    check(matched, "no metric name")
    name, at = matched[0], matched.end()
    labels: dict[str, str] = {}
    if line[at : at + 1] == "{":
        at += 1
        while line[at : at + 1] != "}":
            label = _LABEL.match(line, at)
            check(label, "bad label")
            check(label[1] not in labels, f"label {label[1]} twice")
            labels[label[1]] = re.sub(
                r"\\(.)", lambda escape: "\n" if escape[1] == "n" else escape[1], label[2]
            )
            at = label.end()
            check(line[at : at + 1] in (",", "}"), "bad label separator")
            at += line[at] == ","
        at += 1
    check(line[at : at + 1] == " ", "no space before the value")
    text = line[at + 1 :]
    check(_NUMBER.fullmatch(text), f"bad value {text!r}")
    if re.fullmatch(r"[+-]?\d+", text):
        return name, frozenset(labels.items()), int(text)  # exactly, also beyond 2^53
    value = float(text)
    return name, frozenset(labels.items()), int(value) if value.is_integer() else value
