"""Takes the big weights out of an encoded ONNX file, leaving where they lie, so that nothing is copied or
decoded.

Reads the protobuf wire format (https://protobuf.dev/programming-guides/encoding/) of onnx.proto, and only the
messages that are big: in ``skeleton(...)`` each tensor whose raw bytes take more than ``THRESHOLD`` has them
replaced by a reference (``external_data`` with the location ``SELF`` and their offset and length in the
file). All else is byte for byte as it was, so a protobuf parser sees the same model without the weights.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from mmap import mmap

SELF = f"\x00{secrets.token_hex(8)}"
"""Location of a tensor whose bytes lie in the file that was scanned: no file name, and not to be guessed."""
THRESHOLD = 1024
MAX_DEPTH = 100  # of nested messages: the limit of protobuf's own parsers

# onnx.proto: message -> field number -> message of the fields that can hold tensors
_HOLDERS = {
    "Model": {7: "Graph", 25: "Function"},
    "Function": {7: "Node"},
    "Graph": {1: "Node", 5: "Tensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph"},
}
_DIMS, _TYPE, _RAW, _EXTERNAL, _LOCATION = 1, 2, 9, 13, 14
# packed fields whose bytes equal raw_data: float_data of FLOAT and COMPLEX64, double_data of DOUBLE and
# COMPLEX128
_PACKED = {4: (1, 14), 10: (11, 15)}
_PAYLOAD = {4, 5, 6, 7, 9, 10, 11}


def skeleton(data: bytes | mmap) -> bytes:
    """The encoded model without its big weights.

    Raises:
        ValueError: not in the wire format (or in a part of it that ONNX does not use); decode it as usual
            then.
    """
    return _message(data, 0, len(data), "Model", 0) or bytes(data)


def _message(data: bytes | mmap, start: int, end: int, kind: str, depth: int) -> bytes | None:
    """The re-encoded message, None when nothing in it changed."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    if kind == "Tensor":
        return _tensor(data, start, end)
    holders, parts, kept, seen = _HOLDERS[kind], [], start, set()
    for field, at, body, stop in _fields(data, start, end):
        if kind == "Attribute" and field in (5, 6):
            if field in seen:
                raise ValueError("a field that must be single is there twice")
            seen.add(field)
        if stop - body > THRESHOLD and field in holders:
            changed = _message(data, body, stop, holders[field], depth + 1)
            if changed is not None:
                parts += [data[kept:at], _varint(field << 3 | 2), _varint(len(changed)), changed]
                kept = stop
    return b"".join([*parts, data[kept:end]]) if parts else None


def _tensor(data: bytes | mmap, start: int, end: int) -> bytes | None:
    payload, dtype, rest = [], None, []
    for field, at, body, stop in _fields(data, start, end):
        if field in _PAYLOAD:
            payload.append((field, body, stop))
            continue
        if field == _TYPE:
            dtype = _read_varint(data, body, stop)[0]
        if field in (_EXTERNAL, _LOCATION):
            return None
        rest.append(data[at:stop])
    if len(payload) != 1:
        return None
    field, body, stop = payload[0]
    if stop - body <= THRESHOLD or (field != _RAW and dtype not in _PACKED.get(field, ())):
        return None
    entries = {"location": SELF, "offset": str(body), "length": str(stop - body)}
    pairs = [_string(1, key) + _string(2, value) for key, value in entries.items()]
    return b"".join([*rest, *(message(_EXTERNAL, pair) for pair in pairs), _varint(_LOCATION << 3), b"\x01"])


def _fields(data: bytes | mmap, pos: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, start of the tag, start and end of the value) of each field of a message."""
    while pos < end:
        at = pos
        tag, pos = _read_varint(data, pos, end)
        wire, body = tag & 7, pos
        if wire == 0:
            _, pos = _read_varint(data, pos, end)
        elif wire == 2:
            length, body = _read_varint(data, pos, end)
            pos = body + length
        elif wire in (1, 5):
            pos += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if pos > end:
            raise ValueError("cut off")
        yield (tag >> 3 if wire == 2 or tag >> 3 in (_TYPE, _LOCATION) else 0), at, body, pos


def _read_varint(data: bytes | mmap, pos: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while pos < end and shift < 64:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
    raise ValueError("bad varint")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(field: int, value: bytes) -> bytes:
    """A field that holds a message, text or bytes."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _string(field: int, value: str) -> bytes:
    return message(field, value.encode())


def open_tensor(header: bytes, length: int | None) -> bytes:
    """The start of an initializer of a graph: all but its raw data, of which ``length`` bytes follow (None:
    none)."""
    raw = b"" if length is None else _varint(_RAW << 3 | 2) + _varint(length)
    return b"\x2a" + _varint(len(header) + len(raw) + (length or 0)) + header + raw


def open_graph(length: int) -> bytes:
    """The start of the graph of a model, of which ``length`` bytes follow."""
    return b"\x3a" + _varint(length)
