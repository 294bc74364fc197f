"""Write docs/log-formats.md: one short example per log format with the output of `giblet why`.

python -m tests.collection.log_formats_page
"""

from __future__ import annotations

import itertools
import re
import tempfile
from pathlib import Path

from giblet_tui.reporting.why import of_path, why_lines
from tests.collection.balanced_logs import BALANCED, balanced_log
from tests.collection.log_ends import DEAD, epochs
from tests.collection.log_formats import FORMATS, TABLES, course

PAGE = Path(__file__).parents[2] / "docs" / "log-formats.md"
EPOCH_LINES, END_LINES, SHOWN_COLUMNS = 3, 6, 160

HEAD = """\
# Log formats that `giblet why` reads

For everyone who has a log of a training that giblet did not start: from your own script, Keras, Lightning, the
Hugging Face Trainer, nnU-Net and others. `giblet why LOG` takes a file or a folder; `giblet adopt` reads the log of a
live training in the same way.

- **Names and layout are free.** A line needs an epoch or step and named numbers, such as `train_loss`, `Val Loss`,
  `eval/loss`, `lr`, `fMRI Corr`. One epoch may take several lines. The counter may be `Epoch 9`, `ep9`, `(9)`,
  `[9/50]`, `#9` or only a number before two losses. Prefixes (rank, time, level, host), colours and progress bars are
  skipped.
- **Numbers** may have thousands separators, decimal commas, a leading dot or an exponent.
- **Parts of the loss** are found by their sum: numbers that add up to the printed total, with weights of one digit.
  Without a total, names such as `recon` and `kl` are added up. A perplexity is read as its logarithm.
- **A loss that cannot be read is shown**, with its line and exit code 2. So is a log in which no loss is found. The
  answer is then never "nothing is wrong".
- **Without epochs**, or with fewer than three, blocks of steps are judged as epochs, and the answer says so. One or two
  epochs without such steps cannot be judged yet (exit code 2).
- **Folds**, subjects and seeds in one log, each below a heading such as `Fold 2/5`, are judged one by one.
- **A learning rate** that is 0 while the loss does not change, or that vanishes long before the end, is reported. So
  are **waiting for data**, where a log prints both `time` and `data_time`, a **gradient norm** that becomes 0, and a
  **stall**, where times in front of the lines continue for long without progress.
- **A folder** of per-rank logs is one training; the earliest error counts. Logs of successive starts (`slurm-1.out`,
  `slurm-2.out`; `train.log.1`, `train.log`; attempts of torchrun) are read in turn if each begins at a later epoch.
  An offline wandb folder is read by its `files/output.log`; the binary `.wandb` file is not read.
- **A table printed for the screen** is read if its header names an epoch or step and a loss.
- **A log without a loss** is judged by an error such as `rmse`, or by numbers that only `train` and `val` name, if
  they fall at first. Without these, by an accuracy, a reward, or a fitness or count such as `91/100` that rises.
- **Not read**: three or more numbers without names. **Not judged**: losses that balance each other, as of adversarial
  networks and reinforcement learning; only nan, a discriminator that wins, a reward that collapses, and the end are
  reported. A reward that rises shows that such a training learns.

The examples show logs of a training whose loss becomes nan in epoch 7 of 9, each up to the first nan, and what
`giblet why` prints for them. Notes on standard error are left out. This page is written by
`python -m tests.collection.log_formats_page`, and a test compares it with the program.
"""

SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Lines of a training script": (
        "Any separator, any order, other metrics in between, one or several lines per epoch.",
        (
            *("pipes", "brackets", "commas", "dashes", "equals", "camel_case", "padded", "metric_between"),
            *("uncertainties", "two_lines", "four_lines", "groups", "loss_groups", "side_by_side", "bare_splits"),
        ),
    ),
    "Decimal commas and thousands separators": ("", ("decimal_comma", "thousands", "german_words")),
    "Prefixes": (
        "Of Python's logging, loguru, torchrun and srun.",
        ("logger", "loguru", "rank_prefix", "torchrun_tee", "srun_labels"),
    ),
    "JSON lines": ("", ("json_lines", "nested_json", "json_in_text")),
    "Hugging Face Trainer": ("Printed lines, or `trainer_state.json`.", ("hugging_face_lines", "trainer_state")),
    "PyTorch Lightning": ("Progress bars, or `metrics.csv`.", ("lightning_bars", "lightning_csv")),
    "Keras": (
        "Output of `fit`, CSVLogger, or the history as JSON.",
        ("keras", "keras_3", "keras_csv", "keras_history"),
    ),
    "nnU-Net": ("Versions 1 and 2; losses may be negative.", ("nnunet_v1", "nnunet_v2")),
    "Lines per step": (
        "MAE and timm, mmengine, fairseq, PyTorch's examples, ESPnet, DARTS.",
        ("mae", "mmengine", "fairseq", "mnist", "espnet", "darts"),
    ),
    "Boosted models": ("XGBoost and LightGBM.", ("xgboost", "lightgbm")),
    "Files of tables": ("ultralytics, and spreadsheets.", ("ultralytics_csv", "german_csv")),
    "Tables printed for the screen": (
        "fastai, skorch, model cards of Hugging Face, rich, MATLAB, AllenNLP, and comma-separated lines in a log.",
        ("fastai", "skorch", "markdown_table", "ruled_table", "two_line_header", "allennlp", "csv_in_text"),
    ),
    "Files that are not plain text": (
        "TensorBoard event files, compressed logs, UTF-16 and line ends of Windows, colours, folders of wandb and of\n"
        "torchrun.",
        (
            *("tensorboard", "compressed", "utf_16", "byte_order_mark", "carriage_returns", "colours"),
            *("wandb_folder", "rank_folder"),
        ),
    ),
}
"""Section -> (introduction, names of formats)."""
NOT_SHOWN = {
    "tensorboard": "a binary event file",
    "compressed": "a gzip file",
    "utf_16": "text in UTF-16",
    "byte_order_mark": "text with a byte order mark",
    "carriage_returns": "lines that end with CR and LF",
    "colours": "lines with colours",
}
"""Format -> description in place of an excerpt."""
BALANCED_INTRODUCTION = (
    "Of CycleGAN, Stable-Baselines3 and RSL-RL. They need not fall, so the exit code is 2 as long as they are\n"
    "numbers; nan and errors are reported as in any other log."
)
ENDS = ("gpu_memory", "watchdog", "host_memory_exit_code", "shared_memory_bus_error", "disk_stream_writer", "files")


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, (introduction, names) in SECTIONS.items():
        parts.append(f"## {title}\n" + (f"\n{introduction}\n" if introduction else ""))
        parts += _blocks([_example(name) for name in names])
    parts.append(f"## Losses that balance each other\n\n{BALANCED_INTRODUCTION}\n")
    parts += _blocks([_balanced_example(name) for name in BALANCED])
    parts.append("## How trainings end\n\nThe last lines of a log, and the cause that is named.\n")
    parts += _blocks([_end_example(kind) for kind in ENDS])
    return "\n".join(parts)


def _example(name: str) -> tuple[str, str]:
    """Return (excerpt of a log, command and answer)."""
    with tempfile.TemporaryDirectory() as folder:
        path = FORMATS[name](course("nan", 9), Path(folder))
        return "\n".join(_excerpt(name, path)), _answer(path)


def _end_example(kind: str) -> tuple[str, str]:
    _, last_lines = DEAD[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.log"
        path.write_text("\n".join([*epochs(1, 20), *last_lines]) + "\n")
        return "\n".join(line[:SHOWN_COLUMNS] for line in last_lines[:END_LINES]), _answer(path)


def _balanced_example(name: str) -> tuple[str, str]:
    """Return an iteration of a training whose losses balance each other, and the answer for its log."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.log"
        path.write_text(balanced_log(name))
        excerpt = [line.rstrip() for line in BALANCED[name](1, 1.0).splitlines()]
        return "\n".join(excerpt), _answer(path)


def _answer(path: Path) -> str:
    return "\n".join([f"$ giblet why {path.name}", *why_lines(of_path(path, None))[:3]])


def _blocks(examples: list[tuple[str, str]]) -> list[str]:
    """Format examples; those with the same answer share it."""
    blocks = []
    for answer, group in itertools.groupby(examples, key=lambda example: example[1]):
        excerpts = "\n\n".join(excerpt for excerpt, _ in group)
        blocks.append(f"```text\n{excerpts}\n```\n```console\n{answer}\n```\n")
    return blocks


def _excerpt(name: str, path: Path) -> list[str]:
    if name in NOT_SHOWN:
        return [f"({NOT_SHOWN[name]})"]
    if path.is_dir():
        return [f"{file.relative_to(path.parent)}" for file in sorted(path.glob("**/*")) if file.is_file()]
    lines = [line for line in re.split(r"[\r\n]+", path.read_text()) if line.strip()]
    n_header_lines = len(TABLES[name][0].splitlines()) if name in TABLES else int(path.suffix == ".csv")
    head = lines[:n_header_lines]
    first_nan = next(number for number, line in enumerate(lines) if "nan" in line.lower())
    excerpt = lines[max(len(head), first_nan - EPOCH_LINES + 1) : first_nan + 1]
    return [line[:SHOWN_COLUMNS].rstrip() for line in [*head, *excerpt]]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
