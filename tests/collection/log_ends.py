"""Ends of training logs: what a log prints last, by the cause that has to be named."""

from __future__ import annotations

from collections.abc import Iterable

EPOCH = "Epoch {e}/50 | Train Loss: {loss:.4f} | Val Loss: {val:.4f} | LR: 3.00e-04"


def epochs(first: int, last: int) -> list[str]:
    """Return the epoch lines of a healthy training."""
    return [EPOCH.format(e=e, loss=0.9 + 1.5 * 0.93**e, val=1.0 + 1.5 * 0.93**e) for e in range(first, last + 1)]


def bars(epoch: int, first: int = 0, last: int = 40) -> str:
    """Return progress bars, separated by carriage returns."""
    return "".join(
        f"\rEpoch {epoch}/50:  {p}%|██  | {p}/79 [00:10<00:20, 1.3it/s, loss=1.2]" for p in range(first, last, 10)
    )


def traceback(error: str, prefix: str = "") -> list[str]:
    """Return a Python traceback that ends in an error, each line with a prefix."""
    frames = ['  File "proj/main.py", line 40, in main', "    main(batch)", "    ^^^^^^^^^^^"]
    return [prefix + line for line in ("Traceback (most recent call last):", *frames, *error.split("\n"))]


def torchrun(rank: int, code: int) -> list[str]:
    """Return what torchrun prints when a rank has failed."""
    signal = f"Signal {-code} received by PID 4711" if code < 0 else "To enable traceback see: the docs"
    return [
        "W1105 21:21:01.123000 4700 torch/distributed/elastic/multiprocessing/api.py:900] Sending process 4709 closing "
        "signal SIGTERM",
        f"E1105 21:21:09.456000 4700 torch/distributed/elastic/multiprocessing/api.py:874] failed (exitcode: {code}) "
        f"local_rank: {rank} (pid: 4711) of binary: /opt/env/bin/python",
        *traceback("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: "),
        "=" * 60,
        "scripts/train.py FAILED",
        "-" * 60,
        "Failures:",
        "  <NO_OTHER_FAILURES>",
        "-" * 60,
        "Root Cause (first observed failure):",
        "[0]:",
        "  time      : 2025-11-04_21:21:09",
        "  host      : node-a",
        f"  rank      : {rank} (local_rank: {rank})",
        f"  exitcode  : {code} (pid: 4711)",
        "  error_file: <N/A>",
        f"  traceback : {signal}",
        "=" * 60,
    ]


def watchdog(ranks: Iterable[int]) -> list[str]:
    """Return what NCCL's watchdog prints on the ranks that wait for another."""
    return [
        f"[rank{r}]:[E321 02:07:01.408271257 ProcessGroupNCCL.cpp:607] [Rank {r}] Watchdog caught collective operation "
        f"timeout: WorkNCCL(SeqNum=1580, OpType=ALLREDUCE, Timeout(ms)=600000) ran for 6000{r}0 milliseconds"
        for r in ranks
    ]


def stacks(n: int) -> list[str]:
    """Return many lines of C++ stacks of ranks that only report the failure of another."""
    return [
        f"[rank{k % 8}]: frame #{k}: c10d::ProcessGroupNCCL::WorkNCCL::checkTimeout() + 0x{k:02x} (0x7f74 in torch.so)"
        for k in range(n)
    ]


OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 6.26 GiB. GPU 3 has a total capacity of 47.40 GiB"
KILLED_BY_SHELL = "train.sh: line 3: 4711 Killed                  python train.py"
ABORTED = "bash: line 1:  4711 Aborted                 (core dumped) python train.py"
CUDA_RESET = "RuntimeError: NCCL communicator was aborted on rank 0: remote process exited"

OOM_WITH_ADVICE = (
    f"{OOM}. If it is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
CLOSING_BAR = "  1%|          | 73/9375 [04:06<8:43:00,  3.37s/it]"
"""Bar that tqdm prints once more when it is closed, behind the traceback that closed it."""
FROM_A_WORKER = [
    *traceback("FileNotFoundError: Caught FileNotFoundError in DataLoader worker process 3."),
    "Original Traceback (most recent call last):",
    '  File "/opt/env/torch/utils/data/_utils/worker.py", line 308, in _worker_loop',
    "FileNotFoundError: [Errno 2] No such file or directory: '/data/18821.png'",
]
SOURCE = [
    "        if not torch.isfinite(loss):",
    '            raise FloatingPointError("loss is nan")',
    '        print("CUDA out of memory: training failed")',
]
"""Lines of a program, as a log quotes them."""

DEAD: dict[str, tuple[str, list[str]]] = {
    "gpu_memory_with_advice": ("oom_gpu", traceback(OOM_WITH_ADVICE)),
    "error_before_a_closing_bar": ("crashed", [*traceback("ValueError: not enough values to unpack"), CLOSING_BAR]),
    "error_of_make": ("crashed", ["make: *** [Makefile:14: train] Error 1"]),
    "exit_code_of_a_container": ("crashed", ["trainer_1 exited with code 255"]),
    "exit_status_of_a_command": ("crashed", ["Command exited with non-zero status 3"]),
    "exit_of_a_background_job": ("crashed", ["[1]+  Exit 1                  python train.py"]),
    "return_code_of_a_process": ("crashed", ["[launcher] process 4711 terminated, return code = 2"]),
    "failed_job": ("crashed", ["Job failed after 3 h 12 min"]),
    **{
        f"last_line_{line[:24]}": (cause, [line])
        for cause, lines in {
            "crashed": (
                *("[1]  + 4711 exit 1     python train.py", "zsh: segmentation fault  python train.py", "rc=1"),
                *("make: *** [train] Fehler 1", "Speicherzugriffsfehler (Speicherabzug geschrieben)", "Abgebrochen"),
                *("free(): invalid pointer", "The kernel appears to have died. It will restart automatically."),
                *("The system is going down for reboot NOW!", "JobState=NODE_FAIL Reason=NodeDown"),
                *("scancel: Terminating job 77", "timeout: sending signal TERM to command 'python'", "Segfault"),
                *("zipfile.BadZipFile: Bad CRC-32 for file 'arr_0.npy'", "epilog: job killed by h_rt limit"),
                *("CUDA error: an illegal memory access was encountered", "thread 'main' panicked at src/main.rs:10"),
            ),
            "oom_host": (
                *("[1]+  Killed                  python train.py", "zsh: killed     python train.py", "Getötet"),
                *("OSError: [WinError 1455] The paging file is too small", "Container killed on request"),
                *("Your session crashed after using all available RAM.", "error: job exceeded its memory request"),
                "MemoryError: Nicht genügend Speicher",
            ),
            "disk_full": ("OSError: [Errno 28] Auf dem Gerät ist kein Speicherplatz mehr verfügbar",),
            "too_many_files": ("OSError: Zu viele offene Dateien",),
            "hangup": ("client_loop: send disconnect: Broken pipe", "Connection to gpu3 closed by remote host."),
            "collective_timeout": ("[rank2]: Timeout at NCCL work: 100, last enqueued NCCL work: 101",),
            "nan": ("NaN detected in loss, exiting.", "Aborting: gradient norm is inf"),
        }.items()
        for line in lines
    },
    "error_of_a_worker": ("crashed", FROM_A_WORKER),
    "not_finite_at_an_iteration": (
        "nan",
        [
            *traceback("FloatingPointError: Loss became infinite or NaN at iteration=802!"),
            "loss_dict = {'loss_cls': nan, 'loss_box_reg': nan}",
        ],
    ),
    "anomaly_mode": ("nan", traceback("RuntimeError: Function 'MulBackward0' returned nan values in its 0th output.")),
    "distribution_of_nan": (
        "nan",
        [
            *traceback(
                "ValueError: Expected parameter loc to satisfy the constraint Real(), but found invalid values:"
            ),
            "tensor([[nan, nan, nan],",
            "        [nan, nan, nan]], device='cuda:0')",
        ],
    ),
    "terminate_on_nan": ("nan", ["Batch 12: Invalid loss, terminating training"]),
    "cut_off_traceback": ("crashed", traceback("")[:-1]),
    "watchdog": ("collective_timeout", [*watchdog([0, 1, 2, 4, 5, 6, 7]), *stacks(40), *torchrun(0, -6)]),
    "watchdog_stuck": (
        "collective_timeout",
        [
            "[rank1]:[E ProcessGroupNCCL.cpp:1316] [PG 0 Rank 1] Heartbeat monitor timed out! It will be terminated",
            "[rank1]:[F ProcessGroupNCCL.cpp:1169] [PG 0 Rank 1] [PG 0 Rank 1] ProcessGroupNCCL's watchdog got stuck "
            "for 600 seconds without making progress in monitoring enqueued collectives.",
            ABORTED,
        ],
    ),
    "watchdog_aborted": ("collective_timeout", [*watchdog([0, 1, 2, 4, 5, 6, 7]), ABORTED]),
    "barrier": (
        "collective_timeout",
        [
            *traceback(
                "torch.distributed.DistBackendError: [2] is setting up NCCL communicator and retrieving ncclUniqueId "
                "from [0] via c10d key-value store by store->get('0'), but store->get('0') got error: wait timeout "
                "after 600000ms, keys: /default_pg/0//cuda//",
                "[rank2]: ",
            ),
            *torchrun(2, 1),
        ],
    ),
    "gpu_memory": ("oom_gpu", [*traceback(OOM, "[rank3]: "), *torchrun(3, 1)]),
    "gpu_memory_buried": ("oom_gpu", [*traceback(OOM, "[rank3]: "), *stacks(500), *torchrun(3, 1)]),
    "gpu_memory_then_timeouts": (
        "oom_gpu",
        [*traceback(OOM, "[rank3]: "), *watchdog([0, 1, 2, 4, 5, 6, 7]), *stacks(300), *torchrun(3, 1)],
    ),
    "gpu_memory_while_others_go_on": (
        "oom_gpu",
        [bars(21), *traceback(OOM, "[rank3]: "), bars(21, 40, 60), *traceback(CUDA_RESET), *torchrun(3, 1)],
    ),
    "gpu_memory_tensorflow": (
        "oom_gpu",
        traceback("ResourceExhaustedError: OOM when allocating tensor with shape[64,512] on /device:GPU:0"),
    ),
    "gpu_memory_jax": (
        "oom_gpu",
        [
            *traceback("jax.errors.SimplifiedTraceback: For simplicity, JAX has removed its internal frames."),
            "",
            "The above exception was the direct cause of the following exception:",
            "",
            *traceback("ValueError: RESOURCE_EXHAUSTED: Failed to allocate request for 8.00GiB on device ordinal 0"),
        ],
    ),
    "gpu_memory_paddle": (
        "oom_gpu",
        [
            "--------------------------------------",
            "C++ Traceback (most recent call last):",
            "--------------------------------------",
            "0   paddle::memory::allocation::CUDAAllocator::AllocateImpl(unsigned long)",
            "----------------------",
            "Error Message Summary:",
            "----------------------",
            "ResourceExhaustedError: ",
            "",
            "Out of memory error on GPU 0. Cannot allocate 1.125000GB memory on GPU 0, 15.5GB has been allocated.",
        ],
    ),
    "gpu_memory_nccl": ("oom_gpu", ["node-a:123:456 [0] include/alloc.h:185 NCCL WARN Cuda failure 2 'out of memory'"]),
    "gpu_memory_driver": ("oom_gpu", traceback("RuntimeError: CUDA driver error: out of memory")),
    "host_memory_exit_code": ("oom_host", torchrun(6, -9)),
    "host_memory_return_code": (
        "oom_host",
        [
            "[2023-04-01 10:02:01,001] [INFO] [launch.py:318:sigkill_handler] Killing subprocess 101",
            "[2023-04-01 10:02:01,001] [ERROR] [launch.py:324:sigkill_handler] ['/usr/bin/python3', '-u', 'train.py', "
            "'--local_rank=3'] exits with return code = -9",
        ],
    ),
    "host_memory_killed": ("oom_host", [KILLED_BY_SHELL]),
    "host_memory_slurm": (
        "oom_host",
        ["slurmstepd: error: Detected 1 oom_kill event in StepId=123.0. Some of the step tasks have been OOM Killed."],
    ),
    "host_memory_srun": ("oom_host", ["srun: error: node01: task 3: Out Of Memory"]),
    "host_memory_srun_killed": ("oom_host", ["srun: error: node01: task 3: Killed"]),
    "host_memory_kubernetes": ("oom_host", ["container trainer terminated: OOMKilled (exit code 137)"]),
    "host_memory_ray": (
        "oom_host",
        ["ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory."],
    ),
    "host_memory_systemd": (
        "oom_host",
        [
            "Nov 05 10:01:30 node01 systemd[1]: train.service: A process of it has been killed by the OOM killer.",
            "Nov 05 10:01:30 node01 systemd[1]: train.service: Failed with result 'oom-kill'.",
        ],
    ),
    "killed_by_systemd": (
        "oom_host",
        ["Nov 05 10:01:30 node01 systemd[1]: train.service: Main process exited, code=killed, status=9/KILL"],
    ),
    "ended_by_systemd": (
        "crashed",
        ["Nov 05 10:01:30 node01 systemd[1]: train.service: Main process exited, code=exited, status=1/FAILURE"],
    ),
    "host_memory_worker": (
        "oom_host",
        traceback("RuntimeError: DataLoader worker (pid 325) is killed by signal: Killed. "),
    ),
    "host_memory_numpy": (
        "oom_host",
        traceback("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 58.0 GiB for an array"),
    ),
    "host_memory_bad_alloc": (
        "oom_host",
        ["terminate called after throwing an instance of 'std::bad_alloc'", "  what():  std::bad_alloc", ABORTED],
    ),
    "shared_memory_bus_error": (
        "shared_memory",
        [
            "ERROR: Unexpected bus error encountered in worker. This might be insufficient shared memory (shm).",
            *traceback("RuntimeError: DataLoader worker (pid 325) is killed by signal: Bus error. "),
            *traceback("RuntimeError: DataLoader worker (pid(s) 325) exited unexpectedly"),
        ],
    ),
    "shared_memory_no_space": (
        "shared_memory",
        traceback("RuntimeError: unable to write to file </torch_325_12>: No space left on device (28)"),
    ),
    "gpu_ecc": ("gpu_failure", traceback("RuntimeError: CUDA error: uncorrectable ECC error encountered")),
    "illegal_access": (
        "crashed",
        [
            "[  12.34] NVRM: Xid (PCI:0000:41:00): 31, pid=4711, name=python, MMU Fault",
            *traceback("RuntimeError: CUDA error: an illegal memory access was encountered"),
        ],
    ),
    "terminated": (
        "crashed",
        traceback("torch.distributed.elastic.multiprocessing.api.SignalException: Process 4700 got signal: 15"),
    ),
    "rendezvous": (
        "collective_timeout",
        traceback("torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError"),
    ),
    "store_barrier": (
        "collective_timeout",
        traceback(
            "RuntimeError: Timed out initializing process group in store based barrier on rank: 2, for key: "
            "store_based_barrier_key:1 (world_size=4, worker_count=3, timeout=0:30:00)"
        ),
    ),
    "gpu_off_the_bus": (
        "gpu_failure",
        [
            "[  12.34] NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            *traceback("RuntimeError: CUDA error: unspecified launch failure"),
        ],
    ),
    "disk_errno": ("disk_full", traceback("OSError: [Errno 28] No space left on device", "[rank0]: ") + torchrun(0, 1)),
    "disk_chained": (
        "disk_full",
        [
            *traceback("OSError: [Errno 28] No space left on device"),
            "",
            "During handling of the above exception, another exception occurred:",
            "",
            *traceback("RuntimeError: [enforce fail at inline_container.cc:603] . unexpected pos 21548 vs 21547"),
        ],
    ),
    "disk_stream_writer": (
        "disk_full",
        traceback(
            "RuntimeError: [enforce fail at inline_container.cc:471] . PytorchStreamWriter failed writing file: "
            "file write failed"
        ),
    ),
    "disk_numpy": ("disk_full", traceback("OSError: 4096000 requested and 1234 written")),
    "disk_quota": ("disk_full", traceback("OSError: [Errno 122] Disk quota exceeded: 'checkpoints/last.pt'")),
    "disk_safetensors": (
        "disk_full",
        traceback(
            "safetensors_rust.SafetensorError: Error while serializing: IoError(Os { code: 28, kind: StorageFull, "
            'message: "No space left on device" })'
        ),
    ),
    "files": ("too_many_files", traceback("OSError: [Errno 24] Too many open files")),
    "files_ancdata": ("too_many_files", traceback("RuntimeError: received 0 items of ancdata")),
    "hangup_torchrun": (
        "hangup",
        traceback("torch.distributed.elastic.multiprocessing.api.SignalException: Process 4700 got signal: 1"),
    ),
    "hangup_shell": ("hangup", ["train.sh: line 3:  4711 Hangup                 python train.py"]),
    "nan_lightning": ("nan", traceback("ValueError: The loss returned in `training_step` is nan.")),
    "nan_stopped": ("nan", ["Loss is nan, stopping training"]),
    "nan_loss_scale": ("nan", traceback("FloatingPointError: Minimum loss scale reached (0.0001).")),
    "configuration": (
        "configuration_error",
        [*traceback("giblet_train.schema.errors.ConfigError: num_epochs must be above 0."), "  Set num_epochs."],
    ),
    "data": (
        "data_error",
        [*traceback("giblet_train.schema.errors.DataError: sub-04 has no scans."), "  Copy them to bold/."],
    ),
    "key_error": ("crashed", traceback("KeyError: 'sub-04'")),
    "key_error_timestamp": ("crashed", traceback("KeyError: 'sub-04'", "2025-11-05T10:00:01.123Z ")),
    "key_error_default0": ("crashed", traceback("KeyError: 'sub-04'", "[default0]:")),
    "key_error_srun": ("crashed", traceback("KeyError: 'sub-04'", "0: ")),
    "key_error_pdsh": ("crashed", traceback("KeyError: 'sub-04'", "node01: ")),
    "key_error_mpi": ("crashed", traceback("KeyError: 'sub-04'", "[1,3]<stderr>:")),
    "key_error_compose": ("crashed", traceback("KeyError: 'sub-04'", "trainer-1  | ")),
    "key_error_journal": ("crashed", traceback("KeyError: 'sub-04'", "Nov 05 10:00:01 node01 python[4711]: ")),
    "key_error_logging": ("crashed", traceback("KeyError: 'sub-04'", "2025-11-05 10:00:01,123 - ERROR - ")),
    "unknown_exception": ("crashed", traceback("trainlib.core.StopIt: the loader is empty")),
    "unused_parameters": (
        "crashed",
        traceback(
            "RuntimeError: Expected to have finished reduction in the prior iteration before starting a new one."
        ),
    ),
    "device_assert": (
        "crashed",
        [
            "../aten/src/ATen/native/cuda/Loss.cu:102: operator(): block: [0,0,0], thread: [0,0,0] Assertion "
            "`input_val >= zero && input_val <= one` failed.",
            *traceback("RuntimeError: CUDA error: device-side assert triggered"),
        ],
    ),
    "segmentation_fault": ("crashed", ["Fatal Python error: Segmentation fault", "Segmentation fault (core dumped)"]),
    "time_limit": (
        "crashed",
        ["slurmstepd: error: *** JOB 123 ON node01 CANCELLED AT 2025-11-05T10:00:00 DUE TO TIME LIMIT ***"],
    ),
    "time_limit_then_progress": (
        "crashed",
        [
            "slurmstepd: error: *** STEP 123.0 ON node01 CANCELLED AT 2025-11-05T10:00:00 DUE TO TIME LIMIT ***",
            "srun: Job step aborted: Waiting up to 32 seconds for job step to finish.",
            "[rank: 0] Received SIGTERM: 15",
            bars(21),
        ],
    ),
    "walltime": ("crashed", ["=>> PBS: job killed: walltime 86412 exceeded limit 86400"]),
    "run_time_limit": ("crashed", ["TERM_RUNLIMIT: job killed after reaching LSF run time limit."]),
    "spot_instance": (
        "crashed",
        [
            "2025-11-05 10:00:00 WARNING Received spot interruption notice: the instance ends in 2 minutes",
            "2025-11-05 10:02:01 ERROR SIGTERM received, exiting",
        ],
    ),
    "exception_in_a_group": (
        "crashed",
        [
            "  + Exception Group Traceback (most recent call last):",
            '  |   File "/a/train.py", line 3, in <module>',
            "  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)",
            "  +-+---------------- 1 ----------------",
            "    | Traceback (most recent call last):",
            "    | ValueError: bad shard 12",
            "    +------------------------------------",
        ],
    ),
    "evicted": ("crashed", ["The node had too little memory.", "Evicted"]),
    "storage": ("disk_full", ["The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi", "Evicted"]),
    "wrong_argument": (
        "crashed",
        ["usage: train.py [-h] [--lr LR]", "train.py: error: unrecognized arguments: --learning_rate 0.1"],
    ),
    "wrong_override": ("crashed", ["Could not override 'optimizer.lrr'.", "Key 'lrr' is not in struct"]),
    "preempted": (
        "crashed",
        ["slurmstepd: error: *** STEP 123.0 ON node01 CANCELLED AT 2025-11-05T10:00:00 DUE TO PREEMPTION ***"],
    ),
}
"""Kind of end -> (cause to be named, last lines)."""

SURVIVED: dict[str, list[str]] = {
    "no_error": [],
    "source": SOURCE,
    "other_ends": [
        "[1]+  Done                    python train.py",
        "Killed 0 zombie processes",
        "Terminating data loader workers",
        "State: COMPLETED ExitCode 0:0",
        "0 errors, 2 warnings",
        "Fertig.",
        "logout",
    ],
    "good_exit": ["trainer_1 exited with code 0", "GET /api/runs: exit of the request with HTTP status 200"],
    "handled_gpu_memory_in_a_bar": [
        "CUDA out of memory. Tried to allocate 2.00 GiB; skipping batch",
        *(f" {k}%|#  | {k}/100 [00:1{k}<02:00, 1.2it/s]" for k in (21, 22, 23)),
    ],
    "handled_gpu_memory": [
        "WARNING | ran out of memory with exception: CUDA out of memory. Tried to allocate 2.00 GiB; skipping batch",
        bars(21),
        *epochs(21, 24),
    ],
    "handled_traceback": [*traceback("requests.exceptions.ConnectionError: api.wandb.ai timed out"), *epochs(21, 24)],
    "restarted": [*traceback(OOM), "[Rank 0] Loaded checkpoint, resumed from epoch 18", *epochs(19, 30)],
    "preempted_and_resumed": [
        "slurmstepd: error: *** JOB 608 ON gpu01 CANCELLED AT 2025-11-05T10:00:00 DUE TO PREEMPTION ***",
        "loading checkpoint ckpt_19.pt",
        *epochs(20, 30),
    ],
    "complete": [*epochs(21, 50), "Training complete. Best validation 0.95"],
    "complete_then_noise": [
        *epochs(21, 50),
        "Training complete. Best validation 0.95",
        "Exception ignored in: <function _MultiProcessingDataLoaderIter.__del__ at 0x7f>",
        *traceback("AssertionError: can only test a child process"),
    ],
    "complete_then_abort": [
        *epochs(21, 50),
        "Training finished in 3:12:01",
        "terminate called without an active exception",
        ABORTED,
    ],
    "last_epoch_then_ignored_exception": [
        *epochs(21, 50),
        "Exception ignored in: <function _MultiProcessingDataLoaderIter.__del__ at 0x7f>",
        *traceback("AssertionError: can only test a child process"),
    ],
    "early_stopping": [*epochs(21, 22), "Early stopping triggered after 20 epochs without improvement"],
    "early_stopping_then_test": [
        *epochs(21, 22),
        "EarlyStopping: stop training at epoch 22",
        "Test loss: 0.91  Test corr: 0.12",
    ],
    "lightning_stopped": [*epochs(21, 50), "`Trainer.fit` stopped: `max_epochs=50` reached."],
    "interrupted": [
        "^CTraceback (most recent call last):",
        '  File "train.py", line 3, in <module>',
        "KeyboardInterrupt",
    ],
    "interrupted_torchrun": traceback(
        "torch.distributed.elastic.multiprocessing.api.SignalException: Process 4700 got signal: 2"
    ),
    "warning_about_nan": [*epochs(21, 50), "Warning: NaN or Inf found in input tensor."],
    "settings": [
        "docker: oom-kill-disable: true",
        "EarlyStopping: patience=20, enabled",
        "timeout: 600",
        "shm_size: 16",
    ],
    "metrics_called_error": ["Error rate: 0.0512", "mean absolute error 0.31"],
    "leaked_semaphores": [
        "UserWarning: resource_tracker: There appear to be 6 leaked semaphore objects to clean up at shutdown"
    ],
    "process_group_warning": [
        "[rank0]:[W1105 21:21:01.1 ProcessGroupNCCL.cpp:1496] Warning: WARNING: destroy_process_group() was not called"
    ],
}
"""Kind of end -> last lines of a training that did not die of an error."""


def log_of(last_lines: list[str]) -> list[str]:
    """Return a log of twenty epochs with these last lines."""
    return [*epochs(1, 20), *last_lines]
