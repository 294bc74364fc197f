"""Layouts of frameworks: from curves to the lines of a log, for layouts that several cases use."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from random import Random

from tests.collection.frameworks.curves import Curve, above, bar, clock, cosine, stamp

# Layouts: language models and translation


def nanogpt(rng: Random, train: Curve, every: int = 50, valid: Curve | None = None, step: int = 10) -> list[str]:
    """Return nanoGPT's lines: an evaluation every so many prints, a line every `step` iterations."""
    lines = [
        "Overriding config with config/train_gpt2.py:",
        "wandb_log = False",
        "tokens per iteration will be: 491,520",
        "found vocab_size = 65 (inside data/openwebtext/meta.pkl)",
        "Initializing a new model from scratch",
        "number of parameters: 123.59M",
        "num decayed parameter tensors: 50, with 124,354,560 parameters",
        "using fused AdamW: True",
        "compiling the model... (takes a ~minute)",
    ]
    held_out = valid or above(rng, train, 1.01)
    for i, loss in enumerate(train):
        if i % every == 0:
            lines.append(f"step {i * step}: train loss {loss * 0.995:.4f}, val loss {held_out[i]:.4f}")
            if i:
                lines.append("saving checkpoint to out")
        mfu = -100.0 if i == 0 else rng.gauss(35.2, 0.3)
        lines.append(f"iter {i * step}: loss {loss:.4f}, time {rng.gauss(248, 4):.2f}ms, mfu {mfu:.2f}%")
    return lines


def fairseq(
    rng: Random, train: Curve, valid: Curve, per_epoch: int = 8, notes: dict[int, list[str]] | None = None
) -> list[str]:
    """Return fairseq's pipes: train_inner lines, and one train and one valid line per epoch."""
    lines, updates, t = [], 0, 0
    rates = cosine(len(train), 5e-4, 4)
    head = "fairseq_cli.train"
    lines.append(
        f"{stamp(0)} | INFO | {head} | {{'_name': None, 'common': {{'fp16': True, 'seed': 1}}, 'lr': [0.0005]}}"
    )
    lines.append(f"{stamp(1)} | INFO | {head} | num. shared model params: 60,526,592 (num. trained: 60,526,592)")
    for e, loss in enumerate(train):
        lines.append(f"{stamp(t)} | INFO | fairseq.trainer | begin training epoch {e + 1}")
        for k in range(per_epoch):
            updates, t = updates + 100, t + 42
            inner = loss * math.exp(rng.gauss(0.04 * (per_epoch - k) / per_epoch, 0.02))
            lines += [f"{stamp(t)} | INFO | fairseq.trainer | {note}" for note in (notes or {}).get(updates, [])]
            lines.append(
                f"{stamp(t)} | INFO | train_inner | epoch {e + 1:03d}: {100 * (k + 1):6d} / {100 * per_epoch + 13} "
                f"loss={inner:.3f}, nll_loss={inner - 1.4:.3f}, ppl={2 ** (inner - 1.4):.2f}, wps={rng.gauss(41e3, 400):.1f}, "
                f"ups=2.38, wpb=17221.3, bsz=610.2, num_updates={updates}, lr={rates[e]:.6g}, gnorm={rng.uniform(0.5, 1.4):.3f}, "
                f"loss_scale=16, train_wall=41, gb_free=19.1, wall={t}"
            )
        lines.append(f'{stamp(t)} | INFO | fairseq_cli.train | begin validation on "valid" subset')
        best = min(valid[: e + 1])
        lines.append(
            f"{stamp(t + 9)} | INFO | valid | epoch {e + 1:03d} | valid on 'valid' subset | loss {valid[e]:.3f} | nll_loss "
            f"{valid[e] - 1.5:.3f} | ppl {2 ** (valid[e] - 1.5):.2f} | wps 99213.1 | wpb 9920 | bsz 371.2 | num_updates {updates} | best_loss {best:.3f}"
        )
        lines.append(
            f"{stamp(t + 12)} | INFO | train | epoch {e + 1:03d} | loss {loss:.3f} | nll_loss {loss - 1.4:.3f} | ppl "
            f"{2 ** (loss - 1.4):.2f} | wps 40122.9 | ups 2.33 | wpb 17221.3 | bsz 610.2 | num_updates {updates} | lr {rates[e]:.6g} "
            f"| gnorm 0.871 | loss_scale 16 | train_wall 330 | gb_free 19.2 | wall {t + 12}"
        )
    return lines


def opennmt(rng: Random, xent: Curve, every: int = 20, valid: Curve | None = None, start: int = 0) -> list[str]:
    """Return OpenNMT-py's lines, one per 50 steps; validation every so many lines."""
    lines = [
        f"[{stamp(0)},412 INFO] Missing transforms field for corpus_1 data, set to default: [].",
        f"[{stamp(2)},112 INFO] * src vocab size = 32000",
        f"[{stamp(9)},901 INFO] Starting training on GPU: [0]",
        f"[{stamp(9)},902 INFO] Start training loop and validate every 1000 steps...",
    ]
    for i, x in enumerate(xent):
        step = start + 50 * (i + 1)
        acc = max(0.1, 78 - 8.2 * x) if math.isfinite(x) else 0.2
        rate = 2 * 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        lines.append(
            f"[{stamp(10 + 19 * i)},{rng.randrange(1000):03d} INFO] Step {step}/100000; acc: {acc:6.2f}; ppl: {math.exp(min(x, 90)) if math.isfinite(x) else x:7.2f}; "
            f"xent: {x:.2f}; lr: {rate:.5f}; {rng.randrange(9000, 9400)}/{rng.randrange(9600, 9900)} tok/s, {10 + 19 * i:6d} sec;"
        )
        if (i + 1) % every == 0:
            v = (valid or xent)[i]
            t = f"[{stamp(14 + 19 * i)},510 INFO]"
            lines += [
                f"{t} Validation perplexity: {math.exp(min(v, 90)) if math.isfinite(v) else v:g}",
                f"{t} Validation accuracy: {acc:.4f}",
                f"{t} Saving checkpoint model_step_{step}.pt",
            ]
    return lines


def megatron(
    rng: Random,
    loss: Curve,
    norm: Curve,
    total: int,
    rate: Curve,
    first: int = 1,
    step: int = 10,
    skipped: Sequence[int] = (),
    lost: int | None = None,
) -> list[str]:
    """Return Megatron-LM's lines; from `lost` on the loss is not printed because it is not finite."""
    lines = [
        "using world size: 16, data-parallel-size: 4, tensor-model-parallel size: 4, pipeline-model-parallel size: 1",
        "setting global batch size to 256",
        "> building train, validation, and test datasets for GPT ...",
        "[before the start of training step] datetime: " + stamp(0),
        "training ...",
    ]
    for i, value in enumerate(loss):
        it = first + step * i
        loss_field = "" if lost is not None and i >= lost else f"lm loss: {value:.6E} | "
        n = "nan" if lost is not None and i >= lost else f"{norm[i]:.3f}"
        lines.append(
            f" iteration {it:8d}/{total:8d} | consumed samples: {256 * it:12d} | elapsed time per iteration (ms): {rng.gauss(4211, 30):.1f} | "
            f"learning rate: {rate[i]:.3E} | global batch size: {256:5d} | {loss_field}loss scale: 1.0 | grad norm: {n} | "
            f"number of skipped iterations: {int(i in skipped):3d} | number of nan iterations:   0 |"
        )
    return lines


def hf_trainer(
    rng: Random,
    loss: Curve,
    epochs: float,
    rate: Curve,
    norm: Curve | None = None,
    valid: Curve | None = None,
    every: int = 20,
) -> list[str]:
    """Return the dicts of the Hugging Face Trainer, with its progress bar in between."""
    n, lines = len(loss), []
    for i, value in enumerate(loss):
        epoch = round((i + 1) * epochs / n, 2)
        entry: dict[str, object] = {"loss": round(value, 4) if math.isfinite(value) else value}
        if norm is not None:
            entry["grad_norm"] = norm[i]
        entry |= {"learning_rate": rate[i], "epoch": epoch}
        lines += [bar((i + 1) * 10, n * 10, rng.gauss(1.31, 0.02)), str(entry)]
        if valid is not None and (i + 1) % every == 0:
            report = {
                "eval_loss": round(valid[i], 6),
                "eval_runtime": round(rng.gauss(41, 1), 4),
                "eval_samples_per_second": 48.771,
                "eval_steps_per_second": 6.1,
                "epoch": epoch,
            }
            lines += [str(report), f"Saving model checkpoint to ./output/checkpoint-{(i + 1) * 10}"]
    return lines


def deepspeed(rng: Random, loss: Curve, notes: dict[int, list[str]] | None = None) -> list[str]:
    """Return DeepSpeed's step lines with the loss that the script prints on rank 0."""
    lines = [
        f"[{stamp(0)},331] [INFO] [config.py:1000:print]   train_batch_size ............. 256",
        f"[{stamp(0)},332] [INFO] [config.py:1000:print]   fp16_enabled ................. True",
    ]
    for i, value in enumerate(loss):
        lines += (notes or {}).get(i, [])
        lines.append(
            f"[{stamp(5 * i)},{rng.randrange(1000):03d}] [INFO] [logging.py:96:log_dist] [Rank 0] step={10 * (i + 1)}, skipped={sum(len(v) for k, v in (notes or {}).items() if k <= i)}, "
            f"lr=[{1e-5 * min(1, (i + 1) / 20):.6g}], mom=[(0.9, 0.95)]"
        )
        lines.append(f"Epoch: 0, Step: {10 * (i + 1)}, Rank: 0, loss = {value}")
    return lines


# Layouts: vision


def mmengine(
    rng: Random, parts: dict[str, Curve], per_epoch: int, rates: Curve, maps: Curve | None = None, bad: str = ""
) -> list[str]:
    """Return MMEngine's lines of a detector: components that sum to the loss, and the mAP of each epoch."""
    n = len(next(iter(parts.values())))
    lines = [
        "03/04 21:07:33 - mmengine - INFO - Config:",
        "optim_wrapper = dict(optimizer=dict(lr=0.02, momentum=0.9, type='SGD', weight_decay=0.0001))",
        "03/04 21:07:41 - mmengine - INFO - load checkpoint from local path: faster_rcnn_r50.pth",
        "Done (t=0.41s)",
        "creating index...",
        "index created!",
    ]
    for i in range(n):
        epoch, k = divmod(i, per_epoch)
        t = stamp(11 * i, "%m/%d %H:%M:%S")
        values = {name: curve[i] for name, curve in parts.items()}
        text = "  ".join(f"{name}: {value:.4f}" for name, value in values.items())
        lines.append(
            f"{t} - mmengine - INFO - Epoch(train)  [{epoch + 1}][{50 * (k + 1):4d}/{50 * per_epoch + 7}]  lr: {rates[i]:.4e}  eta: {clock(11 * (n - i))}  "
            f"time: {rng.gauss(0.22, 0.005):.4f}  data_time: {rng.gauss(0.007, 0.001):.4f}  memory: 4391  grad_norm: {rng.gauss(4.2, 0.5):.4f}  "
            f"loss: {sum(values.values()):.4f}  {text}  acc: {rng.gauss(93, 1):.4f}"
        )
        if k == per_epoch - 1:
            lines.append(f"{t} - mmengine - INFO - Saving checkpoint at {epoch + 1} epochs")
            if maps:
                m = maps[epoch]
                lines.append(
                    f"{t} - mmengine - INFO - Epoch(val) [{epoch + 1}][313/313]    coco/bbox_mAP: {m:.4f}  coco/bbox_mAP_50: {m * 1.6:.4f}  data_time: 0.0021  time: 0.0391"
                )
    return lines


def mmdet(rng: Random, loss: Curve, per_epoch: int, rates: Curve, norm: Curve) -> list[str]:
    """Return the lines of MMDetection before MMEngine."""
    lines = []
    for i, value in enumerate(loss):
        epoch, k = divmod(i, per_epoch)
        parts = (0.12 * value, 0.08 * value, 0.45 * value, 0.35 * value)
        lines.append(
            f"{stamp(37 * i)},{rng.randrange(1000):03d} - mmdet - INFO - Epoch [{epoch + 1}][{50 * (k + 1)}/{50 * per_epoch + 21}]\tlr: {rates[i]:.3e}, eta: {clock(37 * (len(loss) - i))}, "
            f"time: {rng.gauss(0.741, 0.02):.3f}, data_time: {rng.gauss(0.02, 0.003):.3f}, memory: 8104, loss_rpn_cls: {parts[0]:.4f}, loss_rpn_bbox: {parts[1]:.4f}, "
            f"loss_cls: {parts[2]:.4f}, acc: {rng.gauss(92, 0.7):.4f}, loss_bbox: {parts[3]:.4f}, loss: {value:.4f}, grad_norm: {norm[i]:.4f}"
        )
    return lines


def detectron2(rng: Random, loss: Curve, rates: Curve, step: int = 20) -> list[str]:
    """Return Detectron2's event lines."""
    lines = [
        "[03/04 21:07:33 d2.data.build]: Removed 1021 images with no usable annotations. 117266 images left.",
        "[03/04 21:07:39 d2.engine.train_loop]: Starting training from iteration 0",
    ]
    for i, value in enumerate(loss):
        lines.append(
            f"[{stamp(5 * i, '%m/%d %H:%M:%S')} d2.utils.events]:  eta: {clock(5 * (len(loss) - i))}  iter: {step * (i + 1) - 1}  total_loss: {value:.4g}  loss_cls: {0.44 * value:.4g}  "
            f"loss_box_reg: {0.31 * value:.4g}  loss_rpn_cls: {0.16 * value:.4g}  loss_rpn_loc: {0.09 * value:.4g}  time: {rng.gauss(0.2296, 0.001):.4f}  data_time: {rng.gauss(0.0033, 0.0003):.4f}  lr: {rates[i]:.5g}  max_mem: 3782M"
        )
    return lines


def yolov5(rng: Random, box: Curve, obj: Curve, classes: Curve, maps: Curve, total: int | None = None) -> list[str]:
    """Return YOLOv5's tables, one per epoch, with carriage returns of its bars."""
    n = total or len(box)
    lines = [
        f"train: weights=yolov5s.pt, cfg=, data=data/cells.yaml, hyp=data/hyps/hyp.scratch-low.yaml, epochs={n}, batch_size=16, imgsz=640",
        "YOLOv5 v7.0-166-g54e9515 Python-3.9.16 torch-1.13.1+cu117 CUDA:0 (NVIDIA GeForce RTX 3090, 24260MiB)",
        "",
        "Transferred 343/349 items from yolov5s.pt",
        "AMP: checks passed",
        "Image sizes 640 train, 640 val",
        "Using 8 dataloader workers",
        "Logging results to runs/train/exp21",
        f"Starting training for {n} epochs...",
        "",
    ]
    for e in range(len(box)):
        lines.append("      Epoch    GPU_mem   box_loss   obj_loss   cls_loss  Instances       Size")
        head = f"{f'{e}/{n - 1}':>11}{'4.31G':>11}"
        parts = [
            f"{head}{box[e] * f:11.4g}{obj[e] * f:11.4g}{classes[e] * f:11.4g}{rng.randrange(20, 90):11d}{640:11d}: {bar(k, 74, 5.1)}"
            for k, f in ((1, 1.06), (37, 1.02), (74, 1.0))
        ]
        lines.append("\r".join(parts))
        lines.append(
            f"{'Class':>22}{'Images':>11}{'Instances':>11}{'P':>11}{'R':>11}{'mAP50':>11}{'mAP50-95':>11}: {bar(10, 10, 4.4)}"
        )
        m = maps[e]
        lines += [f"{'all':>22}{148:11d}{911:11d}{min(1, m * 1.1):11.3g}{min(1, m):11.3g}{m:11.3g}{m * 0.6:11.3g}", ""]
    return lines


def timm(
    rng: Random,
    loss: Curve,
    rates: Curve,
    per_epoch: int = 6,
    accuracy: Curve | None = None,
    data: float = 0.012,
    batch: float = 0.41,
    total: int = 100,
) -> list[str]:
    """Return timm's train and test lines; data and batch are seconds per step."""
    lines = [
        "Training with a single process on 1 device (cuda:0).",
        "Model vit_small_patch16_224 created, param count:22050664",
        f"Scheduled epochs: {total}. LR stepped per epoch.",
    ]
    for i, value in enumerate(loss):
        epoch, k = divmod(i, per_epoch)
        wait, t = rng.gauss(data, data / 20), rng.gauss(batch, batch / 40)
        lines.append(
            f"Train: {epoch} [{200 * k:4d}/1251 ({100 * 200 * k // 1251:3d}%)]  Loss: {value * math.exp(rng.gauss(0, 0.01)):#.3g} ({value:#.3g})  "
            f"Time: {t:.3f}s, {256 / t:7.2f}/s  ({t:.3f}s, {256 / t:7.2f}/s)  LR: {rates[i]:.3e}  Data: {wait:.3f} ({wait:.3f})"
        )
        if k == per_epoch - 1:
            a = (accuracy or [0.1] * 999)[epoch]
            lines.append(
                f"Test: [ 195/195]  Time: 0.161 (0.233)  Loss: {value * 0.9:7.3f} ({value * 0.92:6.3f})  Acc@1: {a:7.3f} ({a:7.3f})  Acc@5: {min(100, a * 1.4):7.3f} ({min(100, a * 1.4):7.3f})"
            )
            lines.append("Current checkpoints:")
            lines.append(f" ('./output/train/checkpoint-{epoch}.pth.tar', {a})")
    return lines


def mae_json(rng: Random, loss: Curve, rates: Curve, test: Curve | None = None) -> list[str]:
    """Return the log.txt of MAE and DINO: one JSON object per epoch."""
    lines = []
    for e, value in enumerate(loss):
        entry = {"train_lr": rates[e], "train_loss": value}
        if test is not None:
            entry |= {
                "test_loss": test[e],
                "test_acc1": max(0.1, 90 - 14 * test[e]),
                "test_acc5": max(0.5, 98 - 9 * test[e]),
            }
        lines.append(json.dumps(entry | {"epoch": e, "n_parameters": 111907840}))
    return lines


def open_clip(
    rng: Random, loss: Curve, rates: Curve, per_epoch: int = 12, data: float = 0.06, batch: float = 0.46
) -> list[str]:
    """Return open_clip's lines."""
    lines = [
        f"{stamp(0, '%Y-%m-%d,%H:%M:%S')} | INFO | Running in distributed mode with multiple processes. Device: cuda:0.Process (global: 0, local 0), total 4."
    ]
    total = 0.0
    for i, value in enumerate(loss):
        epoch, k = divmod(i, per_epoch)
        if k == 0:
            lines.append(f"{stamp(47 * i, '%Y-%m-%d,%H:%M:%S')} | INFO | Start epoch {epoch}")
            total = 0.0
        total += value
        lines.append(
            f"{stamp(47 * i, '%Y-%m-%d,%H:%M:%S')} | INFO | Train Epoch: {epoch} [{6400 * k + 64:7d}/{6400 * per_epoch} ({100 * k // per_epoch}%)] Data (t): {rng.gauss(data, data / 12):.3f} "
            f"Batch (t): {rng.gauss(batch, batch / 30):.3f}, {256 / batch:.4f}/s, {64 / batch:.4f}/s/gpu LR: {rates[i]:.6f} Logit Scale: {14.286 + 0.01 * i:.3f} Contrastive_loss: {value:.5g} ({total / (k + 1):.5g}) Loss: {value:.5g} ({total / (k + 1):.5g})"
        )
    return lines


def kohya(rng: Random, loss: Curve, total: int, epochs: int = 10) -> list[str]:
    """Return the one progress bar of kohya's sd-scripts, separated by carriage returns."""
    lines = [
        "2025-03-04 21:07:33 INFO     prepare tokenizer                                    train_util.py:4304",
        "                    INFO     enable LoRA for U-Net: 192 modules.                  lora.py:907",
        "running training / 学習開始",
        "  num train images * repeats / 学習画像の数×繰り返し回数: 400",
        f"  num epochs / epoch数: {epochs}",
        f"  total optimization steps / 学習ステップ数: {total}",
    ]
    bars = []
    for i, value in enumerate(loss):
        if i % max(1, len(loss) // epochs) == 0:
            bars.append(f"\nepoch {1 + i // max(1, len(loss) // epochs)}/{epochs}\n")
        bars.append("\r" + bar(i + 1, total, rng.gauss(1.9, 0.05), f", avr_loss={value:.3g}", "steps"))
    return [*lines, "".join(bars)]


# Layouts: medical imaging, speech


def nnunet(rng: Random, train: Curve, valid: Curve, dice: Curve, total: int = 1000, first: int = 0) -> list[str]:
    """Return nnU-Net's training log, five lines per epoch."""
    lines = [
        "",
        "#######################################################################",
        "Please cite the following paper when using nnU-Net:",
        "#######################################################################",
        "",
    ]
    t, best = 0.0, 0.0
    for e in range(len(train)):
        epoch = first + e
        rate = 0.01 * (1 - epoch / total) ** 0.9

        def line(text: str, after: float, microseconds: int) -> str:
            return f"{stamp(t + after)}.{microseconds:06d}: {text}"  # noqa: B023

        lines += [line(f"Epoch {epoch} ", 0, 118402), line(f"Current learning rate: {round(rate, 5)} ", 0, 118611)]
        best_now = dice[e] > best
        best = max(best, dice[e])
        lines += [
            line(f"train_loss {train[e]:.4f} ", 61, 402117),
            line(f"val_loss {valid[e]:.4f} ", 61, 402406),
            line(f"Pseudo dice [{dice[e]:.4f}, {dice[e] * 0.9:.4f}] ", 61, 402575),
            line(f"Epoch time: {rng.gauss(61, 0.4):.2f} s ", 61, 402690),
        ]
        if best_now:
            lines.append(line(f"Yayy! New best EMA pseudo Dice: {best:.4f} ", 61, 402797))
        lines.append(line(" ", 62, 510332))
        t += 63
    return lines


def monai(rng: Random, loss: Curve, dice: Curve, total: int, steps: int = 10) -> list[str]:
    """Return the lines of MONAI's tutorials."""
    lines = []
    for e, value in enumerate(loss):
        lines += ["-" * 10, f"epoch {e + 1}/{total}"]
        lines += [f"{k + 1}/{steps}, train_loss: {value * math.exp(rng.gauss(0, 0.08)):.4f}" for k in range(steps)]
        lines.append(f"epoch {e + 1} average loss: {value:.4f}")
        if (e + 1) % 2 == 0:
            best = max(range(1, e + 2, 2), key=lambda k: dice[k])
            if best == e:
                lines.append("saved new best metric model")
            lines.append(
                f"current epoch: {e + 1} current mean dice: {dice[e]:.4f} best mean dice: {dice[best]:.4f} at epoch: {best + 1}"
            )
    return lines


def espnet(
    rng: Random, loss: Curve, valid: Curve, total: int, warnings: Callable[[int], Iterable[str]] = lambda _: ()
) -> list[str]:
    """Return ESPnet2's trainer lines."""
    lines = []
    for e, value in enumerate(loss):
        t = 610 * e
        lines.append(
            f"[gpu01] {stamp(t)},112 (trainer:289) INFO: {e + 1}/{total}epoch started. Estimated time to finish: {total - e} hours and 12.1 seconds"
        )
        lines += [f"[gpu01] {stamp(t + 20)},733 (trainer:700) WARNING: {text}" for text in warnings(e)]
        for k in range(1, 5):
            v = value * math.exp(rng.gauss(0, 0.02))
            lines.append(
                f"[gpu01] {stamp(t + 140 * k)},{rng.randrange(1000):03d} (trainer:737) INFO: {e + 1}epoch:train:{250 * k - 249}-{250 * k}batch: iter_time=1.212e-04, forward_time=0.113, loss_ctc={v * 1.2:.3f}, "
                f"loss_att={v * 0.92:.3f}, acc={max(0.01, 0.96 - v / 130):.3f}, loss={v:.3f}, backward_time=0.101, grad_norm={rng.uniform(3, 9):.3f}, clip=100.000, loss_scale=6.554e+04, optim_step_time=0.041, optim0_lr0={0.002 * min(1, (e + 1) / 10):.3e}, train_time=0.561"
            )
        lines.append(
            f"[gpu01] {stamp(t + 600)},004 (trainer:343) INFO: {e + 1}epoch results: [train] iter_time=1.2e-04, forward_time=0.113, loss_ctc={value * 1.2:.3f}, loss_att={value * 0.92:.3f}, acc={max(0.01, 0.96 - value / 130):.3f}, loss={value:.3f}, "
            f"train_time=0.559, time=9 minutes and 18.2 seconds, total_count={1000 * (e + 1)}, gpu_max_cached_mem_GB=19.2, [valid] loss_ctc={valid[e] * 1.2:.3f}, acc={max(0.01, 0.96 - valid[e] / 130):.3f}, loss={valid[e]:.3f}, time=12.4 seconds, total_count={40 * (e + 1)}"
        )
    return lines


def speechbrain(train: Curve, valid: Curve, rates: Curve, wer: Curve) -> list[str]:
    """Return SpeechBrain's train_log.txt."""
    return [
        f"epoch: {e + 1}, lr: {rates[e]:.2e}, wav2vec_lr: {rates[e] / 10:.2e} - train loss: {train[e]:.2e} - valid loss: {valid[e]:.2e}, valid CER: {wer[e] * 0.4:.2f}, valid WER: {wer[e]:.2f}"
        for e in range(len(train))
    ]


# Layouts: Keras, Lightning, fastai, own scripts, reinforcement learning


def keras(rng: Random, train: Curve, valid: Curve | None, total: int, steps: int = 312) -> list[str]:
    """Return what Keras prints per epoch, with the bar as a log file holds it."""
    lines = [
        "2025-03-04 21:07:33.102391: I tensorflow/core/common_runtime/gpu/gpu_device.cc:1635] Created device /job:localhost/replica:0/task:0/device:GPU:0 with 22286 MB memory"
    ]
    for e, value in enumerate(train):
        lines.append(f"Epoch {e + 1}/{total}")
        held_out = f" - val_loss: {valid[e]:.4f} - val_accuracy: {max(0.1, 0.95 - valid[e] / 4):.4f}" if valid else ""
        end = f"{steps}/{steps} [==============================] - {rng.randrange(11, 14)}s {rng.randrange(35, 42)}ms/step - loss: {value:.4f} - accuracy: {max(0.1, 0.97 - value / 4) if math.isfinite(value) else 0.1:.4f}{held_out}"
        middle = f"{steps // 2}/{steps} [==============>...............] - ETA: 5s - loss: {value * 1.02:.4f} - accuracy: 0.5000"
        lines.append("\b" * 40 + middle + "\b" * 80 + end)
    return lines


def lightning(rng: Random, train: Curve, valid: Curve | None, steps: int = 87, first: int = 0) -> list[str]:
    """Return Lightning's bars, separated by carriage returns."""
    lines = [
        "GPU available: True (cuda), used: True",
        "TPU available: False, using: 0 TPU cores",
        "LOCAL_RANK: 0 - CUDA_VISIBLE_DEVICES: [0]",
        "",
        "  | Name    | Type             | Params",
        "---------------------------------------------",
        "0 | encoder | Sequential       | 11.2 M",
        "1 | loss    | MSELoss          | 0     ",
        "---------------------------------------------",
        "11.2 M    Trainable params",
    ]
    for e, value in enumerate(train):
        ends = [f", v_num=12, train_loss={value * math.exp(rng.gauss(0, 0.05)):.3g}" for _ in range(3)]
        if valid:
            ends[-1] += f", val_loss={valid[e]:.3g}"
        name = f"Epoch {first + e}"
        bars = [bar(k, steps, rng.gauss(7.2, 0.1), ends[j], name) for j, k in enumerate((1, steps // 2, steps))]
        lines.append("\r" + "\r".join(bars))
        if valid and valid[e] == min(valid[: e + 1]):
            lines.append(f"Metric val_loss improved. New best score: {valid[e]:.3f}")
    return lines


def fastai(rng: Random, train: Curve, valid: Curve) -> list[str]:
    """Return fastai's table."""
    lines = ["epoch     train_loss  valid_loss  accuracy  time    "]
    for e, value in enumerate(train):
        lines.append(
            f"{e:<10}{value:<12.6f}{valid[e]:<12.6f}{max(0.1, 0.95 - valid[e] / 4):<10.6f}{clock(rng.randrange(31, 36)):<8}"
        )
    return lines


def german(train: Curve, valid: Curve, total: int, rate: float = 3e-4) -> list[str]:
    """Return the lines of a script that prints German words and decimal commas."""
    return ["Lade Daten von sub-01 bis sub-09 ...", "Gerät: cuda:1"] + [
        f"Epoche {e + 1}/{total} – Trainingsverlust: {t:.4f} – Validierungsverlust: {v:.4f} – Lernrate: {rate:.1e}".replace(
            ".", ","
        )
        for e, (t, v) in enumerate(zip(train, valid, strict=True))
    ]


def french(train: Curve, valid: Curve, total: int) -> list[str]:
    """Return the lines of a script that prints French words and decimal commas."""
    return ["Chargement des données IRMf (4 sujets)…"] + [
        f"Époque {e + 1:3d}/{total} : perte entraînement = {t:.4f} ; perte validation = {v:.4f} ; durée = 41,2 s".replace(
            ".", ","
        )
        for e, (t, v) in enumerate(zip(train, valid, strict=True))
    ]


def own(train: Curve, valid: Curve | None, total: int, rates: Curve | None = None) -> list[str]:
    """Return the lines of a script that prints with f-strings and a table's pipes."""
    lines = []
    for e, t in enumerate(train):
        held_out = f" | val loss {valid[e]:.5f}" if valid else ""
        rate = f" | lr {rates[e]:.2e}" if rates else ""
        lines.append(
            f"[{stamp(90 * e, '%H:%M:%S')}] epoch {e + 1:03d}/{total} | train loss {t:.5f}{held_out}{rate} | 88.1s"
        )
    return lines


def mindeye(rng: Random, train: Curve, test: Curve) -> list[str]:
    """Return MindEye's one bar over epochs with a dict at its end."""
    lines = [
        "PID of this process = 1318772",
        "device: cuda:0",
        "param counts:",
        "453,360,280 total",
        "453,360,280 trainable",
        "mindeye_subj01 starting with epoch 0 / " + str(len(train)),
    ]
    bars = []
    for e, value in enumerate(train):
        logs = f", test/loss={test[e]:.4g}, test/test_fwd_pct_correct={min(0.98, 0.9 / test[e]):.3g}, train/loss={value:.4g}, train/lr={3e-4 * (1 - e / len(train)):.3g}, train/recon_cossim={rng.uniform(0.5, 0.7):.3g}"
        bars.append(bar(e + 1, len(train), 0.021, logs).replace("it/s", "it/s"))
    return [*lines, "\r".join(bars)]


def stable_baselines(rng: Random, reward: Curve, loss: Curve, value_loss: Curve) -> list[str]:
    """Return the tables of Stable-Baselines3's PPO."""
    lines = ["Using cuda device", "Wrapping the env with a `Monitor` wrapper", "Wrapping the env in a DummyVecEnv."]
    for i, r in enumerate(reward):
        rows: list[tuple[str, str]] = [
            ("rollout/", ""),
            ("   ep_len_mean", f"{rng.gauss(210, 9):.3g}"),
            ("   ep_rew_mean", f"{r:.3g}"),
            ("time/", ""),
            ("   fps", f"{rng.gauss(812, 9):.0f}"),
            ("   iterations", f"{i + 1}"),
            ("   total_timesteps", f"{2048 * (i + 1)}"),
            ("train/", ""),
            ("   approx_kl", f"{rng.uniform(0.004, 0.012):.8f}"),
            ("   entropy_loss", f"{-1.38 + 0.002 * i:.3g}"),
            ("   explained_variance", f"{rng.uniform(0.2, 0.9):.3g}"),
            ("   learning_rate", "0.0003"),
            ("   loss", f"{loss[i]:.3g}"),
            ("   n_updates", f"{10 * i}"),
            ("   policy_gradient_loss", f"{rng.gauss(-0.006, 0.002):.3g}"),
            ("   value_loss", f"{value_loss[i]:.3g}"),
        ]
        rule = "-" * 41
        lines += [rule, *(f"| {name:<23}| {text:<12} |" for name, text in rows), rule]
    return lines


def vae(recon: Curve, kl: Curve, total: int) -> list[str]:
    """Return the lines of an own variational autoencoder."""
    return [
        f"====> Epoch: {e + 1}/{total} Average loss: {r + k:.4f} (recon: {r:.4f}, KLD: {k:.6f})"
        for e, (r, k) in enumerate(zip(recon, kl, strict=True))
    ]


def gan(rng: Random, discriminator: Curve, generator: Curve, total: int) -> list[str]:
    """Return the lines of PyTorch's DCGAN example."""
    return [
        f"[{i // 10}/{total}][{50 * (i % 10)}/500]\tLoss_D: {d:.4f}\tLoss_G: {g:.4f}\tD(x): {rng.uniform(0.6, 0.9):.4f}\tD(G(z)): {rng.uniform(0.1, 0.4):.4f} / {rng.uniform(0.05, 0.3):.4f}"
        for i, (d, g) in enumerate(zip(discriminator, generator, strict=True))
    ]
