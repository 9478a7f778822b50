"""How each kind of panel looks; what it shows is said in ``security``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, Threshold, ThresholdsMode

from dashboards.query import TABLE, TIME_SERIES, source, target

SEVERITIES = {"critical": "dark-red", "high": "red", "medium": "orange", "low": "yellow", "informational": "blue"}
PHASES = {"load": "orange", "warmup": "yellow", "serve": "green", "start": "blue", "stop": "purple", "unknown": "text"}
"""Severities and phases have the same colour wherever they are."""

Link = tuple[str, str]
"""Title and address."""


def number(title: str, about: str, sql: str, *, bad_from: float | None = None, unit: str = "short", width: int = 3) -> stat.Panel:
    """One number; red from ``bad_from`` on."""
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(source())
        .with_target(target(sql))
        .unit(unit)
        .no_value("0")
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .color_mode(shapes.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .height(4)
        .span(width)
    )
    return panel.thresholds(_steps(bad_from))


def over_time(
    title: str, about: str, sql: str, *, unit: str = "short", stacked: bool = True, colours: Mapping[str, str] | None = None,
    width: int = 12,
) -> timeseries.Panel:
    """Bars of counts on top of each other, or lines. ``colours``: of the series, by what their labels end with."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(source())
        .with_target(target(sql, TIME_SERIES))
        .unit(unit)
        .min(0)
        .legend(common.VizLegendOptions().show_legend(True).placement(shapes.LegendPlacement.BOTTOM).calcs(["max"]))
        .tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI))
        .height(8)
        .span(width)
    )
    if stacked:
        panel = (
            panel.draw_style(shapes.GraphDrawStyle.BARS)
            .fill_opacity(70)
            .stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL))
        )
    else:
        panel = panel.draw_style(shapes.GraphDrawStyle.LINE).span_nulls(True).line_width(2)
    for name, colour in (colours or {}).items():
        # The plugin names a series by its labels, so the name may stand behind the column's.
        panel = panel.override_by_regexp(rf"/\b{name}$/", [_colour(colour)])
    return panel


def ranking(title: str, about: str, sql: str, *, link: Link | None = None, width: int = 8) -> bargauge.Panel:
    """A bar for each row: a text and a number."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(about)
        .datasource(source())
        .with_target(target(sql))
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .display_mode(shapes.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().values(True).calcs([]))
        .thresholds(_steps(None))
        .height(8)
        .span(width)
    )
    return panel.data_links([_link(link)]) if link else panel


def rows(
    title: str,
    about: str,
    sql: str,
    *,
    links: Mapping[str, Link] | None = None,
    widths: Mapping[str, int] | None = None,
    width: int = 24,
    height: int = 9,
    numbers: Sequence[str] = (),
    hidden: Sequence[str] = (),
) -> table.Panel:
    """A table. ``links``: where a click on a column leads; ``numbers``: columns in which zero is good and more is red;
    ``hidden``: columns that only links use.
    """
    panel = (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(source())
        .with_target(target(sql, TABLE))
        .filterable(True)
        .height(height)
        .span(width)
    )
    for name in sorted({*(links or {}), *(widths or {}), *numbers, *hidden}):
        properties: list[DynamicConfigValue] = []
        if links and name in links:
            properties.append(DynamicConfigValue(id_val="links", value=[_link(links[name]).build()]))
        if widths and name in widths:
            properties.append(DynamicConfigValue(id_val="custom.width", value=widths[name]))
        if name in numbers:
            properties.append(DynamicConfigValue(id_val="thresholds", value=_steps(1).build()))
        if name == "severity":
            properties.append(DynamicConfigValue(id_val="mappings", value=[_severities()]))
        if name in hidden:
            properties.append(DynamicConfigValue(id_val="custom.hidden", value=True))
        if name in numbers or name == "severity":
            properties.append(DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
        panel = panel.override_by_name(name, properties)
    return panel


def _link(link: Link) -> DashboardLink:
    return DashboardLink(link[0]).url(link[1]).target_blank(True)


def _colour(name: str) -> DynamicConfigValue:
    return DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": name})


def _severities() -> dict[str, Any]:
    options = {name: {"color": colour, "index": i, "text": name} for i, (name, colour) in enumerate(SEVERITIES.items())}
    return {"type": "value", "options": options}


def _steps(bad_from: float | None) -> ThresholdsConfig:
    steps = [Threshold(color="green" if bad_from is not None else "text")]
    if bad_from is not None:
        steps.append(Threshold(value=bad_from, color="red"))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
