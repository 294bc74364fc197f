"""Find a pretrained model on this machine: a folder, or a model of the user's own Hugging Face cache.

Nothing is ever downloaded.
"""

from __future__ import annotations

from pathlib import Path

from giblet_train.schema.errors import DataError

WEIGHTS = (".safetensors", ".bin")
SETTINGS = (".json", ".txt", ".model")
"""Configuration, preprocessing and vocabulary."""


def model_folder(name: str, folder: Path, key: str) -> Path:
    """Return the folder of a model.

    Raises DataError, with the command that fetches the model, if it is not on this machine or lacks its weights.

    Args:
        name: Folder, relative to `folder` or absolute, or name of a model on the Hugging Face hub.
        folder: Folder of the study.
        key: Key of the configuration that names the model.
    """
    own = (folder / name).expanduser()
    if own.is_file():
        raise DataError(f"{key}: {own} is a file, not the folder of a model.", "Name the folder.")
    if own.is_dir():
        path, remedy = own, f"Save it there with save_pretrained, or set {key} to the name of a model."
    else:
        remedy = f"Fetch it on this machine: hf download {name}"
        path = _cached(name, key, remedy)
    if not (path / "config.json").is_file() or not any(file.suffix in WEIGHTS for file in model_files(path)):
        raise DataError(f"{key}: {path} has no configuration or no weights of a model.", remedy)
    return path


def model_files(folder: Path) -> list[Path]:
    """Return the files that decide what a model computes."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (*WEIGHTS, *SETTINGS) and p.is_file())
    if any(p.suffix == ".safetensors" for p in files):
        files = [p for p in files if p.suffix != ".bin"]
    return files


def _cached(name: str, key: str, remedy: str) -> Path:
    # Imported here: it takes longer than everything else that reads a study.
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        raise DataError(
            f"{key}: {name} is not in the Hugging Face cache of this machine, {HF_HUB_CACHE}.", remedy
        ) from None
    except HFValidationError:
        raise DataError(
            f"{key}: {name} is neither a folder nor the name of a Hugging Face model.",
            "Write OWNER/MODEL, such as openai/clip-vit-base-patch32, or an absolute path.",
        ) from None
