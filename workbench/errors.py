"""Every error that Workbench raises on purpose.

WorkbenchError
├── ModelError            a file or graph that cannot be used as a model      (also a ValueError)
├── InputError            input data that does not fit the model              (also a ValueError)
├── NotInModelError       a name that the model does not have                 (also a KeyError)
├── EditError             an edit that was refused; the model is unchanged   (also a ValueError)
├── CompareError          a comparison that cannot be made                    (also a ValueError)
├── ProfileError          a profile that cannot be taken or read              (also a ValueError)
├── PluginError           a plugin's declaration that does not hold together  (also a ValueError)
│   └── CompileError          its kernel does not compile; carries .errors
├── EngineError           what cannot be read or used as a TensorRT engine    (also a ValueError)
└── BackendError          a runtime; carries .backend, .model and .phase
    ├── BackendNotInstalled   its library is missing                          (also an ImportError)
    ├── BackendFailed         it raised an error
    │   └── BuildError            TensorRT refused a model; carries .nodes, .reasons and .log
    ├── BackendCrashed        its process died: segfault, abort, out of memory
    └── BackendTimeout        it gave no answer in time and was ended         (also a TimeoutError)

A message says what failed, on which named thing; what was got and what was expected; what to do.
"""

from __future__ import annotations


class WorkbenchError(Exception):
    """Base of all errors that Workbench raises on purpose."""


class ModelError(WorkbenchError, ValueError):
    """A file or graph that cannot be used as a model."""


class InputError(WorkbenchError, ValueError):
    """Input data that does not fit the model."""


class NotInModelError(WorkbenchError, KeyError):
    """A name that the model does not have."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class EditError(WorkbenchError, ValueError):
    """An edit that was refused; the model is unchanged."""


class CompareError(WorkbenchError, ValueError):
    """A comparison that cannot be made."""


class ProfileError(WorkbenchError, ValueError):
    """A profile that cannot be taken or read."""


class PluginError(WorkbenchError, ValueError):
    """A plugin's declaration that does not hold together, or that does not fit what it is used for."""


class CompileError(PluginError):
    """A plugin's kernel does not compile.

    Attributes:
        errors: (line of the user's cell or file, what the compiler says), in its order.
    """

    def __init__(self, message: str, errors: list[tuple[int, str]]):
        super().__init__(message)
        self.errors = errors

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message alone, because the lines that matter are those of the kernel."""
        return [f"{type(self).__name__}: {self}"]


class EngineError(WorkbenchError, ValueError):
    """What cannot be read or used as a TensorRT engine."""


class BackendError(WorkbenchError):
    """A runtime failed on a model.

    Attributes:
        backend: the runtime's name, as in ``backend="onnxruntime"``.
        model: the display name of the model (or of the piece of it) that was worked on.
        phase: ``start``, ``load``, ``run`` or ``profile``.
    """

    def __init__(self, message: str, *, backend: str = "", model: str = "", phase: str = ""):
        super().__init__(message)
        self.backend, self.model, self.phase = backend, model, phase


class BackendNotInstalled(BackendError, ImportError):
    """The runtime's library is missing."""


class BackendFailed(BackendError):
    """The runtime raised an error."""


class BuildError(BackendFailed):
    """TensorRT's parser or builder refused a model.

    Attributes:
        nodes: names of the nodes that were refused, where TensorRT names them.
        reasons: what it said, one text for each.
        log: a ``workbench.tensorrt.log.Log``, or None.
    """

    def __init__(
        self, message: str, *, nodes: tuple = (), reasons: tuple = (), log: object = None, **about: str
    ):
        super().__init__(message, **about)
        self.nodes, self.reasons, self.log = nodes, reasons, log


class BackendCrashed(BackendError):
    """The runtime's process died."""


class BackendTimeout(BackendError, TimeoutError):
    """The runtime gave no answer in time and was ended."""
