"""The summary card: text for a terminal, HTML for a notebook or a report (light and dark, self-contained)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as _escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .summary import Summary

BAR = 24
SHOWN = 12  # operators; the rest is summed up
_MORE = 5

_CSS = """
.wb-card{--fg:#1f2328;--dim:#59636e;--line:#d1d9e0;--bar:#3f7fd6;--warn:#9a6700;
font:13px/1.45 system-ui,sans-serif;color:var(--jp-content-font-color1,var(--fg));max-width:960px}
@media(prefers-color-scheme:dark){
.wb-card{--fg:#e6edf3;--dim:#9198a1;--line:#3d444d;--bar:#5b9bf0;--warn:#d29922}}
[data-jp-theme-light=false] .wb-card{--fg:#e6edf3;--dim:#9198a1;--line:#3d444d;--bar:#5b9bf0;--warn:#d29922}
[data-jp-theme-light=true] .wb-card{--fg:#1f2328;--dim:#59636e;--line:#d1d9e0;--bar:#3f7fd6;--warn:#9a6700}
.wb-card h3{font-size:16px;margin:0 0 2px;font-weight:600}
.wb-card h4{font-size:12px;margin:10px 0 2px;font-weight:600;color:var(--jp-content-font-color2,var(--dim))}
.wb-card p{margin:0;color:var(--jp-content-font-color2,var(--dim))}
.wb-card .wb-grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:0 28px}
.wb-card .wb-grid table{border-collapse:collapse;table-layout:auto;width:100%;margin:0;font-size:12px;color:inherit;
background:none}
.wb-card .wb-grid tr{background:none}
.wb-card .wb-grid td{padding:1px 10px 1px 0;border:0;border-top:1px solid var(--jp-border-color2,var(--line));
text-align:left;vertical-align:top;overflow-wrap:anywhere;background:none}
.wb-card .wb-grid td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.wb-card .wb-grid td.s{white-space:nowrap}
.wb-card .wb-grid td.b{width:30%;vertical-align:middle;padding-right:0}
.wb-card i{display:block;height:8px;border-radius:2px;background:var(--bar)}
.wb-card .wb-warn{color:var(--warn)}
"""


def visible(text: object) -> str:
    """Text from a model with what is not to be seen written out (``\\u202e``): no name can turn around what stands
    beside it, or move a terminal's cursor."""
    kept = (c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(text))
    return "".join(kept)


def escape(text: str) -> str:
    return _escape(visible(text))


def size(count: int) -> str:
    """Bytes in words: ``21.2 MB`` (decimal units)."""
    return f"{count} B" if count < 1000 else f"{_short(count)}B"


def number(count: int) -> str:
    """A count in words: ``5.3 M``."""
    return str(count) if count < 1000 else _short(count).strip()


def _short(count: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if count < 999.5 or unit == "T":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def headline(s: Summary) -> str:
    """One line: nodes, parameters, MACs."""
    return " · ".join(
        [
            f"{s.nodes} nodes{f' ({s.inside} in bodies and functions)' if s.inside else ''}",
            f"{number(s.parameters)} parameters ({size(s.bytes)})",
            f"{'at least ' if s.uncounted or s.once else ''}{number(s.macs)} MACs",
            f"{size(s.moved)} moved",
        ]
    )


def origin(s: Summary) -> str:
    """One line: where it comes from."""
    opsets = ", ".join(f"{domain} {version}" for domain, version in s.opsets.items())
    return " · ".join(filter(None, [f"opset {opsets}", f"IR {s.ir_version}", s.producer, s.path or ""]))


def remarks(s: Summary) -> list[str]:
    """What the costs rest on."""
    lines = []
    if s.assumed:
        dims = ", ".join(f"{dim} = {size}" for dim, size in s.assumed.items())
        example = f"summary(shapes={{{next(iter(s.assumed))!r}: ...}})"
        lines.append(f"Costs and sizes assume {dims}; give others with {example}.")
    if s.uncounted:
        lines.append(f"Not counted, because a shape is not known: {_some(s.uncounted)}.")
    if s.once:
        lines.append(f"Counted with one turn, because the number of turns is not known: {_some(s.once)}.")
    return lines


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _MORE} more" if len(names) > _MORE else ""
    return ", ".join(names[:_MORE]) + rest


def _operators(s: Summary) -> list[tuple[str, int]]:
    shown = list(s.operators[:SHOWN])
    rest = s.operators[SHOWN:]
    if rest:
        shown.append((f"{len(rest)} other operators", sum(count for _, count in rest)))
    return shown


def _ports(s: Summary) -> list[tuple[str, str]]:
    lines = []
    for kind, infos in (("input", s.inputs), ("output", s.outputs)):
        lines += [(kind, str(info)) for info in infos[:SHOWN]]
        if len(infos) > SHOWN:
            lines.append(("", f"and {len(infos) - SHOWN} more {kind}s"))
    return lines


def text(s: Summary) -> str:
    """The card as plain text."""
    lines = [s.name, headline(s), origin(s), ""]
    lines += [f"{kind:7} {info}" for kind, info in _ports(s)]
    most = max((count for _, count in s.operators), default=1)
    lines += _section("operators", [(n, c, "█" * max(1, round(BAR * c / most))) for n, c in _operators(s)])
    rows = [(w.dtype, number(w.parameters), size(w.bytes), f"{w.tensors} tensors") for w in s.weights]
    lines += _section("weights", rows)
    share = [
        (h.node, h.op_type, f"{number(h.macs)} MACs", f"{h.macs / (s.macs or h.macs):.1%}")
        for h in s.heaviest
    ]
    lines += _section("heaviest nodes", share)
    lines += _section("largest activations", [(str(i), size(i.bytes or 0)) for i in s.largest[:_MORE]])
    lines += ["", *remarks(s)] if remarks(s) else []
    lines += ["", *(f"! {finding}" for finding in s.findings)] if s.findings else []
    return "\n".join(map(visible, lines))


def _section(title: str, rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        return []
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    return ["", title, *(f"  {'  '.join(row)}".rstrip() for row in padded)]


def html(s: Summary) -> str:
    """The card as HTML; everything from the model is escaped."""
    parts = [f'<style>{_CSS}</style><div class="wb-card"><h3>{escape(s.name)}</h3>']
    parts += [f"<p>{escape(line)}</p>" for line in (headline(s), origin(s))]
    parts.append('<div class="wb-grid"><div>')
    parts.append(_table("Inputs and outputs", _ports(s)))
    most = max((count for _, count in s.operators), default=1)
    bars = [(name, count, _Bar(count / most)) for name, count in _operators(s)]
    parts.append(_table("Operators", bars))
    parts.append("</div><div>")
    rows = [(w.dtype, number(w.parameters), size(w.bytes), _Bar(w.bytes / (s.bytes or 1))) for w in s.weights]
    parts.append(_table("Weights", rows))
    heavy = [(h.node, h.op_type, number(h.macs), _Bar(h.macs / s.heaviest[0].macs)) for h in s.heaviest]
    parts.append(_table("Heaviest nodes (MACs)", heavy))
    parts.append(_table("Largest activations", [(str(i), size(i.bytes or 0)) for i in s.largest[:_MORE]]))
    parts.append("</div></div>")
    parts += [f"<p>{escape(line)}</p>" for line in remarks(s)]
    parts += [f'<p class="wb-warn">{escape(finding)}</p>' for finding in s.findings]
    return "".join([*parts, "</div>"])


class _Bar(float):
    """A share of the longest bar."""


def _table(title: str, rows: Iterable[Sequence[object]]) -> str:
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<h4>{escape(title)}</h4><table>{body}</table>" if body else ""


def _cell(value: object) -> str:
    if isinstance(value, _Bar):
        return f'<td class="b"><i style="width:{max(1, round(100 * value))}%"></i></td>'
    if isinstance(value, int):
        return f'<td class="n">{value}</td>'
    text = str(value)
    short = ' class="s"' if len(text) <= 16 else ""
    return f"<td{short}>{escape(text)}</td>"
