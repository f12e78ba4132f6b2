"""What precision does to time: an estimate from multiply-accumulates and bytes (the roofline), not a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..model.scopes import bodies
from ..model.walk import Walk
from .plan import FULL, Plan


@dataclass(frozen=True)
class Speed:
    """The most that a device does, for estimates.

    Attributes:
        full: multiply-accumulates per second in float32.
        low: the same in fp16 or bf16, accumulated in float32.
        bytes_per_s: of its memory.

    The default is an NVIDIA A100 40 GB SXM, by its datasheet ("NVIDIA A100 Tensor Core GPU", 2021): 19.5 TFLOPS fp32,
    312 TFLOPS fp16 and bf16 on tensor cores, 1,555 GB/s; a multiply-accumulate is two operations.
    """

    full: float = 9.75e12
    low: float = 156e12
    bytes_per_s: float = 1.555e12


def estimate_ms(plan: Plan, walk: Walk, speed: Speed) -> float:
    """Milliseconds of one run: for each node the longer of its arithmetic and its memory traffic.

    Nodes of low type move half the bytes. Nothing is fused and no launch costs anything, so it serves to compare two
    versions of one model, not to foretell a time. Bodies count once.
    """
    total = 0.0
    for node, role in plan.roles.nodes.items():
        if any(True for _ in bodies(node)):
            continue
        cost = walk.nodes.get(node.name or "")
        if cost is None:
            continue
        low = node in plan.low or (
            role.kind == "moves" and any(plan.dtype.get(node.outputs[i], FULL) != FULL for i in role.outputs)
        )
        arithmetic = (cost.macs or 0) / (speed.low if low else speed.full)
        traffic = (cost.bytes or 0) / speed.bytes_per_s / (2 if low else 1)
        total += max(arithmetic, traffic)
    return total * 1e3


def in_full(plan: Plan) -> Mapping[str, int]:
    """How many nodes of each kind end up in float32: what computes, and what moves values between those."""
    computing = [n for n, role in plan.roles.nodes.items() if role.kind == "computes" and n not in plan.low]
    moving = [
        node
        for node, role in plan.roles.nodes.items()
        if role.kind == "moves" and any(plan.dtype.get(node.outputs[i]) == FULL for i in role.outputs)
    ]
    return {"computes": len(computing), "moves": len(moving)}
