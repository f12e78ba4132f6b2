"""Versions of a model: every edit makes a new value, all values share one graph.

A `Model` is a value, and copying a graph of 10,000 nodes for each edit would be slow. So the values that came out of
one another by edits share one graph (a `Line`), which stands at one `Version` at a time. A version knows the steps
that lead to it from its parent. Whoever asks a model for its graph (``Model.ir``) gets it moved to that model's
version: undo up to the common ancestor, then redo. Nothing is copied, old values stay what they were, and two of them
can be compared side by side; a graph taken from ``Model.ir`` is to be used before another version is asked for.
An edit that replaces the whole graph begins a new line. Not for use from several threads at once.
"""

from __future__ import annotations

import itertools
import json
import os
import weakref
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ..errors import EditError, ModelError
from ..model import Model
from ..model.check import check_model
from ..model.collection import paused
from ..model.names import name_nodes
from ..model.proto import skeleton
from .arguments import checked
from .base import Edit, Whole
from .content import Content, Store, of_bytes
from .draft import Draft
from .schema import check_node
from .whole import check_whole

INLINE = 16 << 10
"""Bytes of a content up to which it is kept in the history inside of a model file."""


class Line:
    """A graph, and the version that it stands at."""

    def __init__(self, model: ir.Model):
        self.model = model
        self.at: Version | None = None
        self._draft: Draft | None = None

    @property
    def draft(self) -> Draft:
        """The graph with its index, which is made for the first edit."""
        if self._draft is None:
            self._draft = Draft(self.model)
        return self._draft

    def move(self, version: Version) -> None:
        """Undo and redo until the graph stands at a version of this line."""
        wanted, down = version, []
        above = set()
        node: Version | None = version
        while node is not None and node.line is self:
            above.add(node)
            node = node.parent
        while self.at is not None and self.at not in above:
            for _, undo in reversed(self.at.log):
                undo()
            self.at = self.at.parent
        while wanted is not self.at:
            down.append(wanted)
            assert wanted.parent is not None
            wanted = wanted.parent
        for step in reversed(down):
            for do, _ in step.log:
                do()
            self.at = step


class Tree:
    """All versions of a model that was loaded, and who wants to hear of new ones."""

    def __init__(self, past: tuple[Edit, ...]):
        self.past = past
        self.versions: list[Version] = []
        self.latest: Model | None = None
        self.listeners: dict[int, Callable[[Model], None]] = {}
        self.keys = itertools.count()

    def tell(self, model: Model) -> Model:
        """Make a model the latest one."""
        self.latest = model
        for listener in list(self.listeners.values()):
            listener(model)
        return model


class Version:
    """One state of a model.

    Attributes:
        parent, edit: where it came from; None for the model that was loaded.
        log: the steps from the parent; none where the edit began a new line.
        touched, retyped, renamed: what the edit changed in attributes or inputs, in type, in name or metadata.
        number: 0 for the model that was loaded, then counted.
    """

    def __init__(self, tree: Tree, line: Line, parent: Version | None, edit: Edit | None, log: Any):
        self.tree, self.line, self.parent, self.edit, self.log = tree, line, parent, edit, log
        self.children: list[Version] = []
        self.number = len(tree.versions)
        self.touched: tuple[ir.Node, ...] = ()
        self.retyped: tuple[ir.Value, ...] = ()
        self.renamed: tuple[Any, ...] = ()
        self._model: weakref.ref[Model] | None = None
        tree.versions.append(self)
        if parent is not None:
            parent.children.append(self)

    def graph(self) -> ir.Model:
        """The graph at this version."""
        if self.line.at is not self:
            self.line.move(self)
        return self.line.model

    def model(self, like: Model) -> Model:
        """The model of this version; the same object for as long as somebody holds it."""
        model = self._model() if self._model is not None else None
        return model if model is not None else self.keep(like.at(self))

    def keep(self, model: Model) -> Model:
        """Remember the model of this version."""
        self._model = weakref.ref(model)
        return model

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits from the loaded model to here."""
        found = []
        version: Version = self
        while version.parent is not None:
            assert version.edit is not None
            found.append(version.edit)
            version = version.parent
        return tuple(reversed(found))


def version_of(model: Model) -> Version:
    """The version that a model is; a model that was never edited becomes the first of a tree."""
    if model.version is None:
        line = Line(model.ir)
        version = Version(Tree(_past(model.past)), line, None, None, [])
        line.at = model.version = version
        version.tree.latest = version.keep(model)
    found: Version = model.version
    return found


def apply(model: Model, edit: Edit) -> Model:
    """The model that an edit makes of another one; see ``Model.apply``."""
    with paused():  # else now and then an edit waits for a search through the whole graph
        return _apply(model, edit)


def _apply(model: Model, edit: Edit) -> Model:
    edit = checked(edit)
    version = version_of(model)
    if isinstance(edit, Whole):
        made = edit.replace(version.graph())
        try:
            check_model(skeleton(made), "the result")
            name_nodes(made)
            check_whole(made, version.graph())
        except (ModelError, EditError) as error:
            raise EditError(f"{edit.method} was refused: {error}; the model is unchanged") from None
        line = Line(made)
        new = Version(version.tree, line, version, edit, [])
    else:
        version.graph()
        line, (log, *changes) = version.line, _steps(version.line.draft, edit)
        new = Version(version.tree, line, version, edit, log)
        new.touched, new.retyped, new.renamed = changes
    line.at = new
    return version.tree.tell(new.model(model))


def _steps(draft: Draft, edit: Edit) -> tuple[tuple[Any, ...], ...]:
    """Let an edit take its steps on a draft, and check them; none of them stays when it is refused.

    Returns: the steps, and what they touched, retyped and renamed (see ``Version``).
    """
    draft.start()
    if edit.typed:
        draft.types.know()
    try:
        edit.change(draft)
        for node in list(draft.touched):
            if node.name in draft.nodes:
                check_node(node, draft)
        draft.types.settle()
        for step in draft.afterwards:
            step()
    except BaseException:
        draft.back()
        raise
    done = tuple(draft.log), tuple(draft.touched), tuple(draft.retyped), tuple(draft.renamed)
    draft.start()
    return done


class History:
    """The edits that led to a model, and the way back and forth; all of it as new values.

    ``m.history.undo()`` gives the model before the last edit and leaves ``m`` as it is.
    """

    def __init__(self, model: Model):
        self._model, self._version = model, version_of(model)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """From the original file to this model, those read from the model's metadata included."""
        return (*self._version.tree.past, *self._version.edits)

    @property
    def latest(self) -> Model:
        """The model that the last apply, undo or redo gave, on whatever branch."""
        assert self._version.tree.latest is not None
        return self._version.tree.latest

    @property
    def branches(self) -> tuple[Edit, ...]:
        """The edits that were made from this model; ``redo(i)`` goes along the i-th."""
        return tuple(child.edit for child in self._version.children if child.edit is not None)

    def undo(self) -> Model:
        """The model before the last edit. Raises EditError when there is none.

        The way back ends at the model that was loaded, also when its file carries edits that were made before: a
        file holds the result and not what it was made from. ``wb.replay(m.history.edits[:-1], original)`` goes on.
        """
        if self._version.parent is None:
            past = len(self._version.tree.past)
            raise EditError(
                f"cannot undo: the {past} edits before were made before this file was saved; replay the first "
                f"{past - 1} of m.history.edits on the original"
                if past
                else "cannot undo: this is the model as it was loaded; there is nothing before it"
            )
        return self._go(self._version.parent)

    def redo(self, branch: int = -1) -> Model:
        """The model after an edit that was undone: the latest one, or that of a branch."""
        children = self._version.children
        if not children:
            raise EditError("cannot redo: no edit was made from this model; there is nothing after it")
        if not -len(children) <= branch < len(children):
            raise EditError(
                f"cannot redo: got branch {branch}, expected 0 to {len(children) - 1}; see history.branches"
            )
        return self._go(children[branch])

    def goto(self, number: int) -> Model:
        """The model of a version, by its number in ``tree()``."""
        versions = self._version.tree.versions
        if not isinstance(number, int) or not 0 <= number < len(versions):
            raise EditError(
                f"there is no version {number!r}; expected 0 to {len(versions) - 1}; see history.tree()"
            )
        return self._go(versions[number])

    def _go(self, version: Version) -> Model:
        return version.tree.tell(version.model(self._model))

    @property
    def number(self) -> int:
        """Number of this model's version in ``tree()``."""
        return self._version.number

    def tree(self) -> list[dict[str, Any]]:
        """All versions as plain data: ``number``, ``parent`` (None for the loaded model), ``edit`` (a line of
        Python), ``current``."""
        return [
            {
                "number": version.number,
                "parent": version.parent.number if version.parent is not None else None,
                "edit": str(version.edit) if version.edit is not None else "",
                "current": version is self._version,
            }
            for version in self._version.tree.versions
        ]

    def on_change(self, listener: Callable[[Model], None]) -> Callable[[], None]:
        """Call a function with the new model after every apply, undo and redo of any model of this tree.

        Returns:
            A function that ends this.
        """
        tree, key = self._version.tree, next(self._version.tree.keys)
        tree.listeners[key] = listener
        return lambda: tree.listeners.pop(key, None) and None

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The edits as JSON; with a path also written there, with arrays and models in ``<stem>.contents/`` beside
        it. Without, those of up to 16 KB are in the text."""
        if path is not None:
            self._write_contents(Path(path))
        text = _json(self.edits, inline=path is None)
        if path is not None:
            Path(path).write_text(text)
        return text

    def to_python(self, path: str | os.PathLike[str] | None = None) -> str:
        """A script that makes this model from the original file.

        Args:
            path: also write it there, and the arrays and models of the edits, named by their content, into
                ``<stem>.contents/`` beside it.
        """
        source = str(self._model.path) if self._model.path and not self._version.tree.past else "model.onnx"
        folder = f"{Path(path).stem}.contents" if path is not None else "edits.contents"
        lines = ["import workbench as wb", "", f"m = wb.load({source!r})", *map(str, self.edits)]
        if self._contents():
            lines[:2] = [
                "from pathlib import Path",
                "",
                lines[0],
                "",
                f"here = Path(__file__).parent / {folder!r}",
            ]
        text = "\n".join(lines) + "\n"
        if path is not None:
            self._write_contents(Path(path))
            Path(path).write_text(text)
        return text

    def _contents(self) -> dict[str, Content]:
        return {content.sha256: content for edit in self.edits for content in edit.contents()}

    def _write_contents(self, path: Path) -> None:
        folder = path.with_name(f"{path.stem}.contents")
        for content in self._contents().values():
            if not content.data:
                raise EditError(
                    f"the content {content.file_name} of an edit is not in the file that this model was loaded from, "
                    "which keeps only small ones; write the script from the session that made the edits"
                )
            folder.mkdir(exist_ok=True)
            (folder / content.file_name).write_bytes(content.data)

    def __len__(self) -> int:
        return len(self.edits)

    def __repr__(self) -> str:
        rows = [f"{index:4d}  {edit}" for index, edit in enumerate(self.edits, 1)]
        after = [f"      (redo {index}: {edit})" for index, edit in enumerate(self.branches)]
        return "\n".join([f"<History of {self._model.name!r}: {len(rows)} edits>", *rows, *after])


def _json(edits: tuple[Edit, ...], *, inline: bool) -> str:
    data: dict[str, Any] = {"workbench": 1, "edits": [edit.json() for edit in edits]}
    held = {
        content.sha256: content
        for edit in edits
        for content in edit.contents()
        if len(content.data) <= INLINE
    }
    if inline and held:
        data["contents"] = {
            key: {"suffix": content.suffix, "base64": b64encode(content.data).decode()}
            for key, content in held.items()
        }
    return json.dumps(data, separators=(",", ":"))


def recorded(model: Model) -> str | None:
    """What a model file keeps of the history, None for no edits."""
    edits = History(model).edits
    return _json(edits, inline=True) if edits else None


def _past(text: str | None) -> tuple[Edit, ...]:
    """The edits in a model file; contents that it does not keep are named, and needed only to replay."""
    from .replay import edits_of

    if text is None:
        return ()
    data = json.loads(text)
    return tuple(edits_of(data, _Lenient(held=held_in(data))))


def held_in(data: Any) -> dict[str, Content]:
    """The contents that JSON carries itself."""
    held = data.get("contents", {}) if isinstance(data, dict) else {}
    return {key: of_bytes(b64decode(item["base64"]), item["suffix"]) for key, item in held.items()}


class _Lenient(Store):
    """Gives out contents without data where they were too large to be kept."""

    def find(self, sha256: str, suffix: str) -> Content:
        return self.held.get(sha256) or Content(sha256, suffix, b"")
