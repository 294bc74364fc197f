"""giblet's training engine and Python API. On a node: `python -m giblet_train train RUN_DIR`; API: docs/api.md."""

from importlib import import_module

__version__ = "0.1.0"
_API = {
    "Film": "giblet_train.portable.film_features",
    **dict.fromkeys(("Model", "Prediction", "Score", "load"), "giblet_train.portable.api"),
    **dict.fromkeys(("RunRecords", "read_run"), "giblet_train.portable.run_records"),
}
"""Name of the API -> its module, which is imported when the name is first used: torch takes a second."""


def __getattr__(name: str) -> object:
    if name in _API:
        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["__version__", *_API]
