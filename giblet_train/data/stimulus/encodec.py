"""EnCodec codes of the film's sound: 4 books of 1024 codes, 75 per second (24 kHz, 3 kbit/s; Défossez et al. 2022).

Codes are categories and are only counted. No package contains the weights; if they are missing, an error says so and
nothing replaces them. T TRs, N moments of a TR or of the film, B books, S samples.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.stimulus.audio import read_samples
from giblet_train.data.stimulus.film_timeline import FilmTimeline
from giblet_train.schema.errors import DataError

MODEL = "facebook/encodec_24khz"
KBIT_PER_S = 3.0
BLOCK_S = 30
FILE = "data.features.audio: {file: codes.npy, rows_per_s: 75, codes: 1024}"


def extract(timeline: FilmTimeline) -> NDArray[np.int64]:
    """Return (T, N, B) codes. Raises DataError if transformers or the weights are missing."""
    return codes_of(_model(), timeline)


def sound(codes_TB: NDArray[np.integer[Any]], tr_s: float) -> tuple[NDArray[np.float32], int]:
    """Decode one code per TR and book into (S,) sound. Returns it with its rate. Raises DataError like `extract`."""
    return sound_of(_model(), codes_TB, tr_s)


def _model() -> Any:
    if find_spec("transformers") is None:
        raise DataError(
            "EnCodec runs in the package transformers, which is not installed.",
            f"pip install transformers; or bring codes that were made elsewhere: {FILE}",
        )
    library = import_module("transformers")
    try:
        return library.EncodecModel.from_pretrained(MODEL, local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise DataError(
            f"EnCodec's weights ({MODEL}) cannot be had: {str(error).splitlines()[0]}",
            f"Fetch them once where there is a network (hf download {MODEL}); or bring codes as a file: {FILE}",
        ) from None


def codes_of(model: Any, timeline: FilmTimeline) -> NDArray[np.int64]:
    """Return (T, N, B) codes at N evenly spaced moments of each TR; the sound is encoded in blocks of 30 s."""
    torch = import_module("torch")
    rate_hz = int(model.config.sampling_rate)
    media = timeline.sound or timeline.film
    if media is None:
        raise DataError("EnCodec needs a file with sound.", "Set data.video.")
    wave_S = read_samples(media, rate_hz)
    blocks = []
    for first in range(0, len(wave_S), BLOCK_S * rate_hz):
        block = torch.from_numpy(wave_S[first : first + BLOCK_S * rate_hz])[None, None]
        with torch.inference_mode():
            encoded = model.encode(block, bandwidth=KBIT_PER_S)
        blocks.append(encoded.audio_codes[0, 0].T.cpu().numpy())
    codes_NB = np.concatenate(blocks)
    per_s = float(model.config.frame_rate)
    per_tr = max(1, round(per_s * timeline.tr_s))
    moments_TN = np.arange(timeline.n_trs)[:, None] + (np.arange(per_tr) + 0.5) / per_tr
    places_TN = ((timeline.start_s + moments_TN * timeline.tr_s) * per_s).astype(int)
    return np.asarray(codes_NB[places_TN.clip(0, len(codes_NB) - 1)], np.int64)


def sound_of(model: Any, codes_TB: NDArray[np.integer[Any]], tr_s: float) -> tuple[NDArray[np.float32], int]:
    """Return (S,) sound and its sample rate; the code of a TR is repeated for all its moments."""
    torch = import_module("torch")
    per_s = float(model.config.frame_rate)
    moments_N = np.arange(round(len(codes_TB) * tr_s * per_s))
    codes_NB = codes_TB[(moments_N / (tr_s * per_s)).astype(int).clip(0, len(codes_TB) - 1)]
    with torch.inference_mode():
        decoded = model.decode(torch.from_numpy(codes_NB.T.astype(np.int64))[None, None], [None])
    return decoded.audio_values[0, 0].cpu().numpy().astype(np.float32), int(model.config.sampling_rate)
