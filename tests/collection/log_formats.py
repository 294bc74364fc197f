"""Write the same training in every log format that `giblet why` reads."""

from __future__ import annotations

import gzip
import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Epoch:
    """Values of one epoch, counted from 1."""

    number: int
    of: int
    train: float
    validation: float
    lr: float


Course = list[Epoch]
Write = Callable[[Course, Path], Path]


def course(kind: str, n: int = 24) -> Course:
    """Return a training that is `healthy`, becomes `nan` after two thirds, or starts to `overfit` after a third."""
    epochs = []
    for number in range(1, n + 1):
        train = 0.8 + 1.6 * math.exp(-number / (0.3 * n)) + 0.004 * math.sin(17 * number)
        validation = 1.06 * train + 0.01 * math.sin(5 * number)
        if kind == "nan" and number > 2 * n // 3:
            train = validation = math.nan
        if kind == "overfit" and number > n // 3:
            validation = 2.0 + 0.12 * (number - n // 3) + 0.01 * math.sin(5 * number)
        epochs.append(Epoch(number, n, train, validation, 3e-4))
    return epochs


def text_format(line: Callable[[Epoch], str], name: str = "train.log", head: str = "", end: str = "\n") -> Write:
    """Return a writer of a text log with the given lines per epoch."""

    def write(epochs: Course, folder: Path) -> Path:
        path = folder / name
        path.write_bytes((head + "".join(line(epoch) + end for epoch in epochs)).encode())
        return path

    return write


def _keras(epoch: Epoch) -> str:
    bars = "".join(
        f"\r{step:3d}/100 [{'=' * (step // 5)}>] - ETA: {100 - step}s - loss: {epoch.train:.4f}" for step in (1, 40, 80)
    )
    values = f"loss: {epoch.train:.4f} - accuracy: 0.5012 - val_loss: {epoch.validation:.4f} - val_accuracy: 0.4917"
    return f"Epoch {epoch.number}/{epoch.of}\n{bars}\r100/100 [{'=' * 30}] - 32s 320ms/step - {values}"


def _keras_3(epoch: Epoch) -> str:
    values = f"loss: {epoch.train:.4f} - val_loss: {epoch.validation:.4f} - learning_rate: {epoch.lr:.4e}"
    return f"Epoch {epoch.number}/{epoch.of}\n100/100 {'━' * 20} 12s 120ms/step - {values}"


def _lightning_bars(epoch: Epoch) -> str:
    return "".join(
        f"\rEpoch {epoch.number - 1}: {p:3d}%|{'█' * (p // 10)}| {5 * p}/500 [00:50<01:00, 1.37it/s, v_num=3, "
        f"train_loss={epoch.train:.3f}, val_loss={epoch.validation:.3f}]"
        for p in (0, 50, 100)
    )


def _nnunet_v1(epoch: Epoch) -> str:
    at = f"2020-12-21 18:{epoch.number:02d}"
    return (
        f"\n{at}:07.57: \nepoch:  {epoch.number - 1}\n{at}:28.04: train loss : {epoch.train:.4f}\n"
        f"{at}:30.04: validation loss: {epoch.validation:.4f}\n{at}:30.05: Average foreground Dice: [0.81, 0.79]\n"
        f"{at}:31.04: lr: {epoch.lr:.6f}"
    )


def negative(loss: float) -> float:
    """Return a loss at the level of a negative Dice loss."""
    return loss - 2


def in_units(loss: float) -> float:
    """Return a loss of data that carry a unit."""
    return 1000 * loss


def _nnunet_v2(epoch: Epoch) -> str:
    at = f"2023-08-09 14:{epoch.number:02d}"
    return (
        f"{at}:25.642085: Epoch {epoch.number - 1} \n{at}:25.642090: Current learning rate: {epoch.lr:.5f} \n"
        f"{at}:51.409852: train_loss {negative(epoch.train):.4f} \n"
        f"{at}:51.440985: val_loss {negative(epoch.validation):.4f} \n"
        f"{at}:51.441061: Pseudo dice [0.6712, 0.5831] \n{at}:51.452639: Epoch time: 134.72 s "
    )


def _mae(epoch: Epoch) -> str:
    steps = "\n".join(
        f"Epoch: [{epoch.number - 1}]  [{step:4d}/1504]  eta: 0:10:12  lr: {epoch.lr:.6f}  "
        f"loss: {epoch.train * wobble:.4f} ({epoch.train:.4f})  time: 0.4011  data: 0.0002  max mem: 15203"
        for step, wobble in ((0, 1.1), (750, 0.9), (1503, 1.02))
    )
    return (
        f"{steps}\nAveraged stats: lr: {epoch.lr:.6f}  loss: {epoch.train:.4f} ({epoch.train:.4f})\n"
        f"Test:  [  0/50]  eta: 0:01:10  loss: {epoch.validation:.4f} ({epoch.validation:.4f})  acc1: 75.0 (75.0)\n"
        f"* Acc@1 75.112 Acc@5 92.310 loss {epoch.validation:.3f}"
    )


def _mmengine(epoch: Epoch) -> str:
    at = "2023/05/04 10:00:01 - mmengine - INFO -"
    lines = [
        f"{at} Epoch(train)  [{epoch.number}][{step:3d}/100]  lr: {epoch.lr:.4e}  eta: 0:10:00  time: 0.5012  "
        f"data_time: 0.01  memory: 6123  grad_norm: 2.1  loss: {epoch.train * wobble:.4f}  loss_cls: 0.3"
        for step, wobble in ((50, 1.01), (100, 0.99))
    ]
    return "\n".join([*lines, f"{at} Epoch(val)  [{epoch.number}][20/20]    loss: {epoch.validation:.4f}  time: 0.1"])


def _fairseq(epoch: Epoch) -> str:
    at = "2021-03-01 12:00:01 | INFO |"
    return (
        f"{at} train | epoch {epoch.number:03d} | loss {epoch.train:.3f} | nll_loss 3.1 | ppl 8.6 | wps 21000 | lr "
        f"{epoch.lr:.5g} | gnorm 1.2\n{at} valid | epoch {epoch.number:03d} | valid on 'valid' subset | loss "
        f"{epoch.validation:.3f} | nll_loss 3.3 | ppl 9.8"
    )


def _mnist(epoch: Epoch) -> str:
    steps = "\n".join(
        f"Train Epoch: {epoch.number} [{step}/60000 ({step // 600}%)]\tLoss: {epoch.train:.6f}"
        for step in (0, 640, 1280)
    )
    return f"{steps}\n\nTest set: Average loss: {epoch.validation:.4f}, Accuracy: 9830/10000 (98%)\n"


def _darts(epoch: Epoch) -> str:
    at = "03/12 11:48:04 AM"
    steps = [f"{at} train {step:03d} {epoch.train:e} 52.083333 94.791664" for step in (0, 50, 100)]
    end = [f"{at} train_acc 52.17", f"{at} valid 000 {epoch.validation:e} 50.100000 93.000000", f"{at} valid_acc 50.16"]
    return "\n".join([f"{at} epoch {epoch.number} lr {epoch.lr:e}", *steps, *end])


def _allennlp(epoch: Epoch) -> str:
    at = "2019-10-14 16:48:27,962 - INFO - allennlp.training"
    return (
        f"{at}.trainer - Epoch {epoch.number - 1}/{epoch.of - 1}\n"
        f"{at}.tensorboard_writer -             Training |  Validation\n"
        f"{at}.tensorboard_writer - accuracy |    0.512  |     0.493\n"
        f"{at}.tensorboard_writer - loss     |   {epoch.train:.4f}  |    {epoch.validation:.4f}\n"
        f"{at}.trainer - Epoch duration: 0:05:01"
    )


def _espnet(epoch: Epoch) -> str:
    at = "[node07] 2024-03-01 10:00:01,321"
    return (
        f"{at} (trainer:738) INFO: {epoch.number}epoch:train:1-50batch: loss_ctc=1.2, acc=0.6, loss={epoch.train:.4f}\n"
        f"{at} (trainer:343) INFO: {epoch.number}epoch results: [train] loss_ctc=1.2, acc=0.6, loss={epoch.train:.4f}, "
        f"optim0_lr0={epoch.lr:.1e}, [valid] loss_ctc=1.3, acc=0.5, loss={epoch.validation:.4f}, total_count=100"
    )


def _comma(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}".replace(".", ",")


LINES: dict[str, Callable[[Epoch], str]] = {
    "pipes": lambda e: (
        f"Epoch {e.number}/{e.of} | Train Loss: {e.train:.4f} | Val Loss: {e.validation:.4f} | LR: {e.lr:.2e}"
    ),
    "brackets": lambda e: f"Epoch [{e.number}/{e.of}] Train Loss: {e.train:.4f} Val Loss: {e.validation:.4f}",
    "commas": lambda e: (
        f"Epoch {e.number}/{e.of}, train loss: {e.train:.4f}, val loss: {e.validation:.4f}, lr: {e.lr:.1e}"
    ),
    "equals": lambda e: f"epoch={e.number} train_loss={e.train:.4f} val_loss={e.validation:.4f} lr={e.lr}",
    "dashes": lambda e: f"Epoch: {e.number} - train_loss: {e.train:.4f} - val_loss: {e.validation:.4f}",
    "camel_case": lambda e: f"Epoch {e.number}, Loss: {e.train}, ValLoss: {e.validation}",
    "padded": lambda e: f"Epoch: {e.number:04d} train_loss= {e.train:.5f} acc= .8 val_loss= {e.validation:.5f}",
    "metric_between": lambda e: (
        f"Epoch {e.number}/{e.of} | Train Loss: {e.train:.4f} | Train Acc: .8 | Val Loss: {e.validation:.4f}"
    ),
    "uncertainties": lambda e: (
        f"Epoch {e.number}/{e.of} | Train Loss: {e.train:.4f} ± .01 | Val Loss: {e.validation:.4f} (best .5) | LR: 3e-4"
    ),
    "two_lines": lambda e: (
        f"Epoch {e.number}/{e.of} | Train Loss: {e.train:.4f}\n  Validation loss: {e.validation:.4f}"
    ),
    "four_lines": lambda e: (
        f"----- Epoch {e.number} / {e.of} -----\nTraining\nloss: {e.train:.4f}\nValidation\nloss: {e.validation:.4f}"
    ),
    "groups": lambda e: (
        f"[Epoch {e.number}] train: loss={e.train:.4f}, acc=0.51 | val: loss={e.validation:.4f}, acc=0.49"
    ),
    "json_lines": lambda e: json.dumps(
        {"epoch": e.number, "train_loss": e.train, "val_loss": e.validation, "lr": e.lr}
    ),
    "nested_json": lambda e: json.dumps({"epoch": e.number, "train": {"loss": e.train}, "val": {"loss": e.validation}}),
    "json_in_text": lambda e: (
        f'[2023-01-02 10:00:00][train][INFO] - {{"epoch": {e.number}, "train_loss": "{e.train:.3f}", '
        f'"valid_loss": "{e.validation:.3f}"}}'
    ),
    "logger": lambda e: (
        f"2025-11-05 10:00:01,123 - fit - INFO - Epoch {e.number} train_loss={e.train:.4f}, val_loss={e.validation:.4f}"
    ),
    "loguru": lambda e: (
        f"2025-11-05 10:00:01.123 | INFO     | __main__:fit:12 - epoch {e.number} train loss {e.train:.4f} "
        f"val loss {e.validation:.4f}"
    ),
    "rank_prefix": lambda e: f"[rank0]: Epoch {e.number}/{e.of} train_loss {e.train:.4f} val_loss {e.validation:.4f}",
    "torchrun_tee": lambda e: (
        f"[default0]:Epoch {e.number}/{e.of} train_loss: {e.train:.4f} val_loss: {e.validation:.4f}"
    ),
    "srun_labels": lambda e: f"0: Epoch {e.number}/{e.of} train_loss: {e.train:.4f} val_loss: {e.validation:.4f}",
    "colours": lambda e: (
        f"\x1b[32mEpoch {e.number}/{e.of}\x1b[0m | Train Loss: \x1b[1m{e.train:.4f}\x1b[0m | Val Loss: "
        f"{e.validation:.4f}"
    ),
    "decimal_comma": lambda e: (
        f"Epoch {e.number}/{e.of} | Train Loss: {_comma(e.train)} | Val Loss: {_comma(e.validation)} | LR: 3,00e-04"
    ),
    "thousands": lambda e: (
        f"Epoch {e.number}/{e.of} | Train Loss: {in_units(e.train):,.2f} | Val Loss: {in_units(e.validation):,.2f}"
    ),
    "keras": _keras,
    "keras_3": _keras_3,
    "lightning_bars": _lightning_bars,
    "nnunet_v1": _nnunet_v1,
    "nnunet_v2": _nnunet_v2,
    "mae": _mae,
    "mmengine": _mmengine,
    "fairseq": _fairseq,
    "mnist": _mnist,
    "loss_groups": lambda e: (
        f"epoch {e.number:3d}: loss=(train {e.train:.4f}; valid {e.validation:.4f}) acc=(train 0.5; valid 0.5) lr=3e-4"
    ),
    "side_by_side": lambda e: f"Epoch {e.number:03d} loss (train/val): {e.train:.4f}/{e.validation:.4f}, time 9s",
    "bare_splits": lambda e: (
        f"[{e.number:03d}/{e.of:03d}] train: {e.train:.4f} acc 51% | valid: {e.validation:.4f} acc 49%"
    ),
    "german_words": lambda e: (
        f"Epoche {e.number} von {e.of}: Trainingsverlust = {_comma(e.train)}, "
        f"Validierungsverlust = {_comma(e.validation)}"
    ),
    "espnet": _espnet,
    "darts": _darts,
    "allennlp": _allennlp,
    "xgboost": lambda e: f"[{e.number - 1}]\ttrain-rmse:{e.train:.5f}\teval-rmse:{e.validation:.5f}",
    "lightgbm": lambda e: f"[{50 * e.number}]\ttraining's l2: {e.train:.6f}\tvalid_1's l2: {e.validation:.6f}",
}
"""Text format -> the lines of one epoch."""

TABLES: dict[str, tuple[str, Callable[[Epoch], str]]] = {
    "fastai": (
        "epoch     train_loss  valid_loss  accuracy  time    \n",
        lambda e: f"{e.number}         {e.train:.6f}    {e.validation:.6f}    0.512000  00:12     ",
    ),
    "skorch": (
        "  epoch    train_loss    valid_acc    valid_loss     dur\n"
        "-------  ------------  -----------  ------------  ------\n",
        lambda e: f"{e.number:7d}        {e.train:.4f}       0.5120        {e.validation:.4f}  1.2345",
    ),
    "markdown_table": (
        "| Training Loss | Epoch | Step | Validation Loss |\n|:-------------:|:-----:|:----:|:---------------:|\n",
        lambda e: f"| {e.train:.4f}        | {e.number}.0   | {500 * e.number} | {e.validation:.4f}          |",
    ),
    "ruled_table": (
        "┃ epoch ┃ train_loss ┃ val_loss ┃\n",
        lambda e: f"│ {e.number:5d} │ {e.train:10.4f} │ {e.validation:8.4f} │",
    ),
    "two_line_header": (
        "|  Epoch  |  Mini-batch  |  Validation  |\n|         |     Loss     |     Loss     |\n",
        lambda e: f"|  {e.number:6d} | {e.train:12.4f} | {e.validation:12.4f} |",
    ),
    "csv_in_text": (
        "device: cuda:0\nepoch,train_loss,val_loss\n",
        lambda e: f"{e.number},{e.train:.5f},{e.validation:.5f}",
    ),
}
"""Table that is printed for the screen -> (its header, the row of one epoch)."""


def keras_csv(epochs: Course, folder: Path) -> Path:
    """Write a file of Keras' CSVLogger."""
    rows = [f"{e.number - 1},{0.5:.4f},{e.train},{0.5:.4f},{e.validation}" for e in epochs]
    return _write(folder / "training.csv", ["epoch,accuracy,loss,val_accuracy,val_loss", *rows])


def lightning_csv(epochs: Course, folder: Path) -> Path:
    """Write metrics.csv of Lightning's CSVLogger."""
    rows = []
    for e in epochs:
        last = 50 * e.number - 1
        rows += [f"{e.number - 1},,{last - 10 * k},,{e.train * (1 + 0.05 * (-1) ** k):.4f}," for k in (4, 3, 2, 1)]
        rows += [f"{e.number - 1},,{last},,,{e.validation:.4f}", f"{e.number - 1},,{last},{e.train:.4f},,"]
    return _write(folder / "metrics.csv", ["epoch,lr-AdamW,step,train_loss_epoch,train_loss_step,val_loss", *rows])


def ultralytics_csv(epochs: Course, folder: Path) -> Path:
    """Write results.csv of ultralytics, which has no total."""
    names = ("epoch", "train/box_loss", "train/cls_loss", "metrics/mAP50(B)", "val/box_loss", "val/cls_loss", "lr/pg0")
    head = ",".join(f"{name:>23}" for name in names)
    rows = [
        ",".join(
            f"{v:23.5g}" for v in (e.number, e.train / 2, e.train / 2, 0.4, e.validation / 2, e.validation / 2, e.lr)
        )
        for e in epochs
    ]
    return _write(folder / "results.csv", [head, *rows])


def german_csv(epochs: Course, folder: Path) -> Path:
    """Write a table with semicolons and decimal commas, as a spreadsheet saves it."""
    rows = [f"{e.number};{_comma(e.train)};{_comma(e.validation)}" for e in epochs]
    return _write(folder / "verlauf.csv", ["epoch;train_loss;val_loss", *rows])


def trainer_state(epochs: Course, folder: Path) -> Path:
    """Write trainer_state.json of the Hugging Face Trainer."""
    history = list(_hugging_face(epochs))
    path = folder / "trainer_state.json"
    path.write_text(json.dumps({"best_metric": None, "epoch": float(len(epochs)), "log_history": history}, indent=2))
    return path


def hugging_face_lines(epochs: Course, folder: Path) -> Path:
    """Write the dict lines that the Hugging Face Trainer prints among its progress bars."""
    lines = []
    for number, record in enumerate(_hugging_face(epochs)):
        values = {name: item for name, item in record.items() if name != "step"}
        lines += [f" {number}%|█         | {number}/1200 [00:53<10:00,  1.2s/it]", str(values)]
    lines.append(str({"train_runtime": 123.4, "train_loss": 1.1, "epoch": float(len(epochs))}))
    return _write(folder / "train.log", lines)


def keras_history(epochs: Course, folder: Path) -> Path:
    """Write the history of a Keras model as JSON."""
    path = folder / "history.json"
    path.write_text(json.dumps({"loss": [e.train for e in epochs], "val_loss": [e.validation for e in epochs]}))
    return path


def tensorboard(epochs: Course, folder: Path) -> Path:
    """Write a TensorBoard event file with one scalar per record."""
    path = folder / "events.out.tfevents.1762300000.node-a.4711.0"
    events = [_event(0, b"\x1a\rbrain.Event:2")]
    for e in epochs:
        for tag, value in (("Loss/train", e.train), ("Loss/val", e.validation), ("lr", e.lr)):
            summary = b"\x0a" + bytes([len(tag)]) + tag.encode() + b"\x15" + struct.pack("<f", value)
            inner = b"\x0a" + bytes([len(summary)]) + summary
            events.append(_event(e.number, b"\x2a" + bytes([len(inner)]) + inner))
    path.write_bytes(b"".join(events))
    return path


def compressed(epochs: Course, folder: Path) -> Path:
    """Write a gzip-compressed text log."""
    path = folder / "train.log.1.gz"
    path.write_bytes(gzip.compress(_text(epochs).encode()))
    return path


def utf_16(epochs: Course, folder: Path) -> Path:
    """Write a text log as Windows PowerShell redirects it: UTF-16 with a byte order mark and CRLF."""
    path = folder / "train.log"
    path.write_bytes(_text(epochs).replace("\n", "\r\n").encode("utf-16"))
    return path


def byte_order_mark(epochs: Course, folder: Path) -> Path:
    """Write a text log in UTF-8 with a byte order mark."""
    path = folder / "train.log"
    path.write_bytes(_text(epochs).encode("utf-8-sig"))
    return path


def wandb_folder(epochs: Course, folder: Path) -> Path:
    """Write an offline wandb run, whose output.log holds the printed lines."""
    files = folder / "offline-run-20251105_101500-abcd" / "files"
    files.mkdir(parents=True)
    (files / "output.log").write_text(_text(epochs))
    (files / "config.yaml").write_text("lr:\n  value: 0.0003\n")
    return files.parent


def rank_folder(epochs: Course, folder: Path) -> Path:
    """Write a folder of per-rank logs, as torchrun --redirects does."""
    for rank in (0, 1):
        (folder / "logs" / "attempt_0" / str(rank)).mkdir(parents=True)
        (folder / "logs" / "attempt_0" / str(rank) / "stderr.log").write_text(f"rank {rank} of world_size 2 is ready\n")
    (folder / "logs" / "attempt_0" / "0" / "stdout.log").write_text(_text(epochs))
    return folder / "logs"


FORMATS: dict[str, Write] = {
    **{name: text_format(line) for name, line in LINES.items()},
    **{name: text_format(row, head=head) for name, (head, row) in TABLES.items()},
    "carriage_returns": text_format(LINES["pipes"], end="\r\n"),
    **{
        write.__name__: write
        for write in (
            keras_csv, lightning_csv, ultralytics_csv, german_csv, trainer_state, hugging_face_lines, keras_history,
            tensorboard, compressed, utf_16, byte_order_mark, wandb_folder, rank_folder,
        )
    },
}  # fmt: skip
"""Format -> its writer."""

OTHER_LOSSES: dict[str, Callable[[float], float]] = {"nnunet_v2": negative, "thousands": in_units}
"""Format that prints losses of another level or unit, on which some causes depend -> the loss that it prints."""


def _text(epochs: Course) -> str:
    return "".join(LINES["pipes"](epoch) + "\n" for epoch in epochs)


def _write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def _hugging_face(epochs: Course) -> Iterator[dict[str, float]]:
    for e in epochs:
        for part in (0.25, 0.5, 0.75, 1.0):
            step = round(100 * (e.number - 1 + part))
            values = {"loss": round(e.train, 4), "grad_norm": 1.5, "learning_rate": e.lr}
            yield {**values, "epoch": e.number - 1 + part, "step": step}
        yield {"eval_loss": e.validation, "eval_runtime": 3.1, "epoch": float(e.number), "step": 100 * e.number}


def _event(step: int, content: bytes) -> bytes:
    body = b"\x09" + struct.pack("<d", 1762300000.0 + step) + b"\x10" + bytes([step]) + content
    return struct.pack("<Q", len(body)) + b"\0\0\0\0" + body + b"\0\0\0\0"
