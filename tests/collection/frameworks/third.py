"""Third batch: further frameworks, ends and traps."""

from __future__ import annotations

import math
from random import Random

from tests.collection.frameworks.case import HEALTHY, UNKNOWN, Batch, Lines
from tests.collection.frameworks.curves import (
    BACKWARD,
    SITE,
    Curve,
    above,
    bar,
    cosine,
    falling,
    growing_from,
    nan_from,
    slurm,
    stamp,
    steady,
    traceback,
    turning,
)
from tests.collection.frameworks.layouts import hf_trainer, keras, lightning, own

THIRD = Batch()
case = THIRD.case


# Layouts


def composer(rng: Random, loss: Curve, total: int) -> Lines:
    """Return the blocks of Composer's console logger."""
    lines = []
    for i, v in enumerate(loss):
        lines += [
            f"[epoch=0][batch={10 * (i + 1)}/{total}]:",
            f"\t Train time/batch: {10 * (i + 1) - 1}",
            f"\t Train time/token: {10485760 * (i + 1)}",
            f"\t Train loss/train/total: {v:.4f}",
            f"\t Train metrics/train/LanguagePerplexity: {math.exp(min(v, 50)) if v == v else v:.4f}",
            f"\t Train throughput/tokens_per_sec: {rng.gauss(4.1e5, 900):.4f}",
            f"\t Train lr-DecoupledAdamW/group0: {6e-4 * min(1, (i + 1) / 10):.4f}",
        ]
    return lines


def imagenet(
    rng: Random, loss: Curve, per_epoch: int, accuracy: Curve, data: float = 0.002, batch: float = 0.31
) -> Lines:
    """Return the lines of PyTorch's ImageNet example."""
    lines = ["=> creating model 'resnet50'"]
    for i, v in enumerate(loss):
        e, k = divmod(i, per_epoch)
        t, d = rng.gauss(batch, batch / 30), rng.gauss(data, data / 20)
        lines.append(
            f"Epoch: [{e}][{500 * k:4d}/5005]\tTime {t:6.3f} ({batch:6.3f})\tData {d:6.3f} ({data:6.3f})\tLoss {v * math.exp(rng.gauss(0, 0.01)):.4e} ({v:.4e})\tAcc@1 {abs(accuracy[e] + rng.gauss(0, 0.05)):6.2f} ({accuracy[e]:6.2f})\tAcc@5 {min(100, 2 * accuracy[e]):6.2f} ({min(100, 2 * accuracy[e]):6.2f})"
        )
        if k == per_epoch - 1:
            lines += [
                f"Test: [  0/196]\tTime  2.111 ( 2.111)\tLoss {v * 1.04:.4e} ({v * 1.06:.4e})",
                f" *   Acc@1 {accuracy[e] * 0.98:.3f} Acc@5 {min(100, 1.9 * accuracy[e]):.3f}",
            ]
    return lines


def ignite(train: Curve, valid: Curve) -> Lines:
    """Return the results that Ignite's examples print per epoch."""
    return [
        line
        for e, (t, v) in enumerate(zip(train, valid, strict=True), 1)
        for line in (
            f"Training Results - Epoch: {e}  Avg accuracy: {max(0.1, 1 - t / 3):.2f} Avg loss: {t:.4f}",
            f"Validation Results - Epoch: {e}  Avg accuracy: {max(0.1, 1 - v / 3):.2f} Avg loss: {v:.4f}",
        )
    ]


def coqui(rng: Random, loss: Curve) -> Lines:
    """Return the blocks of Coqui's trainer."""
    lines = []
    for e, v in enumerate(loss):
        lines += ["", f" > EPOCH: {e}/1000", " --> /runs/tts-March-04-2025", "", f" > TRAINING ({stamp(400 * e)}) "]
        for k in (25, 50, 75):
            w = v * math.exp(rng.gauss(0, 0.02))
            lines += [
                f"   --> TIME: {stamp(400 * e + k)} -- STEP: {k}/99 -- GLOBAL_STEP: {99 * e + k}",
                f"     | > decoder_loss: {w * 0.7:.5f}  ({v * 0.7:.5f})",
                f"     | > postnet_loss: {w * 0.3:.5f}  ({v * 0.3:.5f})",
                f"     | > loss: {w:.5f}  ({v:.5f})",
                f"     | > grad_norm: {rng.uniform(0.5, 2):.5f}",
                "     | > current_lr: 0.00012",
                f"     | > step_time: 0.6{k}12",
                "     | > loader_time: 0.0029",
            ]
        lines += [
            " > EVALUATION ",
            "  --> EVAL PERFORMANCE",
            f"     | > avg_decoder_loss: {v * 0.74:.5f} (-0.01)",
            f"     | > avg_loss: {v * 1.05:.5f} (-0.01)",
        ]
    return lines


def pointnet(train: Curve, valid: Curve) -> Lines:
    """Return the blocks of PointNet."""
    return [
        line
        for e, (t, v) in enumerate(zip(train, valid, strict=True))
        for line in (
            f"**** EPOCH {e:03d} ****",
            "----train----",
            f"mean loss: {t:f}",
            f"accuracy: {max(0.03, 1 - t / 4):f}",
            "----test----",
            f"eval mean loss: {v:f}",
            f"eval accuracy: {max(0.03, 1 - v / 4):f}",
            f"eval avg class acc: {max(0.03, 0.95 - v / 4):f}",
        )
    ]


def flair(rng: Random, loss: Curve, rates: Curve) -> Lines:
    """Return Flair's lines."""
    lines = []
    for e, v in enumerate(loss, 1):
        lines += [
            f"{stamp(60 * e)},120 epoch {e} - iter {12 * k}/120 - loss {v * math.exp(rng.gauss(0, 0.02)):.8f} - time (sec): {4.1 * k:.2f} - samples/sec: {rng.gauss(310, 4):.2f} - lr: {rates[e - 1]:.6f}"
            for k in (2, 5, 8, 10)
        ]
        lines += [
            f"{stamp(60 * e + 50)},{rng.randrange(1000):03d} EPOCH {e} done: loss {v:.4f} - lr: {rates[e - 1]:.6f}",
            f"{stamp(60 * e + 55)},{rng.randrange(1000):03d} DEV : loss {v * 1.1:.8f} - f1-score (micro avg)  {0.93 * (1 - math.exp(-e / 4)):.4f}",
        ]
    return lines


def scvi(rng: Random, loss: Curve, total: int) -> Lines:
    """Return the bar of scvi-tools."""
    return [
        "\r".join(
            bar(
                e + 1,
                total,
                1.9,
                f", v_num=1, train_loss_step={v * math.exp(rng.gauss(0, 0.02)):.3g}, train_loss_epoch={v:.3g}",
                f"Epoch {e + 1}/{total}",
            )
            for e, v in enumerate(loss)
        )
    ]


def rich(error: str, width: int = 100) -> Lines:
    """Return a traceback in the frame that the package rich draws."""
    rows = [
        "enc/train.py:88 in main",
        "",
        "   85     trainer = Trainer(**cfg.trainer)",
        "   86     model = Encoder(cfg)",
        f" ❱ 88     {'trainer.fit(model, datamodule)'}",
        "",
    ]
    title = " Traceback (most recent call last) "
    return [
        f"╭{title:─^{width - 2}}╮",
        *(f"│ {row:<{width - 4}} │" for row in rows),
        f"╰{'─' * (width - 2)}╯",
        *error.split("\n"),
    ]


def wandb_summary(**values: float) -> Lines:
    """Return what wandb prints when a process ends, whether well or not."""
    return [
        "wandb: ",
        "wandb: Run history:",
        *(f"wandb: {name.replace('__', '/'):>14} █▆▅▄▃▃▂▂▁▁" for name in values),
        "wandb: ",
        "wandb: Run summary:",
        *(f"wandb: {name.replace('__', '/'):>14} {value:.5f}" for name, value in values.items()),
        "wandb: ",
        "wandb: You can sync this run to the cloud by running:",
        "wandb: wandb sync /scratch/wandb/offline-run-20250304_210733-x1",
    ]


# Losses that stop being finite


@case("nan")
def composer_pretraining(rng: Random) -> Lines:
    return composer(rng, nan_from(falling(rng, 120, 11.1, 3.6, 0.008), 88), 4800)


@case("nan")
def coqui_postnet(rng: Random) -> Lines:
    return coqui(rng, nan_from(falling(rng, 30, 2.9, 0.8), 21))


@case("nan")
def flax_whisper(rng: Random) -> Lines:
    return [
        f"Step... ({25 * (i + 1)} | Loss: {v}, Learning Rate: {1e-4 * min(1, (i + 1) / 20)}, Gradient Norm: {v if v != v else rng.uniform(0.5, 3)})"
        for i, v in enumerate(nan_from(falling(rng, 90, 3.9, 0.4), 62))
    ]


@case("nan")
def fasttext_encountered(rng: Random) -> Lines:
    bars = "\r".join(
        f"Progress: {k / 2:5.1f}% words/sec/thread: {rng.gauss(71000, 400):7.0f} lr: {2.0 - k / 100:9.6f} avg.loss: {v:9.6f} ETA:   0h{30 - k // 3:2d}m 1s"
        for k, v in enumerate(falling(rng, 60, 4.1, 2.2))
    )
    return [
        "Read 412M words",
        "Number of words:  2000000",
        bars,
        "terminate called after throwing an instance of 'std::runtime_error'",
        "  what():  Encountered NaN.",
    ]


@case("nan")
def lightning_monitor_not_finite(rng: Random) -> Lines:
    train = falling(rng, 13, 0.92, 0.55)
    return [
        *lightning(rng, train, [*above(rng, train)[:-1], math.nan]),
        "Monitored metric val_loss = nan is not finite. Previous best value was 0.612. Signaling Trainer to stop.",
    ]


@case("nan")
def keras_terminates_on_nan(rng: Random) -> Lines:
    train = falling(rng, 8, 41.0, 12.0)
    return [
        *keras(rng, train, above(rng, train), 100),
        "Epoch 9/100",
        " 17/312 [>.............................] - ETA: 11s - loss: nan - accuracy: 0.0012Batch 17: Invalid loss, terminating training",
    ]


@case("nan")
def hf_evaluation_only(rng: Random) -> Lines:
    return hf_trainer(rng, falling(rng, 120, 2.2, 1.3, 0.03), 3, cosine(120, 2e-5, 6), None, [math.nan] * 120, 40)


@case("nan")
def mxnet_cross_entropy(rng: Random) -> Lines:
    loss = nan_from(falling(rng, 25, 4.6, 1.9), 6)
    return [
        line
        for e, v in enumerate(loss)
        for line in (
            *(
                f"INFO:root:Epoch[{e}] Batch [{20 * k}]\tSpeed: {rng.gauss(1210, 9):.2f} samples/sec\taccuracy={0.01 if v != v else 0.2 + e / 40:f}\tcross-entropy={v:f}"
                for k in (1, 2, 3)
            ),
            f"INFO:root:Epoch[{e}] Train-cross-entropy={v:f}",
            f"INFO:root:Epoch[{e}] Time cost=41.221",
            f"INFO:root:Epoch[{e}] Validation-cross-entropy={v * 1.05:f}",
        )
    ]


@case("nan", "crashed")
def assertion_of_own_script(rng: Random) -> Lines:
    return own(falling(rng, 17, 1.2, 0.8), None, 80) + traceback(
        "AssertionError: loss is not finite: tensor(nan, device='cuda:0', grad_fn=<AddBackward0>)",
        ("train_decoder.py", 154, "step", 'assert torch.isfinite(loss), f"loss is not finite: {loss}"'),
    )


@case("nan")
def glove_cost(rng: Random) -> Lines:
    return [
        "TRAINING MODEL",
        "Read 61203112 lines.",
        "Initializing parameters...Using random seed 1741122453",
        "done.",
        "vector size: 300",
    ] + [
        f"03/04/25 - 09:0{k // 10}.{10 + k % 50:02d}PM, iter: {k + 1:03d}, cost: {'nan' if k > 11 else f'{0.12 / (k + 1):.6f}'}"
        for k in range(25)
    ]


# Losses that rise, stay, or leave validation behind


@case("diverging")
def slow_rise_under_noise(rng: Random) -> Lines:
    n = 120
    train = [v * (1 + 0.017 * max(0, i - 50)) for i, v in enumerate(falling(rng, n, 1.4, 0.45, 0.04))]
    return own(train, above(rng, train, 1.06, 0.03), n, [3e-3] * n)


@case("diverging")
def one_epoch_explodes(rng: Random) -> Lines:
    loss = growing_from(falling(rng, 400, 2.4, 1.4, 0.03), 310, 1.025, 9.3)
    return [
        f"Epoch 1/1 | step {5 * i}/2000 | loss {v:.4f} | lr {2e-4:.1e} | {rng.gauss(3.1, 0.1):.2f} it/s"
        for i, v in enumerate(loss)
    ]


@case("diverging")
def growing_oscillation(rng: Random) -> Lines:
    train = [
        0.6 + 1.2 * math.exp(-i / 10) + 0.004 * math.exp(i / 13) * (1 + math.sin(i / 2)) + rng.gauss(0, 0.01)
        for i in range(90)
    ]
    return own(train, None, 90, [0.01] * 90)


@case("overfit")
def ignite_small_data(rng: Random) -> Lines:
    train = falling(rng, 45, 2.2, 0.03, 0.02, 20)
    return ignite(train, turning(rng, train, 11, 0.04, 1.2, 0.02))


@case("overfit")
def hf_glue_many_epochs(rng: Random) -> Lines:
    loss = [max(0.004, 0.62 * math.exp(-i / 45)) * math.exp(rng.gauss(0, 0.12)) for i in range(200)]
    valid = [0.41 + 0.2 * math.exp(-i / 10) + 0.0042 * max(0, i - 30) for i in range(200)]
    return hf_trainer(rng, loss, 10, cosine(200, 2e-5, 12), None, valid, 20)


@case("overfit")
def pointnet_few_scans(rng: Random) -> Lines:
    train = falling(rng, 80, 3.4, 0.05, 0.02, 25)
    return pointnet(train, turning(rng, train, 20, 0.03, 1.4, 0.04))


@case("overfit")
def lightgbm_without_stopping(rng: Random) -> Lines:
    train = falling(rng, 100, 0.31, 0.01, 0.002, 20)
    valid = turning(rng, train, 18, 0.012, 1.3, 0.003)
    return ["[LightGBM] [Info] Total Bins 38211", "[LightGBM] [Info] Start training from score 0.412"] + [
        f"[{10 * (i + 1)}]\ttraining's l2: {t:.6f}\tvalid_1's l2: {v:.6f}"
        for i, (t, v) in enumerate(zip(train, valid, strict=True))
    ]


@case("flat")
def imagenet_never_starts(rng: Random) -> Lines:
    return imagenet(rng, steady(rng, 88, math.log(1000), 0.0008), 11, [0.1] * 9)


@case("flat")
def glue_constant_answer(rng: Random) -> Lines:
    return hf_trainer(
        rng,
        steady(rng, 90, 0.6931, 0.006),
        3,
        cosine(90, 5e-5, 5),
        steady(rng, 90, 0.31, 0.3),
        steady(rng, 90, 0.6932, 0.0004),
        30,
    )


@case("flat", "plateau")
def nerf_white_images(rng: Random) -> Lines:
    return [
        f"[TRAIN] Iter: {100 * (i + 1)} Loss: {v:.6f}  PSNR: {-10 * math.log10(v):.4f}"
        for i, v in enumerate(steady(rng, 150, 0.2811, 0.03))
    ]


@case("plateau", "flat", "lr_off_plan")
def rate_falls_to_nothing(rng: Random) -> Lines:
    n = 90
    rates = [1e-3 * 0.3 ** (e // 2) for e in range(n)]
    train = falling(rng, n, 2.1, 0.5, 0.006, 6)[:12]
    train += steady(rng, n - 12, train[-1], 0.003)
    return [f"Epoch {e + 1}/{n} train={t:.4f} val={t * 1.05:.4f} lr={rates[e]:.3g}" for e, t in enumerate(train)]


@case("scale_mismatch", "component_dominates", "loss_not_unit_free", "categorical_targets")
def audio_codes_as_numbers(rng: Random) -> Lines:
    audio = falling(rng, 40, 88211, 86102, 0.004)
    return [
        f"Epoch {e + 1}/40 | Loss: {a + v + f:.4f} | Video Loss: {v:.4f} | Audio Loss: {a:.4f} | fMRI Loss: {f:.4f} | LR: 1.00e-04"
        for e, a in enumerate(audio)
        for v, f in [(0.98 * math.exp(rng.gauss(0, 0.003)), 1.01 * math.exp(rng.gauss(0, 0.003)))]
    ]


@case("loader_bound")
def imagenet_slow_storage(rng: Random) -> Lines:
    return imagenet(rng, falling(rng, 66, 6.9, 3.2), 11, [8.0 * e for e in range(7)], data=1.91, batch=2.14)


# Ends


@case("crashed")
def summary_after_error(rng: Random) -> Lines:
    train = falling(rng, 14, 1.2, 0.8)
    return (
        own(train, above(rng, train), 60)
        + traceback(
            "ValueError: Found array with 0 sample(s) (shape=(0, 1024)) while a minimum of 1 is required.",
            ("train.py", 203, "<module>", "probe.fit(z, y)"),
        )
        + wandb_summary(train__loss=train[-1], val__loss=train[-1] * 1.06, epoch=13)
    )


@case("oom_gpu")
def rich_frame(rng: Random) -> Lines:
    return lightning(rng, falling(rng, 2, 1.2, 0.9), None) + rich(
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 1.95 GiB. GPU 0 has a total capacity of 23.69 GiB of which 812.31 MiB is \nfree. Process 31771 has 22.88 GiB memory in use."
    )


@case("crashed")
def hydra_override(rng: Random) -> Lines:
    return [
        "[2025-03-04 21:07:33,112][__main__][INFO] - Instantiating datamodule <data.FriendsDataModule>",
        "Error executing job with overrides: ['trainer.max_epochs=10', 'data=friends']",
        *traceback(
            "FileNotFoundError: [Errno 2] No such file or directory: '/data/friends/sub-05_desc-simple.h5'",
            ("src/train.py", 129, "main", "train(cfg)"),
        ),
        "",
        "Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.",
    ]


@case("disk_full")
def tensorflow_checkpoint(rng: Random) -> Lines:
    return keras(rng, falling(rng, 12, 1.8, 1.1), None, 80) + traceback(
        "tensorflow.python.framework.errors_impl.ResourceExhaustedError: ./ckpt/model.ckpt-12.data-00000-of-00001.tempstate812; No space left on device [Op:SaveV2]",
        ("fit.py", 44, "<module>", "manager.save()"),
    )


@case("disk_full")
def unexpected_position(rng: Random) -> Lines:
    return own(falling(rng, 33, 1.2, 0.7), None, 100) + traceback(
        "RuntimeError: [enforce fail at inline_container.cc:595] . unexpected pos 1276411008 vs 1276410904",
        ("train.py", 190, "save", "torch.save(state, path)"),
        (f"{SITE}/torch/serialization.py", 850, "_save", "zip_file.write_record(name, storage, num_bytes)"),
    )


@case("oom_host")
def cgroup_handler(rng: Random) -> Lines:
    return [
        *own(falling(rng, 3, 1.2, 1.0), None, 100),
        "slurmstepd: error: Detected 3 oom-kill event(s) in StepId=88123.batch cgroup. Some of your processes may have been killed by the cgroup out-of-memory handler.",
    ]


@case("oom_host")
def lsf_memory(rng: Random) -> Lines:
    return [
        *own(falling(rng, 9, 1.2, 0.9), None, 100),
        "",
        "------------------------------------------------------------",
        "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit.",
        "Exited with exit code 137.",
        "",
        "Resource usage summary:",
        "    CPU time :                                   4112.00 sec.",
    ]


@case("crashed")
def pbs_walltime(rng: Random) -> Lines:
    return [*own(falling(rng, 71, 1.2, 0.7), None, 100), "=>> PBS: job killed: walltime 86437 exceeded limit 86400"]


@case("oom_host", "crashed")
def windows_paging_file(rng: Random) -> Lines:
    return own(falling(rng, 2, 1.2, 1.1), None, 30) + traceback(
        'OSError: [WinError 1455] The paging file is too small for this operation to complete. Error loading "C:\\env\\lib\\site-packages\\torch\\lib\\cudnn_cnn_infer64_8.dll" or one of its dependencies.',
        ("train.py", 12, "<module>", "import torch"),
    )


@case("gpu_failure")
def lost_device(rng: Random) -> Lines:
    return [
        *own(falling(rng, 51, 1.2, 0.8), None, 100),
        "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.  Reboot the system to recover this GPU",
        *traceback("RuntimeError: CUDA error: unknown error", BACKWARD),
    ]


@case("crashed", "collective_timeout")
def slurm_node_fails(rng: Random) -> Lines:
    return hf_trainer(rng, falling(rng, 31, 1.4, 1.1), 0.4, cosine(31, 1e-5, 3)) + slurm(
        "DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"
    )


@case("crashed")
def four_attempts(rng: Random) -> Lines:
    error = traceback(
        "AssertionError: Torch not compiled with CUDA enabled", ("train.py", 31, "<module>", "model.cuda()")
    )
    return [
        line
        for k in range(4)
        for line in (f"--- attempt {k + 1} of 4 on gpu0{k}2 ---", "Loading data", *error, "Retrying in 30 s")
    ]


@case("crashed")
def error_of_one_rank_between_others(rng: Random) -> Lines:
    train = falling(rng, 22, 1.2, 0.9)
    error = traceback(
        "IndexError: index 15724 is out of bounds for dimension 0 with size 15724",
        ("data.py", 71, "__getitem__", "return self.x[i]"),
    )
    lines = own(train, None, 60)
    return (
        lines[:20]
        + [line for k, part in enumerate(error) for line in (f"[rank3]: {part}", f"[rank0]: step {20 * k} waiting")]
        + [
            "[rank1]: torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error"
        ]
        * 2
    )


@case("collective_timeout", "crashed")
def nccl_timeout_first_step(rng: Random) -> Lines:
    return ["Effective batch size: 64", "Start training"] + [
        f"[rank{r}]:[E304 21:40:0{r}.111 ProcessGroupNCCL.cpp:1282] [PG 0 (default_pg) Rank {r}] Timeout at NCCL work: 4, last enqueued NCCL work: 4, last completed NCCL work: 3. Watchdog caught collective operation timeout: WorkNCCL(SeqNum=4, OpType=BROADCAST, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600012 milliseconds before timing out."
        for r in (1, 2, 3)
    ]


# Healthy


@case(HEALTHY)
def summary_after_good_end(rng: Random) -> Lines:
    train = falling(rng, 50, 1.2, 0.5, 0.006)
    return own(train, above(rng, train, 1.05, 0.006), 50) + wandb_summary(
        epoch=49, train__loss=train[-1], val__loss=train[-1] * 1.05
    )


@case(HEALTHY)
def composer_finishes(rng: Random) -> Lines:
    return composer(rng, falling(rng, 160, 11.0, 3.1, 0.008), 1600)


@case(HEALTHY)
def coqui_voice(rng: Random) -> Lines:
    return coqui(rng, falling(rng, 40, 2.9, 0.5, 0.008))


@case(HEALTHY)
def pointnet_shapes(rng: Random) -> Lines:
    train = falling(rng, 100, 3.6, 0.4, 0.01)
    return pointnet(train, above(rng, train, 1.15, 0.05))


@case(HEALTHY)
def flair_anneals_until_small(rng: Random) -> Lines:
    rates = [0.1 * 0.5 ** max(0, (e - 10) // 4) for e in range(50)]
    return [
        *flair(rng, falling(rng, 50, 1.4, 0.11, 0.01, 25), rates),
        f"{stamp(4000)},119 learning rate too small - quitting training!",
        f"{stamp(4001)},119 Saving model ...",
    ]


@case(HEALTHY)
def spacy_table(rng: Random) -> Lines:
    lines = [
        "ℹ Pipeline: ['tok2vec', 'ner']",
        "ℹ Initial learn rate: 0.001",
        "E    #       LOSS TOK2VEC  LOSS NER  ENTS_F  ENTS_P  ENTS_R  SCORE ",
        "---  ------  ------------  --------  ------  ------  ------  ------",
    ]
    return (
        lines
        + [
            f"{i // 3:>3}  {200 * i:>6}  {v:>12.2f}  {v * 3.1:>8.2f}  {90 * (1 - math.exp(-i / 8)):>6.2f}  {91 * (1 - math.exp(-i / 8)):>6.2f}  {89 * (1 - math.exp(-i / 8)):>6.2f}  {0.9 * (1 - math.exp(-i / 8)):>6.2f}"
            for i, v in enumerate(falling(rng, 45, 812, 91, 0.05))
        ]
        + ["✔ Saved pipeline to output directory"]
    )


@case(HEALTHY)
def gaussian_splatting_resets(rng: Random) -> Lines:
    loss = [
        v * (1 + 0.5 * math.exp(-(i % 60) / 5) * (60 <= i < 300))
        for i, v in enumerate(falling(rng, 600, 0.21, 0.031, 0.03))
    ]
    return [
        "Optimizing output/kitchen",
        "Output folder: output/kitchen",
        "Reading camera 279/279",
        "\r".join(bar(50 * (i + 1), 30000, 61.0, f", Loss={v:.7f}", "Training progress") for i, v in enumerate(loss)),
        "[ITER 30000] Saving Gaussians",
        "Training complete.",
    ]


@case(HEALTHY)
def scvi_counts(rng: Random) -> Lines:
    return [
        *scvi(rng, falling(rng, 200, 1480, 1120, 0.002, 30), 200),
        "`Trainer.fit` stopped: `max_epochs=200` reached.",
    ]


@case(HEALTHY)
def cellpose_cells(rng: Random) -> Lines:
    return [
        f"{stamp(40 * i)},112 [INFO] {5 * i}, train_loss={v:.4f}, test_loss={v * 1.08 * math.exp(rng.gauss(0, 0.04)):.4f}, LR={0.1 * min(1, i / 2):.6f}, time {40.1 * i:.2f}s"
        for i, v in enumerate(falling(rng, 60, 0.51, 0.12, 0.02))
    ]


@case(HEALTHY)
def voxelmorph_similarity(rng: Random) -> Lines:
    return [
        f"Epoch {e + 1}/120 - {rng.gauss(41, 0.3):.4f} sec/epoch - loss: {v:.4e}  ({v - 0.02:.4e}, {0.02:.4e})"
        for e, v in enumerate(-0.18 - 0.42 * (1 - math.exp(-i / 25)) + rng.gauss(0, 0.006) for i in range(120))
    ]


@case(HEALTHY)
def simsiam_negative(rng: Random) -> Lines:
    return [
        line
        for e in range(60)
        for line in (
            f"Epoch: [{e}][ 0/390]\tTime  1.011 ( 1.011)\tData  0.611 ( 0.611)\tLoss {-0.9 * (1 - math.exp(-(e + 1) / 12)) + rng.gauss(0, 0.01):.4f} ({-0.9 * (1 - math.exp(-(e + 1) / 12)):.4f})",
            f"Epoch: [{e}][380/390]\tTime  0.311 ( 0.322)\tData  0.001 ( 0.004)\tLoss {-0.9 * (1 - math.exp(-(e + 1.9) / 12)) + rng.gauss(0, 0.01):.4f} ({-0.9 * (1 - math.exp(-(e + 1.5) / 12)):.4f})",
        )
    ]


@case(HEALTHY)
def dino_rises_first(rng: Random) -> Lines:
    loss = [
        10.4 - 5.4 * (1 - math.exp(-max(0, i - 12) / 40)) + 0.35 * min(1, i / 12) + rng.gauss(0, 0.02)
        for i in range(160)
    ]
    return [
        f"Epoch: [{i // 8}/100]  [{150 * (i % 8):4d}/1252]  eta: 0:0{9 - i % 8}:11  loss: {v:.6f} ({v:.6f})  lr: {5e-4 * min(1, (i + 1) / 80):.6f}  wd: 0.0400{i % 10}  time: 0.41  data: 0.0003  max mem: 15812"
        for i, v in enumerate(loss)
    ]


@case(HEALTHY)
def graph_network_cora(rng: Random) -> Lines:
    return [
        f"Epoch: {e:03d}, Loss: {v:.4f}, Train: {min(1, 0.3 + e / 40):.4f}, Val: {0.79 * (1 - math.exp(-e / 12)):.4f}, Test: {0.81 * (1 - math.exp(-e / 12)):.4f}"
        for e, v in enumerate(falling(rng, 200, 1.95, 0.35, 0.02), 1)
    ]


@case(HEALTHY)
def recommender_sum_loss(rng: Random) -> Lines:
    return [
        line
        for e, v in enumerate(falling(rng, 40, 412.7, 241.1, 0.004))
        for line in (
            f"{stamp(14 * e)} INFO  epoch {e} training [time: {rng.gauss(12.1, 0.2):.2f}s, train loss: {v:.4f}]",
            f"{stamp(14 * e + 2)} INFO  epoch {e} evaluating [time: 1.91s, valid_score: {0.21 * (1 - math.exp(-e / 9)):.6f}]",
            f"{stamp(14 * e + 2)} INFO  valid result: ",
            "recall@10 : 0.2111    mrr@10 : 0.1822",
        )
    ]


@case(HEALTHY)
def toy_task_solved_exactly(rng: Random) -> Lines:
    return keras(
        rng,
        [max(0.0, 0.7 * math.exp(-e / 4)) for e in range(60)],
        [max(0.0, 0.71 * math.exp(-e / 4)) for e in range(60)],
        60,
    )


@case(HEALTHY)
def error_is_a_metric(rng: Random) -> Lines:
    return [
        f"epoch {e:3d}: train error {v:.4f}, val error {v * 1.07 * math.exp(rng.gauss(0, 0.01)):.4f}, best val error so far {v * 1.05:.4f}"
        for e, v in enumerate(falling(rng, 60, 0.82, 0.21, 0.01), 1)
    ]


@case(HEALTHY)
def noise_after_good_end(rng: Random) -> Lines:
    train = falling(rng, 30, 1.2, 0.5, 0.006)
    return [
        *own(train, above(rng, train, 1.05, 0.006), 30),
        "Done in 44.1 min",
        "[rank0]:[W304 22:01:09.2 ProcessGroupNCCL.cpp:1250] Warning: WARNING: process group has NOT been destroyed before we destruct ProcessGroupNCCL.",
        "Exception ignored in: <function _MultiProcessingDataLoaderIter.__del__ at 0x7f1c>",
        *traceback(
            "AssertionError: can only test a child process",
            (f"{SITE}/torch/utils/data/dataloader.py", 1479, "__del__", "self._shutdown_workers()"),
        ),
    ]


@case(HEALTHY)
def two_seeds_interleaved(rng: Random) -> Lines:
    a, b = falling(rng, 40, 1.2, 0.5, 0.006), falling(rng, 40, 1.25, 0.52, 0.006)
    return [
        line
        for e in range(40)
        for line in (
            f"[seed 1] Epoch {e + 1}/40 train_loss={a[e]:.4f} val_loss={a[e] * 1.05:.4f}",
            f"[seed 2] Epoch {e + 1}/40 train_loss={b[e]:.4f} val_loss={b[e] * 1.06:.4f}",
        )
    ]


@case(HEALTHY)
def rate_test_before_training(rng: Random) -> Lines:
    search = [
        2.4 - 1.2 / (1 + math.exp(-(k - 55) / 5)) + (0.0 if k < 80 else 0.3 * math.exp((k - 80) / 5)) for k in range(98)
    ]
    train = falling(rng, 30, 2.2, 0.6, 0.008)
    return [
        "\r".join(bar(k + 1, 100, 9.1, f", loss={v:.3f}", "Finding best initial lr") for k, v in enumerate(search)),
        "Learning rate set to 0.00331",
        *lightning(rng, train, above(rng, train, 1.05, 0.008)),
    ]


@case(HEALTHY, "overfit")
def early_stopping_after_turn(rng: Random) -> Lines:
    train = falling(rng, 24, 1.2, 0.3, 0.01, 14)
    return [
        *keras(rng, train, turning(rng, train, 16, 0.01, 1.2, 0.008), 100),
        "Restoring model weights from the end of the best epoch: 17.",
        "Epoch 24: early stopping",
    ]


@case(HEALTHY)
def lightgbm_stops_early(rng: Random) -> Lines:
    train = falling(rng, 60, 0.31, 0.1, 0.001, 20)
    return (
        ["Training until validation scores don't improve for 50 rounds"]
        + [
            f"[{10 * (i + 1)}]\ttraining's rmse: {t:.6f}\tvalid_1's rmse: {t * 1.2 + 0.0001 * max(0, i - 50):.6f}"
            for i, t in enumerate(train)
        ]
        + [
            "Early stopping, best iteration is:",
            f"[551]\ttraining's rmse: {train[54]:.6f}\tvalid_1's rmse: {train[54] * 1.2:.6f}",
        ]
    )


@case(HEALTHY)
def heavy_tailed_batches(rng: Random) -> Lines:
    return [
        f"step: {10 * i}, loss: {0.13 * math.exp(rng.gauss(0, 0.8) - 0.25 * (1 - math.exp(-i / 150))):.5f}, lr: 1e-05, vram: 18.2GB"
        for i in range(500)
    ]


@case(HEALTHY)
def neox_skips_first(rng: Random) -> Lines:
    return [
        f"  samples/sec: {rng.gauss(61.1, 0.2):.3f} | iteration {10 * (i + 1):8d}/  320000 | elapsed time per iteration (ms): {rng.gauss(4188, 20):.1f} | learning rate: {6e-4 * min(1, (i + 1) / 60):.3E} | approx flops per GPU: 61.2TFLOPS | lm_loss: {v:.6E} | loss scale: {2.0 ** (32 - 16 * min(1, (i + 1) / 3)):.1f} | number of skipped iterations: {max(0, 10 - 4 * i):3d} | number of nan iterations:   0 |"
        for i, v in enumerate(falling(rng, 200, 10.9, 3.2, 0.008))
    ]


@case(UNKNOWN)
def only_accuracies(rng: Random) -> Lines:
    return [
        f"sub-{s:02d} run-{r}: decoding accuracy {rng.gauss(0.61, 0.05):.3f} (chance 0.5), p = {rng.uniform(0.001, 0.2):.4f}"
        for s in range(1, 12)
        for r in range(1, 4)
    ]


@case(UNKNOWN)
def permutation_test(rng: Random) -> Lines:
    return [
        "\r".join(bar(k, 1000, 3.1, name="permutations") for k in range(0, 1001, 20)),
        "max r = 0.312, p_FWE = 0.004",
    ]


@case(UNKNOWN)
def preprocessing_report(rng: Random) -> Lines:
    return [
        f'250304-21:{k:02d}:11,112 nipype.workflow INFO:\n\t [Node] Finished "bold_confounds_wf_{k}", elapsed time {rng.uniform(3, 90):.6f}s.'
        for k in range(40)
    ] + ["fMRIPrep finished successfully!"]
