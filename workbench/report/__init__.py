"""One standalone HTML file about a comparison and profiles: opens offline, in light and dark, and can be printed.

``write(path, comparison=c, before=p, after=q)`` answers in this order: are the models the same, where do they first
part, which layer is to blame, where does the time go, what did the change buy; then everything in tables.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import WorkbenchError

if TYPE_CHECKING:
    from ..compare import Comparison
    from ..model import Model
    from ..profile import Profile

__all__ = ["write"]


def write(
    path: str | os.PathLike[str],
    *,
    comparison: Comparison | None = None,
    before: Profile | None = None,
    after: Profile | None = None,
    model: Model | None = None,
    candidate: Model | None = None,
    title: str | None = None,
    extra: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write a report, completely or not at all.

    Args:
        path: the HTML file to write; its folder must exist.
        comparison: of the two models. Nodes are blamed if its models are at hand (it was not read from a file).
        before, after: profiles of the first model and of the changed one; either alone is fine.
        model, candidate: the models, for their summary cards.
        title: None: made from the names of the models.
        extra: (heading, HTML) of sections to put after the headline. The heading is escaped, the HTML is not:
            escape what comes from elsewhere. Scripts in it do not run.

    Returns:
        The file, as an absolute path.

    Raises:
        WorkbenchError: nothing to report about was given, or the file cannot be written.
    """
    from ..model.atomic import writing
    from .page import page

    target = Path(path).absolute()
    if comparison is None and before is None and after is None and model is None:
        raise WorkbenchError(
            f"cannot write the report {target}: give a comparison, a profile (before, after) or a model"
        )
    text = page(comparison, before, after, model, candidate, title, extra)
    try:
        with writing(target) as file:
            file.write(text.encode())
    except OSError as error:
        raise WorkbenchError(f"cannot write the report {target}: {error.strerror or error}") from error
    return target
