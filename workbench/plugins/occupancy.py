"""Occupancy: how many warps of a kernel a multiprocessor holds at a time, as a share of how many it could.

Limits per multiprocessor by compute capability: CUDA C++ Programming Guide, appendix "Compute Capabilities", table
"Technical Specifications per Compute Capability". Registers are given to warps in units of 256, shared memory to blocks
in units of 128 bytes, of which 1 KB per block is the system's (compute capability 8.0 and later), as the guide's
occupancy chapter and the CUDA occupancy API have it.
"""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Of one multiprocessor (shared memory in bytes)."""

    warps: int
    blocks: int
    registers: int
    shared: int
    shared_per_block: int


LIMITS = {
    "sm_80": Limits(64, 32, 65536, 164 << 10, 163 << 10),
    "sm_86": Limits(48, 16, 65536, 100 << 10, 99 << 10),
    "sm_89": Limits(48, 24, 65536, 100 << 10, 99 << 10),
    "sm_90": Limits(64, 32, 65536, 228 << 10, 227 << 10),
    "sm_120": Limits(48, 24, 65536, 100 << 10, 99 << 10),
}
_RESERVED = 1 << 10


class Occupancy(NamedTuple):
    """Share of the warps (0 to 1), blocks at a time, and what limits them."""

    share: float
    blocks: int
    limit: str


def occupancy(arch: str, threads: int, registers: int, shared: int) -> Occupancy:
    """Of a kernel with `threads` per block, `registers` per thread and `shared` bytes per block.

    0 blocks (limit ``shared memory`` or ``registers``) means that it cannot be launched.
    """
    have = LIMITS[arch]
    warps = -(-threads // 32)
    per_warp = _up(registers * 32, 256)
    # each of the four parts of a multiprocessor has a quarter of the registers, and a warp lives in one of them
    fit = 4 * (have.registers // 4 // per_warp) if per_warp else have.warps
    candidates = {
        "warps": have.warps // warps,
        "blocks": have.blocks,
        "registers": fit // warps,
        "shared memory": have.shared // _up(shared + _RESERVED, 128)
        if shared <= have.shared_per_block
        else 0,
    }
    limit = min(candidates, key=candidates.__getitem__)
    blocks = candidates[limit]
    return Occupancy(blocks * warps / have.warps, blocks, limit)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
