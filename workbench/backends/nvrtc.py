"""NVRTC, the compiler of CUDA C++ that needs no GPU: what runs inside the worker process. The sole importer of it.

A header that a kernel includes (``cuda_fp16.h``) is looked for in ``$CUDA_HOME/include``, then in what NVRTC carries
along (13.3 and newer), which is written into the cache folder once.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any


class Runtime:
    """NVRTC for the worker."""

    def __init__(self) -> None:
        from cuda.bindings import nvrtc

        self.library = nvrtc
        self.version = ".".join(map(str, self._did(nvrtc.nvrtcVersion())))
        self.archs = [f"sm_{number}" for number in self._did(nvrtc.nvrtcGetSupportedArchs())[0]]

    def compile(
        self, source: str, title: str, arch: str, options: list[str], headers: dict[str, str], cache: str
    ) -> dict[str, Any]:
        """Compile for one architecture.

        Args:
            source: the whole text.
            title: what messages call it.
            arch: for example ``sm_90``.
            headers: name -> text of what it may include.
            cache: folder for the headers that NVRTC carries.

        Returns:
            ``cubin`` (bytes; empty if it failed) and ``log``.
        """
        nvrtc = self.library
        if arch.rstrip("af") not in self.archs:  # sm_90a: with what that architecture alone has
            raise RuntimeError(
                f"NVRTC {self.version} has no architecture {arch!r}; expected one of {', '.join(self.archs)}"
            )
        texts = [text.encode() for text in headers.values()]
        names = [header.encode() for header in headers]
        program = self._did(
            nvrtc.nvrtcCreateProgram(source.encode(), title.encode(), len(texts), texts, names)
        )[0]
        try:
            given = [*options, f"--gpu-architecture={arch}", *self._includes(source, set(headers), cache)]
            (status,) = nvrtc.nvrtcCompileProgram(program, len(given), [option.encode() for option in given])
            log = self._text(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
            if status == nvrtc.nvrtcResult.NVRTC_ERROR_COMPILATION:
                return {"cubin": b"", "log": log.decode(errors="replace")}
            self._did((status,))
            cubin = self._text(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
            return {"cubin": cubin, "log": log.decode(errors="replace")}
        finally:
            nvrtc.nvrtcDestroyProgram(program)

    def _includes(self, source: str, own: set[str], cache: str) -> list[str]:
        if not set(re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)', source, re.M)) - own:
            return []
        for root in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
            if root and (Path(root) / "include" / "cuda_fp16.h").exists():
                return [f"-I{root}/include"]
        install = getattr(self.library, "nvrtcInstallBundledHeaders", None)
        if install is None:
            return []
        folder = Path(cache) / f"cuda-headers-{self.version}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._did(install(str(folder).encode(), 0)[:1])
        return [f"-I{folder}", f"-I{folder}/cccl"]

    def _text(self, program: Any, size: Any, get: Any) -> bytes:
        data = bytearray(self._did(size(program))[0])
        self._did(get(program, data))
        return bytes(data).rstrip(b"\0") if get is self.library.nvrtcGetProgramLog else bytes(data)

    def _did(self, answer: tuple) -> tuple:
        """What a call returned behind its status; RuntimeError when that is no success."""
        status, *values = answer
        if status != self.library.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"NVRTC: {self.library.nvrtcGetErrorString(status)[1].decode()}")
        return tuple(values)
