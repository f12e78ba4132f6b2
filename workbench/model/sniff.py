"""Guesses what a file is that is no ONNX model, for the error message."""

from __future__ import annotations

from mmap import mmap

_MAGIC = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program or library (ELF)"),
    (b"\x1f\x8b", "gzip-compressed data; unpack it first"),
    (b"\x89HDF", "an HDF5 file (a Keras model?); convert it with tf2onnx"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (
        b"PK\x03\x04",
        "a zip archive (a PyTorch checkpoint .pt, an .npz or a packed model); unpack or export it to ONNX",
    ),
    (b"\x80\x02", "a Python pickle (an old PyTorch checkpoint?); load it in PyTorch and export it to ONNX"),
    (b"\x80\x04", "a Python pickle; load it in Python and export it to ONNX"),
    (b"GGUF", "a GGUF model (llama.cpp)"),
    (b"ftrt", "a TensorRT engine"),
    (b"ptrt", "a TensorRT engine"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (b"<!DOCTYPE html", "a web page (a download that needs a login?)"),
    (b"<html", "a web page (a download that needs a login?)"),
    (b"7767517", "an ncnn parameter file"),
)


def looks_like(data: bytes | mmap) -> str:
    """``it looks like ...``, from the first bytes of a file (anything that can be sliced to bytes)."""
    head = bytes(data[:512])
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return f"it looks like {kind}"
    if head[4:8] in (b"TFL3", b"ORTM"):
        return "it looks like " + (
            "a TensorFlow Lite model" if head[4:8] == b"TFL3" else "an ONNX Runtime (.ort) model"
        )
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= len(data):
        return "it looks like a safetensors file, which holds weights only; export the whole model to ONNX"
    if head.strip(b"\x00") == b"":
        return "it begins with zeros; the copy or download was not completed"
    text = head.decode("utf-8", "ignore")
    if (
        text.strip()
        and len(text.encode()) > len(head) - 4
        and all(c.isprintable() or c in "\t\r\n" for c in text)
    ):
        return f"it looks like text that begins with {text.strip().splitlines()[0][:40]!r}"
    return "its bytes cannot be decoded; it may be cut off or damaged, copy or export it again"
