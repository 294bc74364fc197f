"""Small pretrained models with random weights, written as the package transformers writes real ones.

Each has two layers of 16 numbers. Tests that use them are skipped without transformers, the extra [features].
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="pip install -e '.[features]'")

WIDTH, DEPTH = 16, 2
SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
PICTURE = {"image_size": 32, "patch_size": 16}
VOCABULARY = "[UNK] [CLS] [SEP] [PAD] the a cat dog sat ran on mat far away and then it was so old"
WORDS = tuple(VOCABULARY.split())


def write_model(folder: Path, kind: str, depth: int = DEPTH) -> Path:
    """Write a model of a kind: vit, clip, videomae, wav2vec2, whisper, ast, clap, bert or gpt2."""
    import transformers

    torch.manual_seed(0)
    getattr(_Writers, kind)(transformers, SIZES | {"num_hidden_layers": depth}).save_pretrained(folder)
    if kind in ("vit", "clip", "videomae"):
        _write_json(folder / "preprocessor_config.json", {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]})
    if kind in ("bert", "gpt2", "clip"):
        _write_tokenizer(folder, transformers)
    if kind == "wav2vec2":
        transformers.Wav2Vec2FeatureExtractor(sampling_rate=16000).save_pretrained(folder)
    if kind == "ast":
        transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=64).save_pretrained(folder)
    if kind == "clap":
        transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
        _write_tokenizer(folder, transformers)
    if kind == "whisper":
        transformers.WhisperFeatureExtractor(feature_size=8).save_pretrained(folder)
    return folder


class _Writers:
    """Makes each kind of model."""

    @staticmethod
    def vit(library: Any, sizes: dict[str, int]) -> Any:
        return library.ViTModel(library.ViTConfig(**sizes, **PICTURE))

    @staticmethod
    def clip(library: Any, sizes: dict[str, int]) -> Any:
        text = sizes | {"vocab_size": len(WORDS), "max_position_embeddings": 20}
        return library.CLIPModel(library.CLIPConfig(text_config=text, vision_config=sizes | PICTURE, projection_dim=8))

    @staticmethod
    def videomae(library: Any, sizes: dict[str, int]) -> Any:
        return library.VideoMAEModel(library.VideoMAEConfig(**sizes, **PICTURE, num_frames=16, tubelet_size=2))

    @staticmethod
    def wav2vec2(library: Any, sizes: dict[str, int]) -> Any:
        convolutions = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
        return library.Wav2Vec2Model(library.Wav2Vec2Config(**sizes, **convolutions))

    @staticmethod
    def whisper(library: Any, sizes: dict[str, int]) -> Any:
        encoder = {
            "d_model": WIDTH,
            "encoder_layers": sizes["num_hidden_layers"],
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
        }
        decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 60}
        tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        return library.WhisperModel(library.WhisperConfig(**encoder, **decoder, **tokens, num_mel_bins=8))

    @staticmethod
    def ast(library: Any, sizes: dict[str, int]) -> Any:
        patches = {"num_mel_bins": 16, "max_length": 64, "patch_size": 8, "frequency_stride": 8, "time_stride": 8}
        return library.ASTModel(library.ASTConfig(**sizes, **patches))

    @staticmethod
    def clap(library: Any, sizes: dict[str, int]) -> Any:
        text = sizes | {"vocab_size": len(WORDS), "max_position_embeddings": 40}
        audio = {"depths": [1, 1], "num_attention_heads": [1, 2], "patch_embeds_hidden_size": 8, "hidden_size": WIDTH}
        return library.ClapModel(library.ClapConfig(text_config=text, audio_config=audio, projection_dim=8))

    @staticmethod
    def bert(library: Any, sizes: dict[str, int]) -> Any:
        return library.BertModel(library.BertConfig(**sizes, vocab_size=len(WORDS), max_position_embeddings=40))

    @staticmethod
    def gpt2(library: Any, sizes: dict[str, int]) -> Any:
        return library.GPT2Model(
            library.GPT2Config(
                n_embd=WIDTH, n_layer=sizes["num_hidden_layers"], n_head=2, vocab_size=len(WORDS), n_positions=40
            )
        )


def _write_tokenizer(folder: Path, library: Any) -> None:
    """Write a tokenizer of whole words."""
    import tokenizers

    vocabulary = {word: n for n, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    library.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=40
    ).save_pretrained(folder)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value))
