"""The looks of the live view, sent once; what is sent again and again names these classes.

Invariants: nothing moves by itself; text is told apart from what is behind it in light and in dark themes: either both
colours are the front end's own, or both are ours, with a contrast above 4.5.
"""

from __future__ import annotations

from claude_pool_nb.display import html
from claude_pool_nb.notebook.live.strip import SOME_FAILED

_PAINT = {
    "D": ("#1b7339", "#fff"),
    "R": ("#1558b0", "#fff"),
    "Q": ("#d9dce1", "#333"),
    "W": ("#f0b429", "#3a2a00"),
    "V": ("#5e35b1", "#fff"),
    "F": ("#b3261e", "#fff"),
    SOME_FAILED: ("#f6c9c5", "#6b120c"),
    "C": ("#5f6368", "#fff"),
    "I": ("#7a4a12", "#fff"),
}
"""Colour and letter colour of each state: their contrast is above 4.5, whatever the theme behind them."""

STYLE = (
    "<style>"
    f".cpn{{{html.FONT};{html.INK}}}"
    f".cpn-m{{{html.MUTED}}}.cpn-b{{{html.BAD}}}"
    ".cpn-l{display:flex;flex-wrap:wrap;gap:2px 14px;align-items:center}"
    ".cpn-l>span{white-space:nowrap}.cpn-l>.cpn-w{white-space:normal;overflow-wrap:anywhere}"
    ".cpn-k{display:inline-block;min-width:1.5em;text-align:center;border-radius:3px;margin-right:5px;"
    "font:600 11px/1.5 var(--jp-code-font-family,monospace)}"
    ".cpn-p{display:flex;height:8px;border-radius:4px;overflow:hidden;margin:5px 0;position:relative;"
    "background:var(--jp-layout-color3,var(--vscode-editorWidget-background,#ccc))}"
    ".cpn-p i{display:block;height:100%}.cpn-p u{position:absolute;top:0;bottom:0;width:2px;background:#b3261e}"
    ".cpn-h{background:repeating-linear-gradient(135deg,#1558b0 0 3px,#8ab4f8 3px 6px)}"
    ".cpn-s{font:600 11px/17px var(--jp-code-font-family,monospace);letter-spacing:.28em;overflow-wrap:anywhere;"
    "word-break:break-all;border-radius:3px;overflow:hidden;margin:2px 0}"
    ".cpn-s b{padding:2px 0 2px .14em;-webkit-box-decoration-break:clone;box-decoration-break:clone}"
    + "".join(f".cpn-t{letter}{{background:{back};color:{ink}}}" for letter, (back, ink) in _PAINT.items())
    + ".cpn-g{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,230px),1fr));gap:6px;margin:4px 0}"
    ".cpn ul.cpn-g{padding:0;list-style:none}"
    f".cpn ul.cpn-g>li{{border:1px solid {html.BORDER};border-left:4px solid {html.BORDER};border-radius:4px;"
    "padding:4px 9px;margin:0;min-width:0}"
    ".cpn-g p{margin:0;white-space:nowrap;overflow:hidden;text-overflow:ellipsis;min-height:1.45em}"
    ".cpn-g p.cpn-b{white-space:normal;overflow-wrap:anywhere}"
    f".cpn-g u,.cpn-g p:nth-child(2){{{html.MUTED};text-decoration:none}}"
    ".cpn-g p:first-child{display:flex;gap:.35em}.cpn-g u{min-width:0;overflow:hidden;text-overflow:ellipsis}"
    ".cpn-g u:last-child{flex:none;margin-left:auto}"
    ".cpn-g pre{font:11px/1.4 var(--jp-code-font-family,monospace);white-space:pre-wrap;overflow-wrap:anywhere;"
    "height:4.2em;overflow:hidden;margin:3px 0 1px;color:inherit;background:none;"
    "display:flex;flex-direction:column;justify-content:flex-end}"  # its end is what is seen
    ".cpn ul>li.cpn-busy{border-left-color:#1558b0}.cpn ul>li.cpn-errored{border-left-color:#b3261e}"
    ".cpn ul>li.cpn-starting,.cpn ul>li.cpn-resetting{border-left-style:dashed}"
    ".cpn ul.cpn-f{margin:2px 0;padding:0;list-style:none}.cpn-f li{margin:0;overflow-wrap:anywhere}"
    ".cpn-v{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}"
    "</style>"
)
"""The looks of it all, sent once."""
