"""Precision: conversion to fp16 or bf16, its simulation in float32, and what has to stay in float32."""

from __future__ import annotations

from .convert import ConvertPrecision, SimulatePrecision, convert, nodes, simulate
from .result import SearchResult
from .search import search
from .speed import Speed
from .weights import weights

__all__ = [
    "ConvertPrecision",
    "SearchResult",
    "SimulatePrecision",
    "Speed",
    "convert",
    "nodes",
    "search",
    "simulate",
    "weights",
]
