"""One self-contained HTML page with a graph in it: data, bundle and a content policy that forbids the network."""

from __future__ import annotations

import base64
import gzip
import html
import json
from pathlib import Path
from typing import Any

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; "
    "img-src data:"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>html,body{{margin:0;height:100%;overflow:hidden}}</style>
</head>
<body>
<div id="graph"></div>
<script type="text/plain" id="data">{data}</script>
<script type="text/plain" id="values">{values}</script>
<script type="application/json" id="state">{state}</script>
<script type="module">
{bundle}
open(document.getElementById("graph"), JSON.parse(document.getElementById("state").textContent));
</script>
</body>
</html>
"""


def write(path: Path, data: bytes, bundle: str, state: dict[str, Any]) -> Path:
    """Write the page; `state` is that of a GraphView. Returns its absolute path."""
    values, title = state.pop("values"), state.pop("title")
    packed = [base64.b64encode(gzip.compress(part, 6, mtime=0)).decode() for part in (data, values)]
    text = PAGE.format(
        policy=POLICY,
        title=html.escape(title),
        data=packed[0],
        values=packed[1],
        # a name with "</script>" must not end the element
        state=json.dumps(state).replace("<", "\\u003c"),
        bundle=_exposed(bundle),
    )
    target = path.absolute()
    target.write_text(text, "utf-8", newline="\n")
    return target


def _exposed(bundle: str) -> str:
    """The bundle as part of a page's own module: its last statement, the export, becomes the name ``open``."""
    body, _, exports = bundle.rpartition("export{")
    names = dict(part.split(" as ")[::-1] for part in exports.rstrip("};\n").split(",") if " as " in part)
    name = names.get("open", "open")
    return f"{body}\nconst open = {name};".replace("</script", "<\\/script")
