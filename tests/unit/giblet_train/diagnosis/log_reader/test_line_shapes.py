"""Lines of one shape are searched for names once, and read as if each were searched."""

from __future__ import annotations

import random

import pytest

from giblet_train.diagnosis.log_reader.line_parser import LineParser
from giblet_train.diagnosis.log_reader.line_shape import LineShapes
from giblet_train.diagnosis.log_reader.reader import read_lines

RNG = random.Random(11)
LAYOUTS = {
    "pairs": lambda i, x: (
        f"epoch 2 step {i}/900 | loss {x:.4f} | lr {1e-3 * x:.2e} | grad_norm {x / 3:.3f} | wd 0.05 | beta 0.05"
    ),
    "averages": lambda i, x: (
        f"Epoch: [4][{i:5d}/900]\tLoss {x:.4e} ({1.1 * x:.4e})\tAcc@1 {10 / x:6.2f} ( 33.10)\tAcc@5 {20 / x:6.2f}"
    ),
    "record": lambda i, x: str({"loss": round(x, 4), "learning_rate": 2e-5, "epoch": round(i / 300, 2)}),
    "perplexity": lambda i, x: f"step {i} train ppl {2.7**x:.3f} valid ppl {2.8**x:.3f}",
    "lost": lambda i, x: (
        f"iter {i}: loss {x if i < 40 else float('nan'):.4f}, gnorm {x if i % 7 else float('inf'):.2f}"
    ),
    "signs": lambda i, x: f"iter {i}: loss {x - 2:+.4f} ({x - 2.01:+.4f}) elbo {-x:.3f}",
    "equal for a while": lambda i, x: (
        f"epoch {i} train loss {x:.3f} val loss {x if i < 30 else 2 * x:.3f} lr {0 if i < 9 else x:g}"
    ),
    "commas": lambda i, x: (
        f"Epoche {i}: Verlust {x:.3f}, Fehler {x / 2:.4f}".replace(".", ",") if i % 5 else f"Epoche {i}: Verlust 1,234"
    ),
    "table": lambda i, x: "epoch  train_loss  val_loss" if i % 20 == 0 else f"{i:5d}  {x:10.4f}  {x * 1.1:8.4f}",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_remembered_shape_is_read_like_a_new_line(layout: str) -> None:
    lines = [LAYOUTS[layout](i, 2.9 / (1 + i / 30) + RNG.random() / 10) for i in range(80)]
    shapes, with_memory, without_memory = LineShapes(), LineParser(), LineParser()
    for line in lines:
        shape, numbers = shapes.shape_of(line)
        assert repr(with_memory.parse(line, shape, numbers)) == repr(without_memory.parse(line)), line


def test_most_lines_need_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[str] = []
    search = LineParser._values
    monkeypatch.setattr(
        LineParser, "_values", lambda self, text, *rest: searches.append(text) or search(self, text, *rest)
    )
    log = read_lines(LAYOUTS["pairs"](i, 2.9 / (1 + i / 300)) for i in range(600))
    assert len(log.rows) > 20 and len(searches) < 40
