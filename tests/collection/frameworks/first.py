"""First batch of logs that imitate public reports of trainings."""

from __future__ import annotations

import math
from random import Random

from tests.collection.frameworks.case import HEALTHY, UNKNOWN, Batch, Lines
from tests.collection.frameworks.curves import (
    BACKWARD,
    SITE,
    above,
    bar,
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
from tests.collection.frameworks.layouts import (
    deepspeed,
    detectron2,
    espnet,
    fairseq,
    fastai,
    french,
    gan,
    german,
    hf_trainer,
    keras,
    kohya,
    lightning,
    mae_json,
    megatron,
    mindeye,
    mmdet,
    mmengine,
    monai,
    nanogpt,
    nnunet,
    open_clip,
    opennmt,
    own,
    speechbrain,
    stable_baselines,
    timm,
    vae,
    yolov5,
)

FIRST = Batch()
case = FIRST.case


# Losses that stop being finite


@case("nan")
def nanogpt_float16(rng: Random) -> Lines:
    return nanogpt(rng, nan_from(falling(rng, 420, 10.9, 3.6, 0.01), 301))


@case("nan")
def mmengine_components(rng: Random) -> Lines:
    parts = {
        name: nan_from(falling(rng, 90, start, start / 3), 41)
        for name, start in (("loss_rpn_cls", 0.52), ("loss_rpn_bbox", 0.09), ("loss_cls", 1.1), ("loss_bbox", 0.31))
    }
    return mmengine(rng, parts, 30, stepped(90, 2e-2))


@case("nan", "diverging")
def fairseq_minimum_scale(rng: Random) -> Lines:
    train = falling(rng, 14, 11.2, 4.4)
    lines = fairseq(rng, train, above(rng, train))
    scales = [2.0**-k for k in range(-3, 14)]
    lines += [
        f"{stamp(4900 + k)} | INFO | fairseq.trainer | NOTE: gradient overflow detected, ignoring gradient, setting loss scale to: {s}"
        for k, s in enumerate(scales)
    ]
    return lines + traceback(
        "FloatingPointError: Minimum loss scale reached (0.0001). Your loss is probably exploding. Try lowering the learning rate, using gradient clipping or increasing the batch size.",
        (
            f"{SITE}/fairseq/trainer.py",
            867,
            "train_step",
            "grad_norm = self.clip_grad_norm(self.cfg.optimization.clip_norm)",
        ),
        (f"{SITE}/fairseq/optim/dynamic_loss_scaler.py", 61, "check_overflow", "raise FloatingPointError("),
    )


@case("nan", "diverging")
def detectron2_infinite(rng: Random) -> Lines:
    loss = growing_from(falling(rng, 52, 2.4, 1.6, 0.03), 46, 2.7)
    lines = detectron2(rng, loss, cosine(52, 0.02, 50))
    return (
        lines
        + ["[03/04 21:11:59 d2.engine.train_loop]: Exception during training:"]
        + traceback(
            "FloatingPointError: Loss became infinite or NaN at iteration=1043!\nloss_dict = {'loss_cls': nan, 'loss_box_reg': nan, 'loss_rpn_cls': 4129.5, 'loss_rpn_loc': inf}",
            ("detectron2/engine/train_loop.py", 155, "train", "self.run_step()"),
            ("detectron2/engine/train_loop.py", 509, "_write_metrics", "raise FloatingPointError("),
        )
    )


@case("nan")
def yolov5_half_precision(rng: Random) -> Lines:
    box, obj, cls = (nan_from(falling(rng, 20, s, s / 2), 2) for s in (0.11, 0.034, 0.05))
    return yolov5(rng, box, obj, cls, [0.02, 0.04] + [0.0] * 18, 100)


@case("nan")
def megatron_loss_not_printed(rng: Random) -> Lines:
    n = 300
    return megatron(
        rng, falling(rng, n, 10.8, 2.9, 0.008), falling(rng, n, 9, 0.5, 0.1), 8000, cosine(n, 3e-4, 40), lost=255
    )


@case("nan")
def kohya_bar(rng: Random) -> Lines:
    return kohya(rng, nan_from(falling(rng, 900, 0.14, 0.092, 0.01), 388), 4000)


@case("nan")
def hf_zero_loss(rng: Random) -> Lines:
    loss = falling(rng, 160, 2.31, 1.02, 0.03)[:61] + [0.0] * 99
    norm = falling(rng, 160, 3.1, 0.9, 0.1)[:61] + [math.nan] * 99
    return hf_trainer(rng, loss, 3, cosine(160, 2e-4, 8), norm)


@case("nan")
def deepspeed_scale_exhausted(rng: Random) -> Lines:
    loss = [round(v, 4) for v in falling(rng, 70, 6.1, 3.3)]
    loss += [math.nan] * 3
    notes = {
        70: [
            f"[{stamp(900 + k)},114] [INFO] [loss_scaler.py:190:update_scale] [deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: {2 ** (16 - k)}, reducing to {max(1, 2 ** (15 - k))}"
            for k in range(17)
        ]
    }
    return deepspeed(rng, loss, notes) + traceback(
        "Exception: Current loss scale already at minimum - cannot decrease scale anymore. Exiting run.",
        (f"{SITE}/deepspeed/runtime/fp16/loss_scaler.py", 178, "update_scale", "raise Exception("),
    )


@case("nan")
def espnet_skipped_updates(rng: Random) -> Lines:
    loss = falling(rng, 12, 140, 60)[:5] + [math.nan] * 7
    return espnet(
        rng,
        loss,
        [v * 0.96 for v in loss],
        50,
        lambda e: ["The grad norm is nan. Skipping updating the model."] * (9 if e > 4 else 0),
    )


@case("nan")
def mae_stops(rng: Random) -> Lines:
    loss = falling(rng, 40, 0.98, 0.46)
    lines = []
    for i, v in enumerate(loss):
        e, k = divmod(i, 8)
        lines.append(
            f"Epoch: [{e}]  [{20 * k:4d}/156]  eta: 0:01:{40 - k}  lr: {1.5e-4 * min(1, (i + 1) / 20):.6f}  loss: {v:.4f} ({v * 1.01:.4f})  time: 0.6{k}12  data: 0.0004  max mem: 11233"
        )
    return [*lines, "Loss is nan, stopping training"]


@case("nan")
def keras_regression(rng: Random) -> Lines:
    return keras(rng, nan_from(falling(rng, 30, 1.4, 0.5), 13), nan_from(falling(rng, 30, 1.5, 0.6), 12), 60)


# Losses that rise, stay, or leave validation behind


@case("diverging")
def nanogpt_diverges(rng: Random) -> Lines:
    return nanogpt(rng, growing_from(falling(rng, 400, 10.9, 3.3, 0.008), 290, 1.02, 7.6), step=100)


@case("diverging")
def opennmt_collapse(rng: Random) -> Lines:
    xent = falling(rng, 160, 9.2, 2.1, 0.015)
    xent[110:] = [min(9.8, 2.4 + 0.6 * k) * math.exp(rng.gauss(0, 0.02)) for k in range(50)]
    return opennmt(rng, xent)


@case("diverging")
def megatron_blows_up(rng: Random) -> Lines:
    n = 260
    return megatron(
        rng,
        growing_from(falling(rng, n, 10.9, 2.6, 0.006), 190, 1.03, 9.4),
        growing_from(steady(rng, n, 0.6, 0.2), 185, 1.09, 90),
        20000,
        cosine(n, 1.2e-3, 30),
    )


@case("overfit")
def nanogpt_shakespeare(rng: Random) -> Lines:
    train = falling(rng, 500, 4.2, 0.3, 0.015, 20)
    return nanogpt(rng, train, 25, turning(rng, train, 150, 0.002, 1.25), 10)


@case("overfit")
def nnunet_few_cases(rng: Random) -> Lines:
    n = 140
    train = [0.02 - 0.93 * (1 - math.exp(-e / 22)) + rng.gauss(0, 0.006) for e in range(n)]
    valid = [0.0 - 0.62 * (1 - math.exp(-e / 12)) + 0.0045 * max(0, e - 35) + rng.gauss(0, 0.012) for e in range(n)]
    return nnunet(rng, train, valid, [max(0.0, 0.8 - v * 0.0 - 0.2 * math.exp(-e / 9)) for e, v in enumerate(valid)])


@case("overfit")
def fastai_table(rng: Random) -> Lines:
    train = falling(rng, 30, 1.9, 0.02, 0.02, 25)
    return fastai(rng, train, turning(rng, train, 8, 0.045, 1.3))


@case("overfit")
def keras_validation_rises(rng: Random) -> Lines:
    train = falling(rng, 50, 2.1, 0.05, 0.02, 20)
    return keras(rng, train, turning(rng, train, 14, 0.05, 1.2), 50)


@case("overfit")
def speechbrain_small_corpus(rng: Random) -> Lines:
    train = falling(rng, 40, 4.8, 0.05, 0.02, 25)
    valid = turning(rng, train, 12, 0.03, 1.5)
    return speechbrain(train, valid, stepped(40, 1e-4), [min(99, 18 * v) for v in valid])


@case("flat")
def open_clip_batch_entropy(rng: Random) -> Lines:
    return open_clip(rng, steady(rng, 120, math.log(256), 0.0012), cosine(120, 5e-4, 12))


@case("flat")
def german_script(rng: Random) -> Lines:
    return german(steady(rng, 40, 0.9971, 0.002), steady(rng, 40, 1.0034, 0.002), 40)


@case("flat", "lr_off_plan", "frozen_parameters")
def hf_rate_zero(rng: Random) -> Lines:
    return hf_trainer(rng, steady(rng, 120, 2.214, 0.012), 2, [0.0] * 120, steady(rng, 120, 4.1, 0.2))


@case("flat", "diverging", "plateau")
def keras_chance(rng: Random) -> Lines:
    return keras(
        rng, [14.31, *steady(rng, 24, math.log(10), 0.0004)], [2.31, *steady(rng, 24, math.log(10), 0.0002)], 25
    )


@case("leak")
def own_split_overlaps(rng: Random) -> Lines:
    train = falling(rng, 60, 1.02, 0.31, 0.008)
    return own(train, list(train), 60, cosine(60, 1e-3))


@case("plateau", "flat")
def own_stops_learning(rng: Random) -> Lines:
    train = falling(rng, 80, 2.3, 0.3, 0.006, 3)[:22]
    level = train[-1]
    train += steady(rng, 58, level, 0.004)
    return own(train, above(rng, train, 1.04, 0.004), 80, [1e-3] * 80)


# Slow steps


@case("loader_bound")
def timm_waits_for_data(rng: Random) -> Lines:
    return timm(
        rng,
        falling(rng, 60, 6.9, 4.1),
        cosine(60, 1e-3, 12),
        data=1.31,
        batch=1.52,
        accuracy=[3.0 + 4 * e for e in range(10)],
    )


# Ends


@case("disk_full")
def mmengine_checkpoint(rng: Random) -> Lines:
    parts = {
        name: falling(rng, 60, start, start / 3)
        for name, start in (("loss_rpn_cls", 0.4), ("loss_cls", 0.9), ("loss_bbox", 0.4))
    }
    return mmengine(rng, parts, 20, stepped(60, 2e-2), [0.11, 0.19, 0.24]) + traceback(
        "OSError: [Errno 28] No space left on device",
        (f"{SITE}/mmengine/runner/checkpoint.py", 772, "save_checkpoint", "file_backend.put(f.getvalue(), filename)"),
        (f"{SITE}/mmengine/fileio/backends/local_backend.py", 106, "put", "f.write(obj)"),
    )


@case("oom_host", "crashed")
def mmdet_worker_killed(rng: Random) -> Lines:
    lines = mmdet(rng, falling(rng, 44, 2.1, 0.9), 12, stepped(44, 1e-2), steady(rng, 44, 5.1, 0.2))
    return lines + traceback(
        "RuntimeError: DataLoader worker (pid 28117) is killed by signal: Killed. ",
        ("tools/train.py", 188, "<module>", "main()"),
        (f"{SITE}/torch/utils/data/_utils/signal_handling.py", 66, "handler", "_error_if_any_worker_fails()"),
    )


@case("oom_gpu")
def keras_exhausted(rng: Random) -> Lines:
    lines = keras(rng, falling(rng, 3, 1.9, 1.2), falling(rng, 3, 1.8, 1.2), 50)
    return (
        lines
        + [
            "Epoch 4/50",
            "2025-03-04 21:15:01.114: W tensorflow/core/common_runtime/bfc_allocator.cc:479] Allocator (GPU_0_bfc) ran out of memory trying to allocate 2.12GiB (rounded to 2281701376)requested by op model/conv2d_3/Conv2D",
        ]
        + traceback(
            "tensorflow.python.framework.errors_impl.ResourceExhaustedError: Graph execution error:\n\nOOM when allocating tensor with shape[64,256,128,128] and type float on /job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc\n\t [[{{node model/conv2d_3/Conv2D}}]]",
            ("fit.py", 88, "<module>", "model.fit(ds, epochs=50)"),
        )
    )


@case("shared_memory")
def monai_bus_error(rng: Random) -> Lines:
    return (
        monai(rng, falling(rng, 4, 0.71, 0.5), [0.1, 0.2, 0.3, 0.35], 100)
        + [
            "-" * 10,
            "epoch 5/100",
            "1/10, train_loss: 0.5311",
            "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).",
        ]
        + traceback(
            "RuntimeError: DataLoader worker (pid(s) 1431) exited unexpectedly",
            ("train.py", 71, "<module>", "for batch_data in train_loader:"),
        )
    )


@case("collective_timeout")
def axolotl_allreduce(rng: Random) -> Lines:
    lines = hf_trainer(rng, falling(rng, 41, 1.4, 1.0), 0.6, cosine(41, 2e-5, 10), steady(rng, 41, 1.2, 0.2))
    lines += [
        f"[rank{r}]:[E304 23:12:0{r}.118 ProcessGroupNCCL.cpp:616] [Rank {r}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=83112, OpType=_ALLGATHER_BASE, NumelIn=8388608, NumelOut=33554432, Timeout(ms)=1800000) ran for 1800{r}11 milliseconds before timing out."
        for r in (0, 1, 3)
    ]
    lines += [
        "[rank0]:[E304 23:12:04.771 ProcessGroupNCCL.cpp:630] To avoid data inconsistency, we are taking the entire process down.",
        "terminate called after throwing an instance of 'c10::DistBackendError'",
    ]
    return lines + torchrun_failure("axolotl.cli.train", 0, -6, "SIGABRT")


@case("oom_host")
def slurm_oom_kill(rng: Random) -> Lines:
    return lightning(rng, falling(rng, 6, 0.9, 0.5), falling(rng, 6, 0.95, 0.6)) + [
        "slurmstepd: error: Detected 1 oom_kill event in StepId=4128817.0. Some of the step tasks have been OOM Killed.",
        "srun: error: gpu014: task 0: Out Of Memory",
    ]


@case("gpu_failure")
def timm_ecc(rng: Random) -> Lines:
    return timm(rng, falling(rng, 25, 6.9, 5.1), cosine(25, 1e-3, 12)) + traceback(
        "RuntimeError: CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1.",
        ("train.py", 1014, "train_one_epoch", "loss = loss_fn(output, target)"),
    )


@case("tiny_batch_norm", "crashed")
def own_last_batch(rng: Random) -> Lines:
    lines = [bar(k, 113, 9.1, f", loss={v:.3f}", "train") for k, v in enumerate(falling(rng, 113, 2.4, 2.0), 1)]
    return lines + traceback(
        "ValueError: Expected more than 1 value per channel when training, got input size torch.Size([1, 512, 1, 1])",
        ("main.py", 131, "train", "out = net(x)"),
        (f"{SITE}/torch/nn/functional.py", 2480, "_verify_batch_size", "raise ValueError("),
    )


@case("crashed")
def lightning_device_assert(rng: Random) -> Lines:
    lines = lightning(rng, falling(rng, 2, 3.1, 2.2), None)
    lines += [
        f"../aten/src/ATen/native/cuda/Loss.cu:250: nll_loss_forward_reduce_cuda_kernel_2d: block: [0,0,0], thread: [{k},0,0] Assertion `t >= 0 && t < n_classes` failed."
        for k in range(12)
    ]
    return lines + traceback(
        "RuntimeError: CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported at some other API call.",
        BACKWARD,
    )


@case("crashed")
def config_key_error(rng: Random) -> Lines:
    return (
        [
            "Loading configs/encoder_sub-03.yaml",
            "Using seed 1234",
            "wandb: Tracking run with wandb version 0.16.3",
            "wandb: Run data is saved locally in /scratch/enc/wandb/run-20250304_210733-1kf2",
        ]
        + traceback(
            "KeyError: 'num_voxels'",
            ("train_encoder.py", 303, "<module>", "main(cfg)"),
            ("train_encoder.py", 120, "main", 'model = Encoder(cfg["model"]["num_voxels"])'),
        )
        + [
            "wandb: You can sync this run to the cloud by running:",
            "wandb: wandb sync /scratch/enc/wandb/run-20250304_210733-1kf2",
        ]
    )


@case("crashed")
def slurm_time_limit(rng: Random) -> Lines:
    lines = own(falling(rng, 61, 1.1, 0.6), falling(rng, 61, 1.15, 0.7), 200)
    return lines + slurm("DUE TO TIME LIMIT", after_s=61 * 90.0)


@case("oom_host", "crashed")
def nnunet_workers_dead(rng: Random) -> Lines:
    n = 31
    lines = nnunet(
        rng,
        [-0.1 - 0.02 * e for e in range(n)],
        [-0.08 - 0.018 * e for e in range(n)],
        [0.2 + 0.018 * e for e in range(n)],
    )
    return (
        lines
        + ["Exception in thread Thread-4 (results_loop):"]
        + traceback(
            "RuntimeError: One or more background workers are no longer alive. Exiting. Please check the print statements above for the actual error message",
            (
                f"{SITE}/batchgenerators/dataloading/nondet_multi_threaded_augmenter.py",
                103,
                "results_loop",
                "raise RuntimeError(",
            ),
        )
    )


# Healthy


@case(HEALTHY)
def nanogpt_bfloat16(rng: Random) -> Lines:
    return nanogpt(rng, falling(rng, 900, 10.98, 3.05, 0.008), 50, step=100)


@case(HEALTHY)
def mmengine_two_drops(rng: Random) -> Lines:
    parts = {}
    for name, start in (("loss_rpn_cls", 0.41), ("loss_rpn_bbox", 0.11), ("loss_cls", 0.92), ("loss_bbox", 0.34)):
        curve = falling(rng, 240, start, start * 0.42, 0.03)
        parts[name] = [v * (1, 0.82, 0.78)[(i >= 160) + (i >= 220)] for i, v in enumerate(curve)]
    return mmengine(
        rng, parts, 20, stepped(240, 2e-2, 160, 220), [0.37 * (1 - math.exp(-(e + 1) / 4)) for e in range(12)]
    )


@case(HEALTHY)
def fairseq_overflows(rng: Random) -> Lines:
    train = falling(rng, 25, 11.4, 4.6, 0.004)
    notes = {
        u: [f"NOTE: gradient overflow detected, ignoring gradient, setting loss scale to: {s}"]
        for u, s in ((100, 64.0), (200, 32.0), (1800, 32.0), (7300, 16.0), (15200, 16.0))
    }
    lines = fairseq(rng, train, above(rng, train, 1.03, 0.004), notes=notes)
    return [*lines, f"{stamp(9000)} | INFO | fairseq_cli.train | done training in 8993.2 seconds"]


@case(HEALTHY)
def detectron2_warmup(rng: Random) -> Lines:
    return [
        *detectron2(rng, falling(rng, 400, 3.3, 0.8, 0.05), cosine(400, 0.02, 50)),
        "[03/05 02:31:20 d2.engine.hooks]: Overall training speed: 7997 iterations in 0:30:37 (0.2297 s / it)",
        "[03/05 02:31:20 d2.engine.hooks]: Total training time: 0:31:02 (0:00:24 on hooks)",
    ]


@case(HEALTHY)
def nnunet_full(rng: Random) -> Lines:
    n = 300
    train = [0.04 - 0.88 * (1 - math.exp(-e / 40)) + rng.gauss(0, 0.012) for e in range(n)]
    return [
        *nnunet(
            rng,
            train,
            [t * 0.93 + rng.gauss(0, 0.02) for t in train],
            [0.86 * (1 - math.exp(-e / 25)) for e in range(n)],
            300,
        ),
        f"{stamp(20000)}.118842: Training done.",
    ]


@case(HEALTHY)
def megatron_spikes(rng: Random) -> Lines:
    n = 400
    loss, norm = falling(rng, n, 10.9, 2.4, 0.006), steady(rng, n, 0.4, 0.2)
    for at in (120, 233, 310):
        for k in range(6):
            loss[at + k] *= 1 + 0.5 * 0.5**k
            norm[at + k] *= 20 * 0.4**k + 1
    return megatron(rng, loss, norm, 4000, cosine(n, 3e-4, 40), skipped=(3, 120))


@case(HEALTHY, UNKNOWN)
def kohya_noisy_lora(rng: Random) -> Lines:
    return [
        *kohya(rng, falling(rng, 1600, 0.121, 0.097, 0.006, 30), 1600),
        "",
        "saving checkpoint: ./out/character.safetensors",
        "model saved.",
    ]


@case(HEALTHY, UNKNOWN)
def ppo_noisy_reward(rng: Random) -> Lines:
    n = 150
    reward = [-180 + 420 * (1 - math.exp(-i / 50)) + rng.gauss(0, 45) for i in range(n)]
    return stable_baselines(
        rng, reward, [abs(rng.gauss(20, 15)) for _ in range(n)], [abs(rng.gauss(60, 40)) + 0.5 * i for i in range(n)]
    )


@case(HEALTHY)
def espnet_first_epochs(rng: Random) -> Lines:
    loss = falling(rng, 24, 190, 22, 0.006)
    return espnet(
        rng,
        loss,
        [v * 0.94 for v in loss],
        50,
        lambda e: ["The grad norm is nan. Skipping updating the model."] if e == 0 else [],
    )


@case(HEALTHY)
def speechbrain_annealing(rng: Random) -> Lines:
    train = falling(rng, 30, 5.1, 0.6, 0.008, 20)
    return [
        *speechbrain(train, [v * 1.05 for v in train], stepped(30, 0.001, 18, 24), [min(99, 14 * v) for v in train]),
        "Epoch loaded: 30 - test loss: 6.71e-01, test CER: 3.12, test WER: 8.94",
    ]


@case(HEALTHY)
def mae_pretraining(rng: Random) -> Lines:
    return mae_json(rng, falling(rng, 400, 0.93, 0.41, 0.0012, 30), cosine(400, 1.5e-4, 40))


@case(HEALTHY)
def timm_mixup(rng: Random) -> Lines:
    return timm(
        rng,
        falling(rng, 600, 6.95, 2.9, 0.02),
        cosine(600, 1e-3, 30),
        accuracy=[76 * (1 - math.exp(-e / 25)) for e in range(100)],
    )


@case(HEALTHY)
def lightning_early_stop(rng: Random) -> Lines:
    train = falling(rng, 34, 1.1, 0.52, 0.004, 20)
    valid = [max(v, 0.61) * math.exp(rng.gauss(0, 0.004)) for v in above(rng, train, 1.06, 0.004)]
    return [
        *lightning(rng, train, valid),
        "Monitored metric val_loss did not improve in the last 10 records. Best score: 0.606. Signaling Trainer to stop.",
    ]


@case(HEALTHY)
def french_script(rng: Random) -> Lines:
    train = falling(rng, 60, 1.01, 0.62, 0.003)
    return french(train, above(rng, train, 1.05, 0.005), 60)


@case(HEALTHY)
def own_warm_restarts(rng: Random) -> Lines:
    rates = [v for _ in range(4) for v in cosine(25, 1e-3)]
    train = [
        v * (1 + 0.22 * math.exp(-(i % 25) / 3) * (i >= 25)) for i, v in enumerate(falling(rng, 100, 1.2, 0.42, 0.006))
    ]
    return own(train, above(rng, train, 1.05, 0.008), 100, rates)


@case(HEALTHY, clear_from=0.6)
def own_double_descent(rng: Random) -> Lines:
    train = falling(rng, 300, 2.2, 0.02, 0.02, 25)
    valid = [
        0.9
        + 1.3 * math.exp(-i / 12)
        + 0.75 * math.exp(-(((i - 90) / 32) ** 2))
        - 0.42 * (1 - math.exp(-max(0, i - 90) / 70))
        + rng.gauss(0, 0.01)
        for i in range(300)
    ]
    return own(train, valid, 300)


@case(HEALTHY)
def mindeye_retrieval(rng: Random) -> Lines:
    train = falling(rng, 150, 9.8, 2.1, 0.01)
    return mindeye(rng, train, above(rng, train, 1.25, 0.01))


@case(HEALTHY, UNKNOWN)
def gan_balanced(rng: Random) -> Lines:
    return gan(rng, [abs(rng.gauss(0.7, 0.25)) for _ in range(250)], [abs(rng.gauss(2.6, 0.9)) for _ in range(250)], 25)


@case(HEALTHY)
def vae_annealed(rng: Random) -> Lines:
    recon = falling(rng, 60, 181, 82, 0.003, 20)
    return vae(recon, [24 * (1 - math.exp(-e / 9)) + rng.gauss(0, 0.1) for e in range(60)], 60)


@case(UNKNOWN)
def installation_only(rng: Random) -> Lines:
    return [
        line
        for k in range(18)
        for line in (
            f"Collecting package-{k}>=1.{k}",
            f"  Downloading package_{k}-1.{k}.0-py3-none-any.whl ({rng.randrange(20, 900)} kB)",
        )
    ] + ["Successfully installed package-0-1.0.0", "sbatch: Submitted batch job 4128817"]


@case(HEALTHY, UNKNOWN)
def evaluation_only(rng: Random) -> Lines:
    return (
        ["Loading checkpoint ./ckpt/epoch_20.pth"]
        + [
            f"Test: [{k}/391]  Time 0.0{rng.randrange(10, 99)}  Acc@1 {rng.gauss(75, 3):.2f} ({rng.gauss(75, 0.4):.2f})"
            for k in range(0, 391, 10)
        ]
        + [" * Acc@1 75.112 Acc@5 92.411"]
    )


@case(HEALTHY)
def keras_classifier(rng: Random) -> Lines:
    train = falling(rng, 40, 2.1, 0.35, 0.006)
    return keras(rng, train, above(rng, train, 1.08, 0.025), 40)


@case(HEALTHY)
def yolov5_cells(rng: Random) -> Lines:
    box, obj, cls = (falling(rng, 50, s, s / 4, 0.015) for s in (0.11, 0.041, 0.03))
    return [
        *yolov5(rng, box, obj, cls, [0.83 * (1 - math.exp(-e / 9)) for e in range(50)]),
        "50 epochs completed in 0.412 hours.",
        "Optimizer stripped from runs/train/exp21/weights/best.pt, 14.4MB",
    ]


@case(HEALTHY)
def opennmt_transformer(rng: Random) -> Lines:
    return opennmt(rng, falling(rng, 400, 9.4, 1.9, 0.015))


@case(HEALTHY)
def hf_instruction_tuning(rng: Random) -> Lines:
    loss = falling(rng, 200, 1.42, 0.98, 0.045, 40)
    valid = [1.08 - 0.07 * (1 - math.exp(-i / 60)) + rng.gauss(0, 0.001) for i in range(200)]
    lines = hf_trainer(rng, loss, 1, cosine(200, 2e-5, 6), steady(rng, 200, 0.9, 0.2), valid)
    return [
        *lines,
        "{'train_runtime': 7121.3312, 'train_samples_per_second': 4.11, 'train_steps_per_second': 0.281, 'train_loss': 1.0411, 'epoch': 1.0}",
    ]


@case(HEALTHY)
def monai_spleen(rng: Random) -> Lines:
    n = 60
    return [
        *monai(
            rng,
            falling(rng, n, 0.66, 0.11, 0.02),
            [0.92 * (1 - math.exp(-e / 11)) + rng.gauss(0, 0.012) for e in range(n)],
            n,
        ),
        "train completed, best_metric: 0.9184 at epoch: 58",
    ]


@case(HEALTHY)
def open_clip_small(rng: Random) -> Lines:
    return open_clip(rng, falling(rng, 240, 5.54, 0.9, 0.03), cosine(240, 5e-4, 12))


@case(HEALTHY)
def deepspeed_first_overflows(rng: Random) -> Lines:
    notes = {
        0: [
            f"[{stamp(k)},114] [INFO] [loss_scaler.py:190:update_scale] [deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: {2 ** (16 - k)}, reducing to {2 ** (15 - k)}"
            for k in range(5)
        ]
    }
    return deepspeed(rng, falling(rng, 180, 8.8, 2.6, 0.02), notes)


@case(HEALTHY, clear_from=0.75)
def own_late_drop(rng: Random) -> Lines:
    train = [
        math.log(2) * (1 - 0.93 / (1 + math.exp(-(i - 145) / 7))) * math.exp(rng.gauss(0, 0.004)) for i in range(220)
    ]
    return own(train, above(rng, train, 1.02, 0.005), 220)


@case(HEALTHY, "crashed")
def lightning_interrupted(rng: Random) -> Lines:
    train = falling(rng, 17, 0.92, 0.61, 0.006)
    return [
        *lightning(rng, train, above(rng, train, 1.04, 0.006)),
        "",
        "Detected KeyboardInterrupt, attempting graceful shutdown ...",
    ]


@case(HEALTHY)
def german_ridge_start(rng: Random) -> Lines:
    train = falling(rng, 50, 0.94, 0.79, 0.001)
    return german(train, above(rng, train, 1.03, 0.002), 50)
