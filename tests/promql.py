"""A checker of PromQL for the dashboard and the alerts: what promtool looks for, and that all names exist.

It knows the part of the language that they use, and refuses the rest: an expression that passes is
one that Prometheus takes, over series and labels that are really there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from worker.observe.metrics import Metric

#: Labels that Prometheus gives to every series that it scrapes.
TARGET_LABELS: Final = frozenset({"job", "instance"})

_DURATION = r"(?:\d+(?:ms|[smhdwy]))+"
#: Grafana puts a duration in its place.
_INTERVAL = r"\$__rate_interval"
_TOKENS = re.compile(
    rf"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<duration>{_DURATION}|{_INTERVAL})(?![\w.])
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?!\w)
    | (?P<name>[A-Za-z_:][\w:]*)
    | (?P<operator>=~|!~|==|!=|>=|<=|[-+*/%^<>=(){{}}\[\],])
    )""",
    re.VERBOSE,
)
_AGGREGATIONS: Final = {"sum", "min", "max", "avg", "count"}
_RANKINGS: Final = {"topk", "bottomk"}
_SETS: Final = {"and", "or", "unless"}
_BINARY: Final = {*_SETS, "==", "!=", ">", "<", ">=", "<=", "+", "-", "*", "/", "%", "^"}
#: Functions of a range of a counter, or of a gauge, with the number of further scalars.
_OF_COUNTERS: Final = {"rate": 0, "increase": 0, "irate": 0}
_OF_GAUGES: Final = {"predict_linear": 1, "deriv": 0, "delta": 0, "max_over_time": 0}
_OF_VECTORS: Final = {"absent", "abs", "ceil", "floor", "time"}


class Wrong(Exception):
    """What Prometheus would not take, or what would never match anything."""


@dataclass(frozen=True)
class Value:
    """What an expression gives."""

    #: None: a number, which has no labels.
    labels: frozenset[str] | None
    #: Of a range, what it is of; None: no range.
    range_of: Metric | None = None
    series: str = ""


def series_of(metric: Metric) -> tuple[str, ...]:
    """The names of a metric's time series."""
    if metric.kind == "histogram":
        return (f"{metric.name}_bucket", f"{metric.name}_sum", f"{metric.name}_count")
    return (metric.name,)


def check(expression: str, declared: Iterable[Metric]) -> frozenset[str]:
    """Check an expression; gives the labels of its result.

    Raises:
        Wrong: says what is the matter.
    """
    parser = _Parser(expression, {name: m for m in declared for name in series_of(m)})
    value = parser.expression()
    if parser.tokens:
        raise Wrong(f"'{parser.tokens[0][1]}' is not expected")
    if value.range_of is not None:
        raise Wrong("a range is no result")
    return value.labels or frozenset()


class _Parser:
    def __init__(self, text: str, series: dict[str, Metric]) -> None:
        self._series = series
        self.tokens = []
        at = 0
        while text[at:].strip():
            found = _TOKENS.match(text, at)
            if found is None:
                raise Wrong(f"cannot be read from here on: {text[at : at + 20]}")
            kind = str(found.lastgroup)
            self.tokens.append((kind, found[kind]))
            at = found.end()

    def expression(self) -> Value:
        value = self._operand()
        while self.tokens and self.tokens[0][1] in _BINARY:
            operator = self.tokens.pop(0)[1]
            if self._peek() == "on":
                value = self._joined(operator, value)
            else:
                value = _combine(operator, value, self._operand())
        return value

    def _joined(self, operator: str, left: Value) -> Value:
        """Of joins only those of many series with one that brings labels: `on (...) group_left (...)`."""
        on = frozenset(self._names("on") or ())
        brought = self._names("group_left")
        if operator in _SETS or brought is None:
            raise Wrong("'on' wants an operator before it and group_left behind it")
        right = self._operand()
        for side in (left, right):
            if side.range_of is not None or not on <= (side.labels or frozenset()):
                raise Wrong(f"'on' never matches: not all have {sorted(on)}")
        if not set(brought) <= (right.labels or frozenset()):
            raise Wrong(f"nothing brings the label {', '.join(brought)}")
        return Value((left.labels or frozenset()) | frozenset(brought))

    def _operand(self) -> Value:
        kind, text = self._next()
        if text == "-":
            return self._operand()
        if text == "(":
            value = self.expression()
            self._expect(")")
            return value
        if kind == "number":
            return Value(None)
        if kind != "name" or text in _SETS:
            raise Wrong(f"'{text}' is not expected")
        if text in _AGGREGATIONS or text in _RANKINGS:
            return self._aggregation(text)
        if self._peek() == "(":
            return self._call(text)
        return self._selector(text)

    def _aggregation(self, name: str) -> Value:
        by = self._names("by")
        arguments = self._arguments()
        if by is None:
            by = self._names("by")
        if name in _RANKINGS:
            number = arguments.pop(0) if arguments else None
            if number is None or number.labels is not None:
                raise Wrong(f"{name} wants a number first")
        [vector] = arguments if len(arguments) == 1 else [None]
        if vector is None or vector.labels is None or vector.range_of is not None:
            raise Wrong(f"{name} wants one vector")
        kept = frozenset(by or ())
        if not kept <= vector.labels:
            raise Wrong(f"no label {', '.join(sorted(kept - vector.labels))} to group by")
        return vector if name in _RANKINGS else Value(kept)

    def _names(self, word: str) -> list[str] | None:
        """The labels in brackets behind a word; None if the word is not there."""
        if self._peek() != word:
            return None
        self._next()
        self._expect("(")
        names = []
        while self._peek() != ")":
            kind, text = self._next()
            if kind != "name":
                raise Wrong(f"'{text}' is no label")
            names.append(text)
            if self._peek() == ",":
                self._next()
        self._expect(")")
        return names

    def _call(self, name: str) -> Value:
        arguments = self._arguments()
        if name == "histogram_quantile":
            if len(arguments) != 2 or arguments[0].labels is not None:
                raise Wrong(f"{name} wants a number and a vector")
            if "le" not in (arguments[1].labels or ()):
                raise Wrong(f"{name} wants buckets: the label le is not there")
            return Value((arguments[1].labels or frozenset()) - {"le"})
        if name in _OF_COUNTERS or name in _OF_GAUGES:
            more = {**_OF_COUNTERS, **_OF_GAUGES}[name]
            if len(arguments) != 1 + more or arguments[0].range_of is None:
                raise Wrong(f"{name} wants a range such as [10m]")
            is_gauge = arguments[0].range_of.kind == "gauge"
            if is_gauge != (name in _OF_GAUGES):
                raise Wrong(f"{name} of a {arguments[0].range_of.kind}: {arguments[0].series}")
            return Value(arguments[0].labels)
        if name in _OF_VECTORS:
            if name == "time" and not arguments:
                return Value(None)
            if len(arguments) != 1 or arguments[0].range_of is not None:
                raise Wrong(f"{name} wants one vector")
            return Value(frozenset()) if name == "absent" else arguments[0]
        raise Wrong(f"no function {name}")

    def _arguments(self) -> list[Value]:
        self._expect("(")
        found = []
        while self._peek() != ")":
            found.append(self.expression())
            if self._peek() == ",":
                self._next()
            elif self._peek() != ")":
                raise Wrong("an argument does not end")
        self._expect(")")
        return found

    def _selector(self, name: str) -> Value:
        metric = self._series.get(name)
        if metric is None:
            raise Wrong(f"no metric {name}")
        labels = TARGET_LABELS | set(metric.labels)
        if name.endswith("_bucket"):
            labels |= {"le"}
        if self._peek() == "{":
            self._next()
            while self._peek() != "}":
                self._matcher(name, labels)
            self._next()
        if self._peek() != "[":
            self._offset()
            return Value(labels)
        self._next()
        self._duration()
        self._expect("]")
        self._offset()
        return Value(labels, metric, name)

    def _offset(self) -> None:
        if self._peek() == "offset":
            self._next()
            self._duration()

    def _duration(self) -> None:
        kind, text = self._next()
        if kind != "duration":
            raise Wrong(f"'{text}' is no duration")

    def _matcher(self, metric: str, labels: frozenset[str]) -> None:
        kind, label = self._next()
        if kind != "name" or label not in labels:
            raise Wrong(f"{metric} has no label {label}")
        _kind, operator = self._next()
        if operator not in ("=", "!=", "=~", "!~"):
            raise Wrong(f"'{operator}' compares no label")
        kind, text = self._next()
        if kind != "string":
            raise Wrong(f"'{text}' is no string")
        if self._peek() == ",":
            self._next()
        elif self._peek() != "}":
            raise Wrong("a list of labels does not end")

    def _peek(self) -> str | None:
        return self.tokens[0][1] if self.tokens else None

    def _next(self) -> tuple[str, str]:
        if not self.tokens:
            raise Wrong("it ends too early")
        return self.tokens.pop(0)

    def _expect(self, text: str) -> None:
        if self._peek() != text:
            raise Wrong(f"'{text}' is missing")
        self._next()


def _combine(operator: str, left: Value, right: Value) -> Value:
    if left.range_of is not None or right.range_of is not None:
        raise Wrong(f"'{operator}' of a range")
    if left.labels is None or right.labels is None:
        if operator in _SETS:
            raise Wrong(f"'{operator}' of a number")
        return Value(left.labels if left.labels is not None else right.labels)
    if left.labels != right.labels and operator != "or":
        raise Wrong(f"'{operator}' never matches: {sorted(left.labels)} and {sorted(right.labels)}")
    return Value(left.labels & right.labels)
