"""Write and read named tensors of a safetensors file one at a time, so that no whole network is in memory twice.

The file is a header's length (8 bytes, little-endian), a JSON header with each tensor's place, and the raw numbers
(https://github.com/huggingface/safetensors, "Format"). The library itself needs all tensors in memory to write them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


@dataclass(frozen=True)
class Series:
    """Named tensors that can be iterated once, in the layout's order. layout: name -> (dtype, shape)."""

    layout: Layout
    values: Iterator[Tensor]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Series:
        """Return the tensors of a mapping, each read when its turn comes."""
        return cls(layout_of(tensors), (tensors[name] for name in tensors))


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    """Return name -> (dtype, shape)."""
    return {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()}


def save_file(series: Series, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a series and its metadata. Raises OSError."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in series.layout.items():
        begin, end = end, end + dtype.itemsize * torch.Size(shape).numel()
        header[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": (begin, end)}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in series.values:
            file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


class FileTensors(Mapping[str, Tensor]):
    """The tensors of a file, each read on access. Raises SafetensorError if the file is invalid."""

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, framework="pt")
        self._names: tuple[str, ...] = tuple(self._file.keys())  # type: ignore[no-untyped-call]
        self.metadata: dict[str, str] = self._file.metadata() or {}  # type: ignore[no-untyped-call]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        tensor: Tensor = self._file.get_tensor(name)  # type: ignore[no-untyped-call]
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
