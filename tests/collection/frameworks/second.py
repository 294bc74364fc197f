"""Second batch: other frameworks, layouts and faults than the first."""

from __future__ import annotations

import json
import math
from random import Random

from tests.collection.frameworks.case import HEALTHY, UNKNOWN, Batch, Lines
from tests.collection.frameworks.curves import (
    BACKWARD,
    SITE,
    Curve,
    above,
    bar,
    clock,
    cosine,
    falling,
    growing_from,
    nan_from,
    slurm,
    stamp,
    steady,
    stepped,
    torchrun_failure,
    traceback,
    turning,
)
from tests.collection.frameworks.layouts import hf_trainer, keras, lightning, own, timm

SECOND = Batch()
case = SECOND.case


# Layouts


def ultralytics(rng: Random, box: Curve, classes: Curve, dfl: Curve, maps: Curve, close: int = 10) -> Lines:
    """Return the tables of Ultralytics, which closes its mosaic before the last epochs."""
    n = len(box)
    lines = [
        "Ultralytics YOLOv8.1.0 Python-3.10.12 torch-2.1.2 CUDA:0 (NVIDIA A100, 40514MiB)",
        f"Starting training for {n} epochs...",
        "",
    ]
    for e in range(n):
        if e == n - close:
            lines.append("Closing dataloader mosaic")
        lines.append("      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size")
        row = f"{f'{e + 1}/{n}':>11}{'6.02G':>11}{box[e]:11.4g}{classes[e]:11.4g}{dfl[e]:11.4g}{rng.randrange(5, 40):11d}{640:11d}"
        lines.append("\r".join(f"{row}: {bar(k, 88, 6.1)}" for k in (1, 44, 88)))
        lines.append(
            f"{'Class':>22}{'Images':>11}{'Instances':>11}{'Box(P':>11}{'R':>11}{'mAP50':>11}{'mAP50-95)':>11}: {bar(13, 13, 4.1)}"
        )
        lines += [
            f"{'all':>22}{200:11d}{1012:11d}{maps[e]:11.3g}{maps[e] * 0.9:11.3g}{maps[e]:11.3g}{maps[e] * 0.6:11.3g}",
            "",
        ]
    return lines


def torchtune(rng: Random, loss: Curve, per_epoch: int) -> Lines:
    """Return torchtune's bar, whose name is epoch, step and loss."""
    parts = []
    for i, value in enumerate(loss):
        epoch, k = divmod(i, per_epoch)
        parts.append(bar(k + 1, per_epoch, rng.gauss(0.9, 0.02), name=f"{epoch + 1}|{i + 1}|Loss: {value!r}"))
    return [
        "INFO:torchtune.utils._logging:Running LoRAFinetuneRecipeSingleDevice with resolved config:",
        "batch_size: 2",
        "INFO:torchtune.utils._logging:Learning rate scheduler is initialized.",
        "\r".join(parts),
    ]


def llama_factory(
    rng: Random, loss: Curve, total: int, rates: Curve, evaluated: dict[int, float] | None = None
) -> Lines:
    """Return LLaMA-Factory's trainer_log.jsonl."""
    lines = []
    for i, value in enumerate(loss):
        entry = {
            "current_steps": 10 * (i + 1),
            "total_steps": total,
            "loss": round(value, 4) if math.isfinite(value) else value,
            "lr": rates[i],
            "epoch": round(30 * (i + 1) / total, 3),
            "percentage": round(1000 * (i + 1) / total, 2),
            "elapsed_time": clock(31 * (i + 1)),
            "remaining_time": clock(3 * (total - 10 * i)),
        }
        lines.append(json.dumps(entry))
        if evaluated and i in evaluated:
            lines.append(
                json.dumps(
                    {
                        "current_steps": 10 * (i + 1),
                        "total_steps": total,
                        "eval_loss": evaluated[i],
                        "epoch": entry["epoch"],
                        "percentage": entry["percentage"],
                    }
                )
            )
    return lines


def maxtext(rng: Random, loss: Curve, first: int = 0) -> Lines:
    """Return MaxText's lines."""
    return ["Num_devices: 8, shape (1, 1, 8, 1, 1, 1)", "number parameters: 6.738 billion"] + [
        f"completed step: {first + i}, seconds: {rng.gauss(2.16, 0.01):.3f}, TFLOP/s/device: {rng.gauss(182.1, 0.7):.3f}, Tokens/s/device: {rng.gauss(3791, 9):.3f}, total_weights: 65536, loss: {v:.3f}"
        for i, v in enumerate(loss)
    ]


def estimator(rng: Random, loss: Curve, step: int = 100) -> Lines:
    """Return the lines of a TensorFlow estimator."""
    lines = [
        "INFO:tensorflow:Graph was finalized.",
        "INFO:tensorflow:Running local_init_op.",
        "INFO:tensorflow:Saving checkpoints for 0 into ./model/model.ckpt.",
    ]
    for i, v in enumerate(loss):
        if i:
            lines.append(f"INFO:tensorflow:global_step/sec: {rng.gauss(8.1, 0.1):.5f}")
        lines.append(
            f"INFO:tensorflow:loss = {v:.7g}, step = {i * step}" + (f" ({rng.gauss(12.3, 0.1):.3f} sec)" if i else "")
        )
    return lines


def caffe(rng: Random, loss: Curve, step: int = 100, rate: float = 0.01) -> Lines:
    """Return Caffe's solver lines."""
    lines = [
        "I0304 21:07:33.104211 23375 solver.cpp:272] Solving net",
        "I0304 21:07:33.104219 23375 solver.cpp:273] Learning Rate Policy: step",
    ]
    for i, v in enumerate(loss):
        t = stamp(12 * i, "I0304 %H:%M:%S") + f".{rng.randrange(10**6):06d} 23375"
        lines += [
            f"{t} solver.cpp:218] Iteration {i * step} ({rng.gauss(8.1, 0.1):.5g} iter/s, {rng.gauss(12.3, 0.1):.5g}s/100 iters), loss = {v:.6g}",
            f"{t} solver.cpp:237]     Train net output #0: loss = {v:.6g} (* 1 = {v:.6g} loss)",
            f"{t} sgd_solver.cpp:105] Iteration {i * step}, lr = {rate:g}",
        ]
    return lines


def darknet(rng: Random, loss: Curve, first: int = 1) -> Lines:
    """Return Darknet's lines; its nan has a sign."""
    lines, average = [], loss[0]
    for i, v in enumerate(loss):
        average = 0.9 * average + 0.1 * v
        text = ("-nan", "-nan") if math.isnan(v) else (f"{v:.6f}", f"{average:.6f}")
        lines += [
            f" {first + i}: {text[0]}, {text[1]} avg loss, 0.001000 rate, {rng.gauss(3.2, 0.1):.6f} seconds, {64 * (first + i)} images, {rng.gauss(9, 1):.6f} hours left",
            "Loaded: 0.000041 seconds",
        ]
    return lines


def paddle(rng: Random, loss: Curve, per_epoch: int, batch: float = 0.31, data: float = 0.01) -> Lines:
    """Return PaddleDetection's lines."""
    return [
        f"[{stamp(31 * i, '%m/%d %H:%M:%S')}] ppdet.engine INFO: Epoch: [{i // per_epoch}] [{20 * (i % per_epoch):4d}/{20 * per_epoch}] learning_rate: {0.0003:.6f} loss: {v:.6f} loss_cls: {0.5 * v:.6f} loss_iou: {0.3 * v:.6f} loss_dfl: {0.4 * v:.6f} "
        f"eta: 4:0{rng.randrange(9)}:1{rng.randrange(9)} batch_cost: {rng.gauss(batch, batch / 30):.4f} data_cost: {rng.gauss(data, data / 20):.4f} ips: {8 / batch:.4f} images/s"
        for i, v in enumerate(loss)
    ]


def skorch(rng: Random, train: Curve, valid: Curve) -> Lines:
    """Return the table that skorch and Braindecode print."""
    lines = [
        "  epoch    train_accuracy    train_loss    valid_acc    valid_loss      lr     dur",
        "-------  ----------------  ------------  -----------  ------------  ------  ------",
    ]
    for e, v in enumerate(train):
        lines.append(
            f"{e + 1:7d}{max(0.25, 1 - v / 2):18.4f}{v:14.4f}{max(0.25, 0.9 - valid[e] / 2.2):13.4f}{valid[e]:14.4f}{0.0006:8.4f}{rng.gauss(1.12, 0.04):8.4f}"
        )
    return lines


def deeplabcut(loss: Curve, step: int = 1000, rate: float = 0.005) -> Lines:
    """Return the lines of DeepLabCut 2."""
    return ["Selecting single-animal trainer", "Training parameter:", "Starting training...."] + [
        f"iteration: {step * (i + 1)} loss: {v:.4f} lr: {rate}" for i, v in enumerate(loss)
    ]


def marian(rng: Random, cost: Curve, valid: dict[int, float] | None = None) -> Lines:
    """Return Marian's lines."""
    lines = ["[2025-03-04 21:07:33] [config] after-epochs: 0", "[2025-03-04 21:07:40] Training started"]
    for i, v in enumerate(cost):
        t = stamp(7 + 32 * i)
        norm = math.nan if math.isnan(v) else rng.uniform(0.3, 0.9)
        lines.append(
            f"[{t}] Ep. {1 + i // 40} : Up. {500 * (i + 1)} : Sen. {30000 * (i % 40 + 1):,} : Cost {v:.8f} : Time {rng.gauss(32.1, 0.2):.2f}s : {rng.gauss(22000, 90):.2f} words/s : gNorm {norm:.4f} : L.r. {3e-4 * min(1, (i + 1) / 30):.4e}"
        )
        if valid and i in valid:
            lines += [
                f"[{t}] [valid] Ep. {1 + i // 40} : Up. {500 * (i + 1)} : ce-mean-words : {valid[i]:.6f} : new best"
            ]
    return lines


def matlab(rng: Random, loss: Curve) -> Lines:
    """Return the table of MATLAB's trainNetwork."""
    rule = "|" + "=" * 88 + "|"
    lines = [
        "Training on single GPU.",
        rule,
        "|  Epoch  |  Iteration  |  Time Elapsed  |  Mini-batch  |  Mini-batch  |  Base Learning  |",
        "|         |             |   (hh:mm:ss)   |     RMSE     |     Loss     |      Rate       |",
        rule,
    ]
    for i, v in enumerate(loss):
        lines.append(
            f"|{i // 4 + 1:8d} |{1 if i == 0 else 50 * i:12d} |{stamp(9 * i, '%H:%M:%S'):>15} |{math.sqrt(2 * v) if v == v else v:13.2f} |{v:13.4f} |{0.001:16.4f} |"
        )
    return [*lines, rule]


def cebra(rng: Random, loss: Curve) -> Lines:
    """Return CEBRA's bar."""
    return [
        "\r".join(
            bar(
                100 * (i + 1),
                100 * len(loss),
                88.0,
                name=f"pos: {-v * 0.4:7.4f} neg: {v * 1.4:7.4f} total: {v:7.4f} temperature:  1.0000",
            )
            for i, v in enumerate(loss)
        )
    ]


def wav2vec(loss: Curve, per_epoch: int) -> Lines:
    """Return fairseq's JSON lines, in which every number is a string."""
    lines = []
    for i, v in enumerate(loss):
        epoch = i // per_epoch + 1
        inner = {
            "epoch": epoch,
            "update": (i + 1) / per_epoch,
            "loss": f"{v:.3f}",
            "ntokens": "1.39e+06",
            "prob_perplexity": f"{40 + i * 0.4:.3f}",
            "lr": f"{min(5e-4, 5e-6 * (i + 1)):.5g}",
            "gnorm": "0.812",
            "wall": f"{61 * i}",
        }
        lines.append(f"[{stamp(61 * i)},112][train_inner][INFO] - {json.dumps(inner)}")
        if i % per_epoch == per_epoch - 1:
            lines.append(
                f"[{stamp(61 * i + 9)},402][valid][INFO] - {json.dumps({'epoch': epoch, 'valid_loss': f'{v * 1.02:.3f}', 'valid_num_updates': str(100 * (i + 1))})}"
            )
    return lines


# Losses that stop being finite


@case("nan")
def torchtune_llama(rng: Random) -> Lines:
    return torchtune(rng, nan_from(falling(rng, 300, 1.9, 1.1, 0.05), 3), 300)


@case("nan", suffix=".jsonl")
def llama_factory_float16(rng: Random) -> Lines:
    loss = [*falling(rng, 120, 1.6, 0.9, 0.04)[:48], *[0.0] * 72]
    return llama_factory(rng, loss, 1200, cosine(120, 1e-4, 12))


@case("nan")
def maxtext_loss(rng: Random) -> Lines:
    return maxtext(rng, nan_from(falling(rng, 700, 10.9, 4.1, 0.008), 512))


@case("nan")
def estimator_diverged(rng: Random) -> Lines:
    return (
        estimator(rng, falling(rng, 40, 7.1, 3.3))
        + ["ERROR:tensorflow:Model diverged with loss = NaN."]
        + traceback(
            "tensorflow.python.training.basic_session_run_hooks.NanLossDuringTrainingError: NaN loss during training.",
            ("train.py", 91, "<module>", "tf.estimator.train_and_evaluate(model, train_spec, eval_spec)"),
        )
    )


@case("nan", "diverging", "flat", "plateau")
def caffe_saturated(rng: Random) -> Lines:
    return caffe(rng, falling(rng, 30, 6.9, 5.5)[:14] + [87.3365] * 40)


@case("nan")
def darknet_negative_nan(rng: Random) -> Lines:
    return darknet(rng, nan_from(falling(rng, 260, 1200, 4, 0.05, 60), 214))


@case("nan")
def marian_guided_alignment(rng: Random) -> Lines:
    return marian(rng, nan_from(falling(rng, 90, 9.8, 3.9), 60))


@case("nan")
def mindeye_check_loss(rng: Random) -> Lines:
    train = falling(rng, 40, 11.2, 4.4)
    bars = "\r".join(
        bar(e + 1, 150, 0.02, f", train/loss={v:.4g}, test/loss={v * 1.2:.4g}") for e, v in enumerate(train)
    )
    return [
        "subj01 loaded",
        bars,
        *traceback(
            "ValueError: NaN loss",
            ("MindEyeV2/src/Train.py", 834, "<module>", "utils.check_loss(loss)"),
            ("MindEyeV2/src/utils.py", 208, "check_loss", "raise ValueError('NaN loss')"),
        ),
    ]


@case("nan", suffix=".csv")
def results_csv_validation(rng: Random) -> Lines:
    n = 40
    box, cls = falling(rng, n, 1.9, 0.9), falling(rng, n, 2.8, 0.7)
    head = "                  epoch,         train/box_loss,         train/cls_loss,       metrics/mAP50(B),           val/box_loss,           val/cls_loss,                 lr/pg0"
    rows = [
        f"{e + 1:23d},{box[e]:23.5g},{cls[e]:23.5g},{0.0 if e > 18 else 0.1 + 0.02 * e:23.5g},{('nan' if e > 18 else f'{box[e] * 1.1:.5g}'):>23},{('nan' if e > 18 else f'{cls[e] * 1.1:.5g}'):>23},{0.01 * (1 - e / n):23.5g}"
        for e in range(n)
    ]
    return [head, *rows]


@case("nan")
def matlab_network(rng: Random) -> Lines:
    return matlab(rng, nan_from(falling(rng, 60, 3.1, 0.8), 9))


@case("nan")
def brain_encoder_one_fold(rng: Random) -> Lines:
    lines = []
    for fold in range(1, 4):
        lines.append(f"==== sub-02 | fold {fold}/3 ====")
        train = falling(rng, 25, 1.01, 0.81, 0.003)
        if fold == 3:
            train = nan_from(train, 7)
        lines += [
            f"  ep {e + 1:2d}  mse_train {t:.4f}  mse_val {t * 1.04:.4f}  r_val {max(0, 0.31 * (1 - math.exp(-e / 6))) if t == t else t:.3f}"
            for e, t in enumerate(train)
        ]
    return lines


@case("nan")
def wav2vec_strings(rng: Random) -> Lines:
    return wav2vec(nan_from(falling(rng, 120, 6.6, 2.2), 77), 10)


@case("nan", "diverging")
def hf_gradients(rng: Random) -> Lines:
    norm = [*steady(rng, 30, 2.1, 0.3), *[math.nan] * 70]
    return hf_trainer(rng, [*falling(rng, 30, 2.2, 1.4), *steady(rng, 70, 11.76, 0.001)], 2, cosine(100, 5e-5, 5), norm)


# Losses that rise, stay, or leave validation behind


@case("diverging")
def maxtext_rises(rng: Random) -> Lines:
    return maxtext(rng, growing_from(falling(rng, 600, 10.8, 3.1, 0.006), 430, 1.012, 8.8))


@case("diverging")
def deeplabcut_explodes(rng: Random) -> Lines:
    return deeplabcut(growing_from(falling(rng, 60, 0.031, 0.004, 0.03), 38, 1.6))


@case("diverging", "nan")
def paddle_explodes(rng: Random) -> Lines:
    return paddle(rng, growing_from(falling(rng, 90, 3.4, 1.9), 60, 1.45), 30)


@case("diverging")
def rate_multiplied_each_epoch(rng: Random) -> Lines:
    n = 60
    train = growing_from(falling(rng, n, 1.6, 0.5, 0.01), 34, 1.11)
    return own(train, above(rng, train, 1.05), n, [1e-4 * 1.2**e for e in range(n)])


@case("overfit")
def skorch_motor_imagery(rng: Random) -> Lines:
    train = falling(rng, 120, 1.42, 0.02, 0.03, 25)
    return skorch(rng, train, turning(rng, train, 24, 0.012, 1.35, 0.03))


@case("overfit", "no_better_than_mean")
def eeg_attention_from_first_epoch(rng: Random) -> Lines:
    n = 30
    train = falling(rng, n, 0.48, 0.03, 0.02, 20)
    valid = [1.37 + 1.6 * (1 - math.exp(-e / 8)) + rng.gauss(0, 0.04) for e in range(n)]
    return [
        f"TestSub: S[1, 2, 3, 6] Epoch {e + 1:2d} Finsh | Now_lr 0.0005/0.0005|Train Loss {train[e]:.4f} | Valid Loss {valid[e]:.4f} | Train Acc {100 - 50 * train[e]:.4f}| Valid Acc {rng.gauss(51.6, 0.7):.4f}"
        for e in range(n)
    ]


@case("overfit", suffix=".jsonl")
def llama_factory_three_epochs(rng: Random) -> Lines:
    loss = [(1.24, 0.78, 0.33)[i // 60] * math.exp(rng.gauss(0, 0.05)) for i in range(180)]
    return llama_factory(rng, loss, 1800, cosine(180, 1e-4, 9), {59: 1.19, 89: 1.21, 119: 1.28, 149: 1.52, 179: 1.61})


@case("overfit")
def boosting_rounds(rng: Random) -> Lines:
    train = falling(rng, 400, 0.69, 0.02, 0.002, 20)
    valid = turning(rng, train, 90, 0.0015, 1.6, 0.003)
    return [
        f"[{i}]\ttrain-logloss:{t:.5f}\teval-logloss:{v:.5f}" for i, (t, v) in enumerate(zip(train, valid, strict=True))
    ]


@case("overfit", "no_better_than_mean")
def algonauts_subject(rng: Random) -> Lines:
    n = 40
    train = falling(rng, n, 1.0, 0.35, 0.008, 6)
    valid = [1.01 + 0.012 * e + rng.gauss(0, 0.006) for e in range(n)]
    return ["Subject 3: 8779 training images, 19004 LH voxels"] + [
        f"Epoch {e + 1:>2}/{n} - train MSE: {train[e]:.4f} - val MSE: {valid[e]:.4f} - val corr (LH): {rng.gauss(0.004, 0.004):.4f} - val corr (RH): {rng.gauss(0.003, 0.004):.4f}"
        for e in range(n)
    ]


@case("flat")
def sklearn_regression(rng: Random) -> Lines:
    return [f"Iteration {i + 1}, loss = {0.69314 * math.exp(rng.gauss(0, 0.0004)):.8f}" for i in range(60)]


@case("flat", "plateau")
def classifier_at_chance(rng: Random) -> Lines:
    return [
        line
        for e in range(30)
        for line in (
            f"Epoch {e + 1}",
            *(
                bar(
                    k, 391, 21.0, f", loss={2.3026 * math.exp(rng.gauss(0, 0.003)):.4f}, acc={rng.gauss(0.1, 0.01):.3f}"
                )
                for k in (100, 200, 391)
            ),
            f"Train loss: {2.3026 + rng.gauss(0, 0.001):.4f}  Test loss: {2.3027 + rng.gauss(0, 0.0004):.4f}  Test acc: 10.00%",
        )
    ]


@case("frozen_parameters", "rounding", "flat")
def optimizer_never_steps(rng: Random) -> Lines:
    return [
        f"[epoch {e:>3}] train_loss: {1.3862 * math.exp(rng.gauss(0, 0.004)):.6f}, val_loss: 1.387104, val_acc: 0.2512, lr: 0.001"
        for e in range(1, 41)
    ]


@case("flat", "lr_off_plan", "plateau")
def cosine_too_short(rng: Random) -> Lines:
    n = 80
    rates = [*cosine(10, 1e-3), *[0.0] * 70]
    train = falling(rng, n, 2.3, 0.9, 0.01)[:10]
    train += steady(rng, 70, train[-1], 0.004)
    return own(train, above(rng, train, 1.03, 0.004), n, rates)


@case("plateau", "flat")
def vit_small_rate(rng: Random) -> Lines:
    loss = falling(rng, 240, 6.91, 4.0, 0.004, 4)[:70]
    loss += steady(rng, 170, loss[-1], 0.006)
    return timm(rng, loss, [5e-4] * 240, accuracy=[min(12.0, 1 + 1.0 * e) for e in range(40)])


@case("scale_mismatch", "component_dominates", "loss_not_unit_free", "categorical_targets")
def keras_outputs_of_different_scale(rng: Random) -> Lines:
    fmri, audio, text = (
        falling(rng, 25, 18400, 15100, 0.004),
        falling(rng, 25, 0.99, 0.97, 0.003),
        falling(rng, 25, 1.01, 0.99, 0.003),
    )
    return [
        line
        for e in range(25)
        for line in (
            f"Epoch {e + 1}/25",
            f"140/140 - 21s - loss: {fmri[e] + audio[e] + text[e]:.4f} - fmri_loss: {fmri[e]:.4f} - audio_loss: {audio[e]:.4f} - text_loss: {text[e]:.4f} - 21s/epoch - 148ms/step",
        )
    ]


@case("scale_mismatch", "component_dominates", "loss_not_unit_free")
def lab_unnormalised_fmri(rng: Random) -> Lines:
    fmri = falling(rng, 30, 812344, 640200, 0.01)
    return [
        f"epoch {e + 1}/30 L_total={v + 2.0:.3f} L_fmri={v:.3f} L_video={0.99 * math.exp(rng.gauss(0, 0.004)):.3f} L_audio={1.01 * math.exp(rng.gauss(0, 0.004)):.3f}"
        for e, v in enumerate(fmri)
    ]


@case("leak", suffix=".csv")
def lightning_same_loader(rng: Random) -> Lines:
    train = falling(rng, 40, 0.93, 0.21, 0.01)
    return ["epoch,step,train_loss_epoch,val_loss"] + [
        row for e, v in enumerate(train) for row in (f"{e},{50 * e + 49},,{v:.6f}", f"{e},{50 * e + 49},{v:.6f},")
    ]


# Slow steps


@case("loader_bound")
def paddle_reader(rng: Random) -> Lines:
    return paddle(rng, falling(rng, 80, 3.3, 1.7), 20, batch=14.2, data=13.4)


@case("loader_bound")
def mmseg_network_disk(rng: Random) -> Lines:
    return [
        f"{stamp(127 * i)},{rng.randrange(1000):03d} - mmseg - INFO - Iter [{50 * (i + 1)}/6000]\tlr: {9e-3 * (1 - i / 120) ** 0.9:.3e}, eta: {clock(127 * (120 - i))}, time: {rng.gauss(2.55, 0.03):.3f}, data_time: {rng.gauss(2.1, 0.03):.3f}, memory: 7978, decode.loss_ce: {v * 0.6:.4f}, decode.acc_seg: {rng.gauss(84, 2):.4f}, aux_0.loss_ce: {v * 0.4:.4f}, loss: {v:.4f}"
        for i, v in enumerate(falling(rng, 90, 3.9, 1.4))
    ]


# Ends


@case("oom_gpu")
def jax_exhausted(rng: Random) -> Lines:
    return maxtext(rng, falling(rng, 30, 10.8, 8)) + traceback(
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 34359738368 bytes.",
        ("MaxText/train.py", 811, "train_loop", "state, metrics = p_train_step(state, example_batch, nextrng)"),
    )


@case("oom_gpu", "crashed")
def cublas_handle(rng: Random) -> Lines:
    return lightning(rng, falling(rng, 3, 3.1, 2.2), None) + traceback(
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", BACKWARD
    )


@case("oom_gpu")
def apple_memory(rng: Random) -> Lines:
    return own(falling(rng, 5, 1.2, 0.9), falling(rng, 5, 1.25, 0.95), 40) + traceback(
        "RuntimeError: MPS backend out of memory (MPS allocated: 17.71 GB, other allocations: 392.11 MB, max allowed: 18.13 GB). Tried to allocate 256.00 MB on private pool.",
        BACKWARD,
    )


@case("oom_host")
def shell_reports_killed(rng: Random) -> Lines:
    return [
        *own(falling(rng, 12, 1.2, 0.9), falling(rng, 12, 1.25, 0.95), 40),
        "run_subject.sh: line 14: 31771 Killed                  python train_encoder.py --subject $SUB --epochs 40",
    ]


@case("oom_host")
def numpy_allocation(rng: Random) -> Lines:
    return [
        "Loading betas for subj01 ...",
        "Loading betas for subj02 ...",
        "Concatenating",
        *traceback(
            "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 58.2 GiB for an array with shape (30000, 520941) and data type float32",
            ("prepare.py", 41, "<module>", "X = np.concatenate(betas)"),
        ),
    ]


@case("oom_host")
def cpu_allocator(rng: Random) -> Lines:
    return own(falling(rng, 7, 1.2, 0.9), None, 40) + traceback(
        "RuntimeError: [enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)",
        ("eval.py", 77, "evaluate", "preds = torch.cat(all_preds)"),
    )


@case("oom_host", "crashed")
def kubernetes_pod(rng: Random) -> Lines:
    return [
        *own(falling(rng, 22, 1.2, 0.9), None, 90),
        "command terminated with exit code 137",
        "  Last State:     Terminated",
        "    Reason:       OOMKilled",
        "    Exit Code:    137",
    ]


@case("shared_memory")
def torch_file_in_shared_memory(rng: Random) -> Lines:
    return own(falling(rng, 4, 0.9, 0.7), None, 60) + traceback(
        "RuntimeError: unable to write to file </torch_8289_606636967_0>: No space left on device (28)",
        (f"{SITE}/torch/multiprocessing/reductions.py", 568, "reduce_storage", "fd, size = storage._share_fd_cpu_()"),
    )


@case("disk_full")
def quota_of_home(rng: Random) -> Lines:
    return keras(rng, falling(rng, 9, 1.9, 1.1), None, 50) + traceback(
        "OSError: [Errno 122] Disk quota exceeded: '.keras/checkpoints/weights.09.h5'",
        ("fit.py", 61, "<module>", "model.fit(x, y, callbacks=[checkpoint])"),
    )


@case("disk_full")
def hdf5_write(rng: Random) -> Lines:
    return keras(rng, falling(rng, 9, 1.9, 1.1), None, 50) + traceback(
        "OSError: [Errno 28] Can't synchronously write data (file write failed: time = Tue Mar  4 21:31:02 2025\n, filename = 'weights.h5', file descriptor = 43, errno = 28, error message = 'No space left on device', buf = 0x55d0, total write size = 4096)",
        ("fit.py", 61, "<module>", "model.save('weights.h5')"),
    )


@case("gpu_failure")
def kernel_xid(rng: Random) -> Lines:
    return [
        *own(falling(rng, 30, 1.1, 0.7), None, 100),
        "[1209331.112] NVRM: Xid (PCI:0000:3b:00): 79, pid=31771, name=python, GPU has fallen off the bus.",
        "RuntimeError: CUDA error: unspecified launch failure",
    ]


@case("too_many_files", "crashed")
def shared_object_limit(rng: Random) -> Lines:
    return own(falling(rng, 3, 1.1, 0.9), None, 100) + traceback(
        "RuntimeError: unable to open shared memory object </torch_31771_1112> in read-write mode: Too many open files (24)",
        ("train.py", 140, "train", "for x, y in loader:"),
    )


@case("collective_timeout", "crashed")
def store_waits_for_clients(rng: Random) -> Lines:
    return [
        "[rank0]: Initializing process group",
        "[rank1]: Initializing process group",
        *traceback(
            "torch.distributed.DistStoreError: Timed out after 1801 seconds waiting for clients. 3/4 clients joined.",
            ("train.py", 22, "<module>", "dist.init_process_group('nccl')"),
        ),
    ]


@case("hangup")
def torchrun_loses_terminal(rng: Random) -> Lines:
    return (
        own(falling(rng, 44, 1.1, 0.7), None, 100)
        + [
            "[2025-03-04 23:40:01,118] torch.distributed.elastic.agent.server.api: [WARNING] Received Signals.SIGHUP death signal, shutting down workers"
        ]
        + traceback(
            "torch.distributed.elastic.multiprocessing.api.SignalException: Process 31770 got signal: 1",
            ("envs/train/bin/torchrun", 8, "<module>", "sys.exit(main())"),
        )
    )


@case("crashed")
def segmentation_fault(rng: Random) -> Lines:
    return (
        own(falling(rng, 14, 6.3, 6.0), None, 200)
        + ["ERROR: Unexpected segmentation fault encountered in worker."] * 4
        + traceback(
            "RuntimeError: DataLoader worker (pid 624) is killed by signal: Segmentation fault. ",
            ("train.py", 88, "train_epoch", "for batch in loader:"),
        )
    )


@case("configuration_error", "crashed")
def resumed_with_other_model(rng: Random) -> Lines:
    return [
        "=> loading checkpoint 'ckpt/last.pth'",
        *traceback(
            'RuntimeError: Error(s) in loading state_dict for BrainEncoder:\n\tMissing key(s) in state_dict: "head.3.weight", "head.3.bias". \n\tsize mismatch for head.0.weight: copying a param with shape torch.Size([512, 15724]) from checkpoint, the shape in current model is torch.Size([512, 14278]).',
            ("main.py", 61, "<module>", "model.load_state_dict(ckpt['model'])"),
        ),
    ]


@case("crashed")
def handled_network_then_shape(rng: Random) -> Lines:
    train = falling(rng, 20, 1.2, 0.8)
    lines = [
        *own(train[:10], None, 50),
        "wandb: Network error (ConnectionError), entering retry loop.",
        *own(train[:20], None, 50)[10:],
    ]
    return lines + traceback(
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x512 and 768x1024)",
        ("model.py", 93, "forward", "return self.proj(x)"),
    )


@case("crashed")
def preempted(rng: Random) -> Lines:
    return lightning(rng, falling(rng, 9, 0.9, 0.7), None) + slurm("DUE TO PREEMPTION")


@case("oom_gpu")
def torchrun_one_rank(rng: Random) -> Lines:
    lines = hf_trainer(rng, falling(rng, 12, 1.4, 1.2), 0.1, cosine(12, 1e-5, 3))
    lines += traceback(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.45 GiB. GPU 2 has a total capacity of 79.15 GiB of which 1.81 GiB is free. Including non-PyTorch memory, this process has 77.31 GiB memory in use.",
        ("src/train.py", 28, "<module>", "main()"),
        prefix="[rank2]: ",
    )
    return lines + torchrun_failure("src/train.py", 2, 1)


@case("oom_gpu")
def ranks_in_a_folder(rng: Random) -> dict[str, Lines]:
    train = falling(rng, 8, 1.3, 1.0)
    ranks = {f"rank_{r}.log": own(train, None, 50) for r in range(4)}
    ranks["rank_3.log"] += traceback(
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.00 GiB (GPU 3; 23.69 GiB total capacity; 20.11 GiB already allocated)",
        BACKWARD,
    )
    for r in range(3):
        ranks[f"rank_{r}.log"] += traceback(
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, remote process exited or there was a network error, NCCL version 2.20.5",
            BACKWARD,
        )
    return ranks


# Healthy


@case(HEALTHY)
def ultralytics_closes_mosaic(rng: Random) -> Lines:
    n = 100
    box, cls, dfl = (falling(rng, n, s, e, 0.008) for s, e in ((1.81, 0.82), (2.9, 0.51), (1.7, 1.02)))
    for e in range(n - 10, n):
        box[e], cls[e], dfl[e] = box[e] * 0.93, cls[e] * 0.8, dfl[e] * 0.97
    return [
        *ultralytics(rng, box, cls, dfl, [0.91 * (1 - math.exp(-(e + 1) / 14)) for e in range(n)]),
        f"{n} epochs completed in 1.204 hours.",
        "Optimizer stripped from runs/detect/train/weights/last.pt, 6.2MB",
        "Results saved to runs/detect/train",
    ]


@case(HEALTHY)
def torchtune_alpaca(rng: Random) -> Lines:
    return torchtune(rng, falling(rng, 600, 1.74, 0.95, 0.12, 40), 300)


@case(HEALTHY, suffix=".jsonl")
def llama_factory_lora(rng: Random) -> Lines:
    return llama_factory(
        rng, falling(rng, 150, 1.51, 1.12, 0.04, 30), 1500, cosine(150, 1e-4, 9), {49: 1.219, 99: 1.192, 149: 1.187}
    )


@case(HEALTHY, UNKNOWN)
def diffusers_step_loss(rng: Random) -> Lines:
    parts = [
        bar(i + 1, 1500, 2.1, f", lr=1e-5, step_loss={min(0.98, abs(rng.lognormvariate(-2.6, 1.1))):.3g}", "Steps")
        for i in range(1500)
    ]
    return [
        "03/04/2025 21:07:33 - INFO - __main__ - ***** Running training *****",
        "03/04/2025 21:07:33 - INFO - __main__ -   Num examples = 833",
        "03/04/2025 21:07:33 - INFO - __main__ -   Total optimization steps = 1500",
        "\r".join(parts),
    ]


@case(HEALTHY)
def maxtext_pretraining(rng: Random) -> Lines:
    return maxtext(rng, falling(rng, 900, 10.87, 2.7, 0.012))


@case(HEALTHY)
def estimator_word_vectors(rng: Random) -> Lines:
    return [*estimator(rng, falling(rng, 120, 9.1, 2.4, 0.05)), "INFO:tensorflow:Loss for final step: 2.7712."]


@case(HEALTHY)
def caffe_classifier(rng: Random) -> Lines:
    return [
        *caffe(rng, falling(rng, 120, 6.92, 1.4, 0.06)),
        "I0304 22:10:01.1 23375 solver.cpp:330] Iteration 12000, Testing net (#0)",
        "I0304 22:10:09.1 23375 caffe.cpp:259] Optimization Done.",
    ]


@case(HEALTHY)
def darknet_cells(rng: Random) -> Lines:
    return darknet(rng, falling(rng, 500, 1400, 1.1, 0.06, 200))


@case(HEALTHY)
def paddle_detector(rng: Random) -> Lines:
    return paddle(rng, falling(rng, 240, 3.6, 1.3, 0.04), 40)


@case(HEALTHY)
def skorch_sleep_stages(rng: Random) -> Lines:
    train = falling(rng, 40, 1.58, 0.6, 0.01)
    return skorch(rng, train, above(rng, train, 1.12, 0.02))


@case(HEALTHY)
def deeplabcut_ends_with_cancelled_queue(rng: Random) -> Lines:
    return (
        deeplabcut(falling(rng, 200, 0.021, 0.0011, 0.02, 30))
        + [
            "2025-03-05 01:22:20.459561: W tensorflow/core/kernels/queue_base.cc:277] _0_fifo_queue: Skipping cancelled enqueue attempt with queue not closed",
            "Exception in thread Thread-1:",
        ]
        + traceback(
            "tensorflow.python.framework.errors_impl.CancelledError: Enqueue operation was cancelled",
            (
                "/opt/dlc/pose_estimation_tensorflow/core/train.py",
                60,
                "load_and_enqueue",
                "sess.run(enqueue_op, feed_dict=food)",
            ),
        )
        + [
            "The network is now trained and ready to evaluate. Use the function 'evaluate_network' to evaluate the network."
        ]
    )


@case(HEALTHY)
def marian_from_scratch(rng: Random) -> Lines:
    cost = falling(rng, 200, 10.1, 3.2, 0.02)
    return marian(rng, cost, {i: cost[i] * 0.98 for i in range(19, 200, 20)})


@case(HEALTHY)
def matlab_regression(rng: Random) -> Lines:
    return matlab(rng, falling(rng, 120, 2.4, 0.3, 0.05))


@case(HEALTHY)
def cebra_embedding(rng: Random) -> Lines:
    return cebra(rng, [5.54 + 0.69 - 0.9 * (1 - math.exp(-i / 12)) + rng.gauss(0, 0.02) for i in range(100)])


@case(HEALTHY)
def wav2vec_pretraining(rng: Random) -> Lines:
    return wav2vec(falling(rng, 200, 6.6, 2.1, 0.01), 20)


@case(HEALTHY, UNKNOWN)
def kaldi_objective(rng: Random) -> Lines:
    objective = [-4.1 + 3.2 * (1 - math.exp(-i / 30)) + rng.gauss(0, 0.02) for i in range(160)]
    return [
        f"LOG (nnet3-train[5.5.1-a]:PrintStatsForThisPhase():nnet-training.cc:285) Average objective function for 'output' for minibatches {100 * i}-{100 * i + 99} is {v:.6g} over 12800 frames."
        for i, v in enumerate(objective)
    ]


@case(HEALTHY, UNKNOWN)
def grpo_loss_from_zero(rng: Random) -> Lines:
    return [
        str(
            {
                "loss": round(max(0.0, 0.00004 * i + rng.gauss(0, 0.0002)), 4),
                "grad_norm": round(rng.uniform(0.1, 0.4), 4),
                "learning_rate": 1e-6,
                "completion_length": round(rng.gauss(330, 12), 2),
                "rewards/accuracy_reward": round(0.3 + 0.3 * i / 150 + rng.gauss(0, 0.05), 4),
                "reward": round(0.8 + 0.5 * i / 150 + rng.gauss(0, 0.06), 4),
                "reward_std": 0.41,
                "kl": round(0.0005 * i, 5),
                "epoch": round(i / 150, 2),
            }
        )
        for i in range(150)
    ]


@case(HEALTHY)
def dpo_margins(rng: Random) -> Lines:
    return [
        str(
            {
                "loss": round(v, 4),
                "grad_norm": rng.uniform(2, 9),
                "learning_rate": 5e-7,
                "rewards/chosen": round(-0.3 * i / 80, 4),
                "rewards/rejected": round(-1.4 * i / 80, 4),
                "rewards/accuracies": round(0.5 + 0.25 * (1 - math.exp(-i / 20)), 4),
                "rewards/margins": round(1.1 * i / 80, 4),
                "logps/chosen": -281.1,
                "epoch": round(i / 80, 2),
            }
        )
        for i, v in enumerate(falling(rng, 80, 0.6931, 0.51, 0.02))
    ]


@case(HEALTHY)
def negative_log_likelihood(rng: Random) -> Lines:
    loss = [1.42 - 4.6 * (1 - math.exp(-e / 18)) + rng.gauss(0, 0.03) for e in range(90)]
    return [
        f"Epoch {e:03d} | nll {v:+.4f} | val_nll {v + 0.11 + rng.gauss(0, 0.03):+.4f} | 12.1s"
        for e, v in enumerate(loss)
    ]


@case(HEALTHY)
def annealed_kl_raises_total(rng: Random) -> Lines:
    recon = falling(rng, 50, 98, 61, 0.003, 20)
    return [
        f"Epoch {e + 1}/50, beta={min(1.0, e / 25):.2f}, recon={r:.3f}, kl={k:.3f}, loss={r + min(1.0, e / 25) * k:.3f}"
        for e, r in enumerate(recon)
        for k in [31 * math.exp(-e / 60) + rng.gauss(0, 0.2)]
    ]


@case(HEALTHY)
def cross_validation(rng: Random) -> Lines:
    lines = []
    for fold in range(5):
        lines.append(f"Fold {fold + 1}/5: 960 train, 240 test")
        train = falling(rng, 20, 1.38, 0.41, 0.02)
        lines += [
            f"Epoch {e + 1}/20 - loss: {t:.4f} - val_loss: {t * 1.1 * math.exp(rng.gauss(0, 0.02)):.4f}"
            for e, t in enumerate(train)
        ]
        lines.append(f"Fold {fold + 1} accuracy: {rng.gauss(0.81, 0.02):.3f}")
    return [*lines, "Mean accuracy over 5 folds: 0.812 +/- 0.021"]


@case(HEALTHY)
def unfrozen_second_phase(rng: Random) -> Lines:
    first, second = falling(rng, 8, 1.21, 0.62, 0.01), falling(rng, 25, 0.71, 0.33, 0.01)
    table = ["epoch     train_loss  valid_loss  error_rate  time"]
    return [
        line
        for phase in (first, second)
        for line in (*table, *(f"{e:<10}{t:<12.6f}{t * 1.03:<12.6f}{t / 6:<12.6f}00:41" for e, t in enumerate(phase)))
    ]


@case(HEALTHY)
def longer_sequences_halfway(rng: Random) -> Lines:
    loss = falling(rng, 300, 6.2, 2.9, 0.01)
    lines = []
    for i, v in enumerate(loss):
        if i == 150:
            lines.append("=== stage 2: sequence length 2048 -> 8192, batch size 256 -> 64 ===")
        v *= 1 + (0.16 * math.exp(-(i - 150) / 30) if i >= 150 else 0)
        lines.append(
            f"step {20 * i:6d} | loss {v:.4f} | ppl {math.exp(v):9.2f} | lr {3e-4 * min(1, (i + 1) / 20):.2e} | tok/s {rng.gauss(41200, 300):.0f}"
        )
    return lines


@case(HEALTHY, clear_from=0.6)
def requeued_job(rng: Random) -> Lines:
    train = falling(rng, 60, 1.3, 0.6, 0.006)
    valid = above(rng, train, 1.05, 0.006)
    lines = own(train, valid, 60)
    return [
        *lines[:31],
        *slurm("DUE TO PREEMPTION"),
        "Resuming from checkpoint /scratch/ckpt/epoch_029.pt",
        *lines[29:],
        "Finished training.",
    ]


@case(HEALTHY, clear_from=0.5)
def restarted_after_crash(rng: Random) -> Lines:
    train = falling(rng, 50, 1.3, 0.6, 0.006)
    lines = own(train, above(rng, train, 1.05, 0.006), 50)
    error = traceback(
        "ConnectionResetError: [Errno 104] Connection reset by peer", ("loader.py", 33, "read", "return s3.get(key)")
    )
    return [
        *lines[:24],
        *error,
        "",
        "$ python train.py --resume",
        "loaded epoch 20",
        *lines[20:],
        "Training complete in 75m 2s",
        "Best val loss: 0.631402",
    ]


@case(HEALTHY)
def handled_out_of_memory(rng: Random) -> Lines:
    lines = [
        f"2025-03-04 21:{i // 60:02d}:{i % 60:02d} | INFO | train_inner | epoch 002: {10 * i:6d} / 4000 loss={v:.3f}, ppl={2**v:.2f}, num_updates={10 * i}, lr=0.0003, gnorm=0.9"
        for i, v in enumerate(falling(rng, 300, 5.2, 3.4, 0.01))
    ]
    for at in (260, 120, 41):
        lines[at:at] = [
            "2025-03-04 21:01:10 | WARNING | fairseq.trainer | OOM: Ran out of memory with exception: CUDA out of memory. Tried to allocate 1.21 GiB (GPU 0; 10.76 GiB total capacity)",
            "2025-03-04 21:01:10 | WARNING | fairseq.trainer | attempting to recover from OOM in forward/backward pass",
        ]
    return lines


@case(HEALTHY)
def worker_crash_survived(rng: Random) -> Lines:
    lines = []
    for e, v in enumerate(falling(rng, 80, 42.0, 24.0, 0.01)):
        lines += [
            f"INFO:vc:Train Epoch: {e + 1} [70%]",
            f"INFO:vc:loss_mel={v:.4f}, loss_kl={v / 20:.4f}, loss={v * 1.05:.4f}, step={420 * (e + 1)}, lr=0.000199",
        ]
        if e in (12, 40, 77):
            lines.append("ERROR: Unexpected segmentation fault encountered in worker.")
        lines.append(f"INFO:vc:====> Epoch: {e + 1}")
    return lines


@case(HEALTHY)
def constant_voxels_have_no_correlation(rng: Random) -> Lines:
    train = falling(rng, 40, 1.0, 0.84, 0.002)
    warning = "enc/metrics.py:18: RuntimeWarning: invalid value encountered in true_divide"
    return [
        line
        for e, t in enumerate(train)
        for line in ((warning, "  r = (a * b).mean(0) / (a.std(0) * b.std(0))") if e % 9 == 0 else ())
        + (
            f"epoch {e + 1:2d}/40  train loss {t:.4f}  val loss {t * 1.02:.4f}  val r (mean) nan  val r (nanmean) {0.21 * (1 - math.exp(-e / 8)):.3f}",
        )
    ]


@case(HEALTHY)
def dropout_train_above_validation(rng: Random) -> Lines:
    train = falling(rng, 70, 2.6, 1.1, 0.01)
    return own(train, above(rng, train, 0.78, 0.012), 70, stepped(70, 1e-3, 40, 60))


@case(HEALTHY)
def first_gradient_overflows(rng: Random) -> Lines:
    return hf_trainer(
        rng,
        falling(rng, 120, 3.1, 1.9, 0.03),
        1,
        cosine(120, 1e-4, 10),
        [math.inf, math.nan, *steady(rng, 118, 1.4, 0.3)],
    )


@case(HEALTHY)
def long_warmup_interrupted(rng: Random) -> Lines:
    n = 60
    return own(falling(rng, n, 7.6, 4.1, 0.004, 6), None, 300, [1e-6 * 1.1**e for e in range(n)])


@case(HEALTHY)
def chinese_words(rng: Random) -> Lines:
    train = falling(rng, 50, 1.9, 0.4, 0.01)
    return (
        ["开始训练"]
        + [
            f"Epoch: {e + 1}/50  训练损失: {t:.4f}  验证损失: {t * 1.08:.4f}  学习率: 0.001000"
            for e, t in enumerate(train)
        ]
        + ["训练完成"]
    )


@case(HEALTHY, encoding="utf-16")
def power_shell_tee(rng: Random) -> Lines:
    train = falling(rng, 40, 1.2, 0.5, 0.006)
    return own(train, above(rng, train, 1.05, 0.006), 40)


@case(HEALTHY, "loss_not_unit_free", suffix=".csv")
def swiss_spreadsheet(rng: Random) -> Lines:
    train = falling(rng, 40, 1250, 610, 0.006)
    return ["epoch;train_loss;val_loss"] + [
        f"{e + 1};{t:.3f};{v:.3f}".replace(".", ",")
        for e, (t, v) in enumerate(zip(train, above(rng, train, 1.05, 0.006), strict=True))
    ]


@case(HEALTHY)
def tribe_encoder(rng: Random) -> Lines:
    train = falling(rng, 15, 0.99, 0.93, 0.0008)
    lines = ["INFO:tribe:4 subjects, 1000 parcels", "Seed set to 33"]
    for e, v in enumerate(train):
        r = 0.29 * (1 - math.exp(-(e + 1) / 4))
        lines.append(
            "\r"
            + "\r".join(
                bar(
                    k,
                    412,
                    3.3,
                    f", v_num=0, train/loss={v:.3f}"
                    + (f", val/loss={v * 1.01:.3f}, val/pearson={r:.3f}" if k == 412 else ""),
                    f"Epoch {e}",
                )
                for k in (1, 206, 412)
            )
        )
    return [*lines, "`Trainer.fit` stopped: `max_epochs=15` reached."]


@case(HEALTHY)
def cleanrl_episodes(rng: Random) -> Lines:
    return [
        line
        for i in range(300)
        for line in (
            f"global_step={i * 512}, episodic_return=[{max(9, 20 + i * 1.4 + rng.gauss(0, 60)):.0f}.]",
            f"SPS: {rng.gauss(1800, 30):.0f}",
        )
    ]


@case(UNKNOWN)
def losses_without_names(rng: Random) -> Lines:
    return [
        line
        for e in range(60)
        for line in (
            f"INFO:freevc:Train Epoch: {e + 1} [12%]",
            f"INFO:freevc:[{rng.gauss(2, 0.1)}, {rng.gauss(3, 0.1)}, {14 - e * 0.05}, {20 - e * 0.06}, {2.2}, {430 * e}, 0.00016]",
            f"INFO:freevc:====> Epoch: {e + 1}",
        )
    ]


@case("discriminator_wins")
def gan_discriminator_wins(rng: Random) -> Lines:
    return [
        f"[Epoch {i // 20}/{50}] [Batch {i % 20}/20] [D loss: {0.4 * math.exp(-i / 60) + 0.001:.6f}] [G loss: {1.1 + 7 * (1 - math.exp(-i / 120)) + rng.gauss(0, 0.4):.6f}]"
        for i in range(600)
    ]


@case(UNKNOWN)
def queue_of_jobs(rng: Random) -> Lines:
    return ["             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)"] + [
        f"{4128000 + k:>18} gpu        enc_sub{k % 9 + 1}  user  {rng.choice(['R', 'PD'])}  {rng.randrange(24)}:{rng.randrange(60):02d}:11  1 gpu0{rng.randrange(10, 40)}"
        for k in range(40)
    ]
