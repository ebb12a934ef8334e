"""A drill's report as one HTML page that needs nothing else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

from worker.cli.called import device_name, device_text, tenant_name, tenant_text
from worker.cli.terminal import age_text, count_text, date_text, first_line, printable, size_text
from worker.engine.directory import SHORT_ID
from worker.observe import states
from worker.store.upkeep.drill_report import DrillReport, Point, Restored

_WIDTH: Final = 720
_HEIGHT: Final = 180
#: Left of a chart, for the largest value's text.
_MARGIN: Final = 76
#: Left of the ages, for devices' names, and the characters that fit there.
_NAME_MARGIN: Final = 170
_NAME: Final = 22
#: Most bars of the versions over time.
_BUCKETS: Final = 36
#: Draw the age of at most this many devices: those whose newest backup is oldest.
_AGES: Final = 30
_BAR: Final = 16
_COLOURS: Final = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6ff0", "#8a8a8a"
)  # fmt: skip

_STYLE: Final = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;overflow-wrap:anywhere}
h3{font-size:1rem;margin:1.4rem 0 .3rem}
table{border-collapse:collapse;font-size:.85rem;display:block;overflow-x:auto}
td,th{padding:.2rem .7rem .2rem 0;text-align:left;white-space:nowrap}
td.n{text-align:right}th{font-weight:600;border-bottom:1px solid #8888}
code{font-family:ui-monospace,monospace}
.bad{font-weight:600;white-space:normal}
.chart{overflow-x:auto}svg{display:block;min-width:28rem;max-width:100%;height:auto}
svg text{fill:currentColor;font-size:12px}
.axis{stroke:#8888;stroke-width:1}.grid{stroke:#8884;stroke-width:1;stroke-dasharray:3 3}
.key{display:inline-block;width:.8em;height:.8em;margin-right:.3em}
.legend span{display:inline-block;margin-right:1.2em}
"""


def _colours() -> str:
    """The colours of the roles, as the pages have them."""
    light = "".join(f".{role}{{color:{each.light}}}" for role, each in states.COLOURS.items())
    dark = "".join(f".{role}{{color:{each.dark}}}" for role, each in states.COLOURS.items())
    return f"{light}\n@media (prefers-color-scheme:dark){{{dark}}}\n"


def render(reports: Sequence[DrillReport], now: dt.datetime) -> str:
    """The page, which counts ages from `now`, when the drill was."""
    restored = sum(len(report.restored) for report in reports)
    failed = sum(report.failed for report in reports)
    verdict = (
        _failures(reports)
        if failed
        else f'<p class="{states.RIGHT.role}">Every restore is {states.RIGHT.word}.</p>'
    )
    body = "".join(_report(report, now) for report in reports)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>confkeep drill {date_text(now)[:10]}</title><style>{_STYLE}{_colours()}</style></head><body>\n"
        f"<h1>Restore drill of {date_text(now)} UTC</h1>{verdict}\n"
        f"<p>{count_text(restored, 'version')} of {count_text(len(reports), 'tenant')} restored "
        "from fresh clones into empty folders and compared with the history.</p>\n"
        f"{body}</body></html>\n"
    )


def _failures(reports: Sequence[DrillReport]) -> str:
    """Each failure, with a link to the part of the page that says more."""
    failed = sum(report.failed for report in reports)
    rows = []
    for report in reports:
        rows += [
            (report.tenant_id, f"tenant {tenant_text(report.tenant_id)}: {first_line(problem)}")
            for problem in report.problems
        ]
        for one in report.restored:
            if one.problems:
                device = device_text(report.tenant_id, one.device_id)
                text = f"device {device}, commit {one.commit[:10]}: {result_of(one)}"
                rows.append((_anchor(one), text))
    items = "".join(
        f'<li><a href="#{escape(anchor)}">{escape(text)}</a></li>\n' for anchor, text in rows
    )
    said = f"{count_text(failed, 'restore')} {states.FAILED.word}:"
    return f'<p class="{states.FAILED.role}">{said}</p>\n<ul>\n{items}</ul>'


def _anchor(one: Restored) -> str:
    return f"{one.device_id}-{one.commit}"


def result_of(one: Restored) -> str:
    """How a restore ended, in a few words."""
    if one.problems:
        return f"{states.FAILED.loud}: " + "; ".join(
            first_line(problem) for problem in one.problems
        )
    if one.unrecognised_share is None:
        return f"{states.RIGHT.word}, no export"
    if not one.looks_like_routeros:
        return f"{states.RIGHT.word}, does not look like RouterOS"
    if one.unrecognised_share == 0:
        return states.RIGHT.word
    return f"{states.RIGHT.word}, {max(one.unrecognised_share, 0.001):.1%} of lines not recognised"


def figures_of(one: Restored) -> tuple[str, str, str]:
    """The export's size, the binary's size and kind, and the changed lines; blank what there is none of."""
    return (
        "" if one.export_bytes is None else size_text(one.export_bytes),
        "" if one.binary_bytes is None else f"{size_text(one.binary_bytes)} {one.binary_kind}",
        "" if one.lines_added is None else f"+{one.lines_added} -{one.lines_removed}",
    )


def _report(report: DrillReport, now: dt.datetime) -> str:
    tenant = escape(report.tenant_id)
    name = tenant_name(report.tenant_id)
    called = "" if name is None else f"{escape(printable(name))} "
    parts = [f'<h2 id="{tenant}">Tenant {called}<code>{tenant}</code></h2>\n']
    parts += [
        f'<p class="{states.FAILED.role}">{escape(first_line(problem))}</p>\n'
        for problem in report.problems
    ]
    parts.append(
        f'<p class="dim">{count_text(report.devices, "device")}, clone in {report.clone_s:.1f} s, '
        f"all in {report.duration_s:.1f} s, seed {report.seed}"
        f"{'' if report.complete else ', stopped before its end'}.</p>\n"
    )
    if report.restored:
        parts.append(_table(report.tenant_id, report.restored))
    curves = {device: points for device, points in report.curves.items() if points}
    if curves:
        parts.append(_sizes(report.tenant_id, curves) + _versions(curves))
    if report.last_seen:
        parts.append(_ages(report.tenant_id, report.last_seen, now))
    return "".join(parts)


def _table(tenant_id: str, restored: Iterable[Restored]) -> str:
    titles = ("device", "commit", "captured (UTC)", "export", "binary", "lines", "result")
    rows = []
    for one in restored:
        export, binary, lines = figures_of(one)
        rows.append(
            f'<tr id="{escape(_anchor(one))}"><td title="{escape(one.device_id)}">'
            f"<code>{escape(device_text(tenant_id, one.device_id))}</code></td>"
            f"<td><code>{escape(one.commit[:10])}</code></td>"
            f"<td>{date_text(one.captured_at)}</td>"
            f'<td class="n">{export}</td><td class="n">{binary}</td><td>{lines}</td>'
            f'<td class="{(states.FAILED if one.problems else states.RIGHT).role}">'
            f"{escape(result_of(one))}</td></tr>\n"
        )
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{''.join(rows)}</tbody></table>\n"


def _svg(title: str, height: int, content: str) -> str:
    return (
        f'<div class="chart"><svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img" aria-label="{escape(title)}">{content}</svg></div>\n'
    )


class _Scale:
    """From dates and values to places in a chart."""

    def __init__(self, dates: Iterable[dt.datetime], top: float) -> None:
        seconds = [when.timestamp() for when in dates]
        self.first, self.last = min(seconds), max(seconds)
        self.top = max(top, 1)

    def x(self, when_s: float) -> float:
        width = _WIDTH - _MARGIN - 8
        return _MARGIN + width * (when_s - self.first) / max(self.last - self.first, 1)

    def y(self, value: float) -> float:
        return 8 + (_HEIGHT - 32) * (1 - value / self.top)

    def frame(self, value_text: Callable[[int], str]) -> str:
        """The axes, with values at the top, the middle and the base, and three dates."""
        base, width = self.y(0), _WIDTH - _MARGIN - 8
        parts = [f'<path class="axis" fill="none" d="M{_MARGIN} 8V{base:.1f}H{_WIDTH - 8}"/>']
        for value in sorted({round(self.top), round(self.top / 2), 0}):
            y = self.y(value)
            if value:
                parts.append(f'<path class="grid" d="M{_MARGIN} {y:.1f}H{_WIDTH - 8}"/>')
            parts.append(
                f'<text x="{_MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">'
                f"{escape(value_text(value) if value else '0')}</text>"
            )
        for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
            when = dt.datetime.fromtimestamp(self.first + part * (self.last - self.first), dt.UTC)
            # On a span of less than three days the date alone would say the same thrice.
            text = (
                f"{when:%Y-%m-%d}" if self.last - self.first > 3 * 86_400 else f"{when:%m-%d %H:%M}"
            )
            parts.append(
                f'<text x="{_MARGIN + part * width:.1f}" y="{_HEIGHT - 6}" '
                f'text-anchor="{anchor}">{text}</text>'
            )
        return "".join(parts)


def _sizes(tenant_id: str, curves: dict[str, list[Point]]) -> str:
    points = [point for each in curves.values() for point in each]
    top = max(point.export_bytes for point in points)
    scale = _Scale((point.captured_at for point in points), top)
    drawn, legend = [], []
    for number, (device, each) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [
            (scale.x(point.captured_at.timestamp()), scale.y(point.export_bytes)) for point in each
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{line}"/>'
        )
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in places]
        legend.append(
            f'<span><i class="key" style="background:{colour}"></i>'
            f"<code>{escape(_shown(tenant_id, device))}</code></span>"
        )
    title = "Size of the export over time, some devices of the sample"
    chart = _svg(title, _HEIGHT, scale.frame(size_text) + "".join(drawn))
    return f'<h3>{title}</h3>\n{chart}<p class="legend">{"".join(legend)}</p>\n'


def _shown(tenant_id: str, device_id: str) -> str:
    """A device where there is little room: its name, or without one the first digits of its id."""
    name = device_name(tenant_id, device_id)
    if name is None:
        return device_id[:SHORT_ID]
    text = printable(name)
    return text if len(text) <= _NAME else text[: _NAME - 3] + "..."


def _versions(curves: dict[str, list[Point]]) -> str:
    dates = [point.captured_at for each in curves.values() for point in each]
    whole = _Scale(dates, 1)
    span = max(whole.last - whole.first, 1)
    # No more bars than polls: empty ones between them would look like failed polls.
    bars_count = min(_BUCKETS, len(set(dates)))
    counts = [0] * bars_count
    for when in dates:
        place = int((when.timestamp() - whole.first) / span * bars_count)
        counts[min(place, bars_count - 1)] += 1
    scale = _Scale(dates, max(counts))
    width = (_WIDTH - _MARGIN - 8) / bars_count
    bars = "".join(
        f'<rect x="{_MARGIN + place * width + 1:.1f}" y="{scale.y(count):.1f}" '
        f'width="{width - 2:.1f}" height="{scale.y(0) - scale.y(count):.1f}" fill="{_COLOURS[0]}"/>'
        for place, count in enumerate(counts)
        if count
    )
    title = "Versions over time, the same devices"
    if bars_count > 1:
        title += f", a bar for {age_text(span / bars_count)}"
    return f"<h3>{title}</h3>\n" + _svg(title, _HEIGHT, scale.frame(str) + bars)


def _ages(tenant_id: str, last_seen: dict[str, dt.datetime], now: dt.datetime) -> str:
    oldest = sorted(last_seen.items(), key=lambda item: item[1])[:_AGES]
    ages = {device: max(0.0, (now - when).total_seconds()) for device, when in oldest}
    top = max(*ages.values(), 1.0)
    rows = []
    for number, (device, age_s) in enumerate(ages.items()):
        y = number * (_BAR + 4)
        width = (_WIDTH - _NAME_MARGIN - _MARGIN - 8) * age_s / top
        rows.append(
            f'<text x="{_NAME_MARGIN - 6}" y="{y + 12}" text-anchor="end">'
            f"{escape(_shown(tenant_id, device))}</text>"
            f'<rect x="{_NAME_MARGIN}" y="{y}" width="{max(width, 1):.1f}" height="{_BAR}" '
            f'fill="{_COLOURS[2]}"><title>{escape(device)}</title></rect>'
            f'<text x="{_NAME_MARGIN + width + 6:.1f}" y="{y + 12}">{age_text(age_s)}</text>'
        )
    title = "Age of the newest backup"
    if len(last_seen) > _AGES:
        title += f", the oldest {_AGES} of {count_text(len(last_seen), 'device')}"
    return f"<h3>{title}</h3>\n" + _svg(title, len(rows) * (_BAR + 4), "".join(rows))
