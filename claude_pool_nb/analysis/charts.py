"""Charts that show everywhere: live in JupyterLab, still on a page without scripts, in words for those who cannot see.

What a chart displays is one bundle: a Vega-Lite 5 specification (which JupyterLab and Notebook 7 draw with what they
bring themselves), a PNG where vl-convert is installed, and its description as text.

Invariants: altair is imported when a chart is made, never before; nothing is loaded from anywhere; nothing global of
altair's is changed; without a theme asked for, a specification names no ink, so that the front end's own theme gives
it; a specification holds only the columns that are drawn.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from html import escape
from importlib import import_module
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from claude_pool_nb.analysis.files import written
from claude_pool_nb.errors import ConfigError, MissingExtra, nearest

if TYPE_CHECKING:
    from claude_pool_nb.analysis.plot_data import Figures

VEGALITE = "application/vnd.vegalite.v5+json"
"""What JupyterLab 4 and Notebook 7 draw; of version 6 they know nothing."""
VEGALITE_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
"""The name of the language; nobody loads it."""
THEMES = ("auto", "light", "dark")
"""Whose inks: the front end's (white paper where there is none), or one's own."""
FORMATS = ("png", "svg", "pdf", "html", "json")
"""What a chart can be saved as."""
SCALE = 2
"""Pixels of a PNG for one of the screen."""
MAX_PNG_BYTES = 100_000
"""A larger one is drawn again with a quarter of the pixels, so that a saved notebook stays small."""
_NUMBER = re.compile(r"(?<=\d) (?=[A-Za-z%])")
"""A number and its noun stay together on a line."""
_INKS = {
    "light": {"paper": "#ffffff", "ink": "#1f1f1f", "muted": "#565656", "grid": "#e2e2e2"},
    "dark": {"paper": "#111111", "ink": "#ececec", "muted": "#b4b4b4", "grid": "#383838"},
}


def library() -> Any:
    """Altair.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module("altair")
    except ImportError as error:
        raise MissingExtra(
            f"plots need altair, which cannot be imported ({error}): pip install 'claude-pool-nb[plots]'"
        ) from None


def _converter() -> Any | None:
    """vl-convert, which draws without a browser; None where it is not installed."""
    try:
        return import_module("vl_convert")
    except ImportError:
        return None


@lru_cache(maxsize=1)
def _classes() -> tuple[type[Any], type[Any]]:
    """Altair's chart types, with a display of our own."""
    alt = library()

    class LayerPlot(alt.LayerChart):  # type: ignore[misc, name-defined]
        """An altair chart that is shown as text and picture too."""

        def _repr_mimebundle_(self, *_args: Any, **_kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            return bundle(self)

    class PanelPlot(alt.VConcatChart):  # type: ignore[misc, name-defined]
        """Several altair charts under each other that are shown as text and picture too."""

        def _repr_mimebundle_(self, *_args: Any, **_kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            return bundle(self)

    return LayerPlot, PanelPlot


def layered(figures: Figures, layers: Iterable[Any], *, width: int, theme: str, **properties: Any) -> Any:
    """One chart of layers over one frame.

    Args:
        figures: The frame and the words.
        layers: Altair charts without data of their own.
        width: Pixels of the plot's area.
        theme: One of `THEMES`.
        **properties: More of altair's properties.
    """
    made = _classes()[0](data=figures.frame, layer=list(layers)).properties(width=width, **properties)
    return _dressed(made, figures, width=width, theme=theme)


def panels(figures: Figures, parts: Iterable[Any], *, width: int, theme: str) -> Any:
    """Several charts under each other, over one frame."""
    made = _classes()[1](data=figures.frame, vconcat=list(parts))
    return _dressed(made, figures, width=width, theme=theme)


def checked(width: int, theme: str) -> None:
    """Refuse what no chart can be.

    Raises:
        ConfigError: the width is too small or too large, or there is no such theme.

    Example:
        >>> checked(560, "dark")
    """
    if isinstance(width, bool) or not isinstance(width, int) or not 160 <= width <= 4000:
        raise ConfigError(f"width={width!r} cannot work: width takes pixels, a whole number from 160 to 4000")
    if theme not in THEMES:
        raise ConfigError(f"there is no theme {theme!r}{nearest(theme, THEMES)}")


def _dressed(made: Any, figures: Figures, *, width: int, theme: str) -> Any:
    """A chart with its titles, description and style."""
    columns = max(34, (width + 70) // 6)
    title = {
        "text": wrap(figures.title, columns * 5 // 6),
        "subtitle": wrap(_NUMBER.sub("\N{NO-BREAK SPACE}", figures.subtitle), columns),
        "anchor": "start",
        "frame": "bounds",
        "offset": 10,
    }
    text = f"{figures.title}\n{figures.description}"
    config: dict[str, Any] = {
        "view": {"stroke": None},
        "title": {"fontSize": 14, "subtitleFontSize": 11.5, "subtitlePadding": 4},
        "axis": {"labelFontSize": 11, "titleFontSize": 11.5, "titleFontWeight": "normal", "grid": True},
        "axisY": {"grid": False},
        "legend": {"orient": "bottom", "labelFontSize": 11, "titleFontSize": 11.5, "titleFontWeight": "normal"},
    }
    if theme != "auto":
        config = merged(config, _inked(theme))
    # As SVG every mark can be read out; a canvas is one picture.
    usermeta = {"embedOptions": {"renderer": "svg"}, "text": text, "theme": theme}
    return made.properties(title=title, description=figures.description, usermeta=usermeta, config=config, padding=8)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options, those of `above` first.

    Example:
        >>> merged({"axis": {"grid": True}}, {"axis": {"labelColor": "red"}})
        {'axis': {'grid': True, 'labelColor': 'red'}}
    """
    both = dict(below)
    for key, value in above.items():
        known = both.get(key)
        both[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, Mapping) else value
    return both


def _inked(theme: str) -> dict[str, Any]:
    """The colours of paper, text and lines."""
    inks = _INKS["dark" if theme == "dark" else "light"]
    guide = {"labelColor": inks["ink"], "titleColor": inks["muted"]}
    lines = {"gridColor": inks["grid"], "domainColor": inks["muted"], "tickColor": inks["muted"]}
    return {
        "background": inks["paper"],
        "title": {"color": inks["ink"], "subtitleColor": inks["muted"]},
        "axis": {**guide, **lines},
        "legend": guide,
        "header": guide,
    }


# -- showing -----------------------------------------------------------------------------------------------------------


def specification(made: Any) -> dict[str, Any]:
    """A chart as Vega-Lite 5, with the data that is drawn and no more.

    Args:
        made: An altair chart.
    """
    alt = library()
    with alt.data_transformers.enable("default", max_rows=None):
        spec: dict[str, Any] = made.to_dict()
    spec["$schema"] = VEGALITE_SCHEMA
    datasets = spec.get("datasets", {})
    used = _fields({key: value for key, value in spec.items() if key != "datasets"})
    spec["datasets"] = {
        name: [{key: value for key, value in row.items() if key in used} for row in rows]
        for name, rows in datasets.items()
    }
    return spec


def _fields(value: Any) -> set[str]:
    """The names of columns that a specification speaks of."""
    if isinstance(value, Mapping):
        named = {value["field"]} if isinstance(value.get("field"), str) else set()
        filtered = value.get("filter")
        if isinstance(filtered, Mapping) and isinstance(filtered.get("field"), str):
            named.add(filtered["field"])
        return named.union(*map(_fields, value.values()))
    return set().union(*map(_fields, value)) if isinstance(value, list) else set()


def bundle(made: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a cell shows of a chart, by media type, and how large and what it is.

    Args:
        made: A chart of `layered` or `panels`, or a copy of one.
    """
    spec = specification(made)
    meta = spec.get("usermeta", {})
    data: dict[str, Any] = {VEGALITE: spec, "text/plain": meta.get("text") or spec.get("description") or repr(made)}
    if _converter() is None:
        return data, {}
    scale, image = SCALE, picture(spec, "png")
    if len(image) > MAX_PNG_BYTES:
        scale, image = 1, picture(spec, "png", scale=1)
    data["image/png"] = image
    # Of the header of a PNG: its width and height.
    width, height = (int.from_bytes(image[at : at + 4], "big") // scale for at in (16, 20))
    return data, {"image/png": {"width": width, "height": height, "alt": str(spec.get("description", ""))}}


def picture(spec: Mapping[str, Any], form: str, *, scale: int = SCALE) -> bytes:
    """A specification drawn without a browser.

    Args:
        spec: Vega-Lite 5.
        form: `png`, `svg`, `pdf` or `html` (one page with all its scripts inside).
        scale: Pixels of a PNG for one of the screen.

    Raises:
        MissingExtra: vl-convert is not installed.
    """
    converter = _converter()
    if converter is None:
        raise MissingExtra(f"saving a plot as {form} needs vl-convert: pip install 'claude-pool-nb[plots]'")
    version = next(one for one in reversed(converter.get_vegalite_versions()) if one.startswith("5."))
    theme = spec.get("usermeta", {}).get("theme", "auto")
    inked = merged(spec, {"config": merged(_inked("light"), spec.get("config", {}))}) if theme == "auto" else dict(spec)
    if form == "html":
        page: str = converter.vegalite_to_html(inked, vl_version=version, bundle=True)
        return page.encode()
    draw = getattr(converter, f"vegalite_to_{form}")
    drawn: bytes | str = draw(inked, vl_version=version, **({"scale": scale} if form == "png" else {}))
    if isinstance(drawn, str):
        said = escape(" ".join(str(spec.get("description", "")).split()), quote=True)
        drawn = drawn.replace("<svg ", f'<svg role="img" aria-label="{said}" ', 1).encode()
    return smaller(drawn) if form == "png" else drawn


def smaller(png: bytes) -> bytes:
    """The same picture in a quarter of the space: vl-convert packs for speed.

    Args:
        png: A PNG.
    """
    parts, packed, at = [], b"", 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            packed += body
        elif kind == b"IEND":
            parts += [(b"IDAT", zlib.compress(zlib.decompress(packed), 9)), (kind, body)]
        else:
            parts.append((kind, body))
        at += length + 12
    chunks = [
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in parts
    ]
    return png[:8] + b"".join(chunks)


def saved(made: Any, path: str | Path, *, overwrite: bool = False) -> Path:
    """Save a chart as a picture, a page or a specification, by the path's ending.

    Args:
        made: An altair chart.
        path: It ends in one of `FORMATS`.
        overwrite: Replace a file that exists.

    Returns:
        Where it was written.

    Raises:
        ConfigError: the ending is none of them, or the file exists, or its folder does not.
        MissingExtra: vl-convert is not installed, and it was not `.json`.
    """
    import json

    form = Path(path).suffix.lstrip(".").lower()
    if form not in FORMATS:
        raise ConfigError(
            f"a plot cannot be saved as {Path(path).name!r}: its name ends in .{', .'.join(FORMATS[:-1])} or .json"
        )
    spec = specification(made)

    def write(file: BytesIO) -> None:
        file.write(json.dumps(spec, ensure_ascii=False).encode() if form == "json" else picture(spec, form))

    return written(path, write, overwrite=overwrite)
