"""Errors are found and quoted in every form of traceback, with the place in the program and what led to them."""

from __future__ import annotations

import pytest

from giblet_train.diagnosis.diagnose import Diagnosis, diagnose
from giblet_train.diagnosis.log_parser import parse
from giblet_train.diagnosis.rules.case import Finding
from tests.collection.log_ends import epochs, log_of, torchrun, traceback, watchdog

FRAME = '  File "/srv/lab/fit.py", line 31, in fit'
LIBRARY = '  File "/opt/env/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1501, in _call_impl'
HEAD = "Traceback (most recent call last):"
NOTEBOOK_HEAD = "KeyError                                  Traceback (most recent call last)"
FORMS = {
    "python": ([HEAD, FRAME, "    step(batch)", LIBRARY, "    return call()"], "/srv/lab/fit.py, line 31"),
    "notebook": (
        [
            "-" * 75,
            NOTEBOOK_HEAD,
            "Cell In[3], line 4",
            "      2 rows = load()",
            "----> 4 fit(rows)",
            "",
            "File ~/lab/fit.py:31, in fit(rows)",
            "     30 loss = 0.31",
            "---> 31 return rows['sub']",
            "",
        ],
        "~/lab/fit.py, line 31",
    ),
    "old notebook": (
        [
            NOTEBOOK_HEAD,
            "<ipython-input-8-0f2a> in <module>",
            "----> 2 fit(rows)",
            "",
            "/opt/env/lib/python3.7/site-packages/pandas/core/frame.py in __getitem__(self, key)",
            "   2900             indexer = self.columns.get_loc(key)",
            "-> 2902             return indexer",
            "",
        ],
        "<ipython-input-8-0f2a>, line 2",
    ),
    "rich": (
        [
            "╭─────────────── Traceback (most recent call last) ───────────────╮",
            "│ /srv/lab/fit.py:31 in fit                                       │",
            "│                                                                 │",
            "│ ❱ 31     return rows['sub']                                     │",
            "╰─────────────────────────────────────────────────────────────────╯",
        ],
        "/srv/lab/fit.py, line 31",
    ),
    "loguru": (
        [HEAD, "", "> " + FRAME.strip(), "    step(batch)", "    └ <function step at 0x7f>", ""],
        "/srv/lab/fit.py, line 31",
    ),
}


def judged(lines: list[str]) -> Diagnosis:
    log = parse(log_of(lines))
    return diagnose(None, log.metrics, log=log.log)


def first_cause(lines: list[str]) -> Finding:
    return judged(lines).causes[0]


@pytest.mark.parametrize("form", FORMS)
def test_the_error_of_a_traceback_is_quoted_with_its_place_in_the_program(form: str) -> None:
    frames, place = FORMS[form]
    cause = first_cause([*frames, "KeyError: 'sub-04'"])
    assert cause.sentence == f"It crashed: KeyError: 'sub-04' ({place})."
    assert cause.evidence["error"] == "KeyError: 'sub-04'" and cause.evidence["place"] == place
    assert cause.action.startswith(f"Look at {place}")


def test_an_unknown_exception_is_quoted_with_its_place() -> None:
    cause = first_cause([HEAD, FRAME, "    step(batch)", "labtools.Mishap: the scanner was off"])
    assert cause.sentence == "It crashed: labtools.Mishap: the scanner was off (/srv/lab/fit.py, line 31)."


@pytest.mark.parametrize(
    ("message", "quoted"),
    [
        (["RuntimeError: ", "        No process was started in this block.", ""], "No process was started"),
        (["AssertionError: ", "The driver is too old (version 9000)."], "The driver is too old (version 9000)"),
        (
            [
                *("tensorflow.errors.InvalidArgumentError: Graph execution error:", "", "Detected at node 'loss'"),
                *('    File "fit.py", line 3', "Node: 'loss'", "logits of 9 classes, labels of 10", "\t [[{{node}}]]"),
            ],
            "logits of 9 classes, labels of 10",
        ),
        (
            [
                "torch.distributed.DistBackendError: NCCL error in: NCCL.cpp:12, invalid usage, NCCL version 2.1",
                *("ncclInvalidUsage: This is a wrong use of NCCL.", "Last error:", "Two ranks share GPU 4000: rank 1"),
            ],
            "Two ranks share GPU 4000",
        ),
        (["pydantic.ValidationError: 1 validation error for Plan", "rate", "  field required"], "rate field required"),
    ],
)
def test_a_message_of_several_lines_is_quoted(message: list[str], quoted: str) -> None:
    assert quoted in first_cause([HEAD, FRAME, *message]).sentence


def test_a_reason_in_a_later_line_of_the_message_names_the_cause() -> None:
    message = ["RuntimeError: NCCL error in: NCCL.cpp:12, unhandled cuda error", "Last error:"]
    assert first_cause([HEAD, FRAME, *message, "Cuda failure 'out of memory'"]).cause == "oom_gpu"


@pytest.mark.parametrize(
    "link",
    [
        "The above exception was the direct cause of the following exception:",
        "During handling of the above exception, another exception occurred:",
    ],
)
def test_the_first_and_the_last_exception_of_a_chain_are_quoted(link: str) -> None:
    chain = [*traceback("KeyError: 'sub-04'"), "", link, "", *traceback("ValueError: the study cannot be built")]
    cause = first_cause([*chain, "", *traceback("subprocess.CalledProcessError: Command 'fit.py' failed")])
    assert cause.sentence == (
        "It crashed: KeyError: 'sub-04' (proj/main.py, line 40), then ValueError: the study cannot be built."
    )


def test_an_exception_that_says_nothing_does_not_stand_for_its_chain() -> None:
    link = "The above exception was the direct cause of the following exception:"
    cause = first_cause([*traceback("_queue.Empty"), "", link, "", *traceback("RuntimeError: worker 4711 is gone")])
    assert "Empty" not in cause.sentence and "worker 4711 is gone" in cause.sentence


def test_what_was_done_with_a_file_before_an_error_is_quoted() -> None:
    cause = first_cause(["Loading checkpoint from /srv/runs/best.pt", *traceback("EOFError: Ran out of input")])
    assert cause.sentence.endswith(", after: Loading checkpoint from /srv/runs/best.pt.")


def test_an_error_that_a_launcher_repeats_after_closing_lines_keeps_its_reason() -> None:
    link = "During handling of the above exception, another exception occurred:"
    last = traceback("RuntimeError: [enforce fail at inline_container.cc:300] . unexpected pos 64 vs 32")
    lines = [*traceback("OSError: [Errno 28] No space left on device: 'epoch_20.pth'"), "", link, "", *last]
    closing = ["Total training time: 0:25:41", EPOCH_LINE, "-- Process 0 terminated with the following error:"]
    causes = judged([*lines, *closing, *last]).causes
    assert causes[0].cause == "disk_full" and "epoch_20.pth" in causes[0].sentence


EPOCH_LINE = epochs(21, 21)[0]


def test_a_rank_that_only_saw_another_one_end_is_quoted_where_nothing_else_is_known() -> None:
    message = ["RuntimeError: NCCL error in: NCCL.hpp:268, remote process exited or there was a network error"]
    lines = [f"[rank5]: {line}" for line in (HEAD, FRAME, *message, "Last error:", "recv from 10.0.0.7 failed")]
    cause = first_cause([*lines, *torchrun(5, 1)])
    assert "recv from 10.0.0.7 failed" in cause.sentence and "printed no error" not in cause.sentence


def test_a_rank_that_stops_alone_makes_the_others_wait() -> None:
    stop = "[rank0]: Early stopping triggered at epoch 20"
    ranks = [f"[rank{rank}]: {line}" for line in epochs(21, 22) for rank in (0, 1)]
    causes = judged([*ranks, stop, *watchdog([1])]).causes
    assert causes[0].cause == "collective_timeout" and causes[0].evidence["missing_ranks"] == [0]
    assert "Early stopping triggered" in causes[0].sentence
    assert not judged([*ranks, stop]).causes


def test_an_exception_after_the_end_is_a_doubt_and_a_signal_a_note() -> None:
    end = [*epochs(21, 50), "Training complete."]
    causes = judged([*end, *traceback("RuntimeError: the export failed")]).causes
    assert [(cause.cause, cause.confidence) for cause in causes] == [("crashed", 0.5)]
    assert "the export failed" in causes[0].sentence
    log = parse(log_of([*end, "Segmentation fault (core dumped)"]))
    assert not diagnose(None, log.metrics, log=log.log).causes
    assert "After its end it printed: Segmentation fault (core dumped)" in log.notes


def test_a_stop_by_hand_is_no_crash_of_the_launcher() -> None:
    log = parse(
        log_of(["^C[2025-05-30 20:29:14] stopping workers", *traceback("NameError: name 'job' is not defined")])
    )
    assert not diagnose(None, log.metrics, log=log.log).causes
    assert any(note.startswith("It was stopped by hand") for note in log.notes)


def test_workers_that_vanish_suggest_full_memory() -> None:
    cause = first_cause(traceback("RuntimeError: Some background workers are no longer alive"))
    assert (cause.cause, cause.confidence) == ("oom_host", 0.6)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("4821.batch       batch      lab1     8 OUT_OF_ME+    0:125", "oom_host"),
        ("4821|fit|OUT_OF_MEMORY|0:125", "oom_host"),
        ("4821             fit        gpu      8  NODE_FAIL      0:0", "crashed"),
        ("4821|fit|CANCELLED by 1000|0:15", "crashed"),
        ("F0101 10:00:00.123456  1234 syncedmem.cpp:71] Check failed: error == cudaSuccess (2 vs. 0)", "oom_gpu"),
        ("labs.base.FitError: pooled_storage.h:157: cudaMalloc failed: out of memory", "oom_gpu"),
        ("*** SIGSEGV (@0x0) received by PID 1234 (TID 0x7f) from PID 0; stack trace: ***", "crashed"),
        ("/var/spool/slurmd/job4711/slurm_script: line 12: python: command not found", "crashed"),
        ("python: can't open file '/srv/lab/fit.py': [Errno 2] No such file or directory", "crashed"),
        ("Error in x %*% y : non-conformable arguments", "crashed"),
        ("Waiting for W&B process to finish... (failed 1). Press Control-C to abort syncing.", "crashed"),
        ("OpenBLAS blas_thread_init: pthread_create failed for thread 3: Resource temporarily unavailable", "crashed"),
        ("<worker-3> RuntimeError: the loader broke", "crashed"),
        ("2022-11-15 16:03:15.140911: F external/xla/client.h:75] Terminating process: a task is gone", "crashed"),
        ("trainer-0   0/1     CrashLoopBackOff   5          10m", "crashed"),
        ("MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD", "crashed"),
        ("ORTE has lost communication with a remote daemon.", "crashed"),
        ("Your notebook tried to allocate more memory than is available. It has restarted.", "oom_host"),
        ("# Ended (code 137) at Mon Jan  1 10:10:12 CET 2026, elapsed time 612 seconds", "oom_host"),
        ("[2026-10-31 05:07:11,062][__main__][ERROR] - Error executing job with overrides: ['epochs=100']", "crashed"),
        ("W1130 12:13:49.388000 124 torch/api.py:723] Received 15 death signal, shutting down workers", "crashed"),
        ("W1130 12:13:49.388000 124 torch/api.py:723] Received 1 death signal, shutting down workers", "hangup"),
        ("6: [rank6]:[F Group.cpp:1169] [PG 0 Rank 6] The watchdog got stuck for 600 seconds", "collective_timeout"),
        ('time="2026-01-01T10:00:00Z" level=error msg="KeyError: 4"', "crashed"),
        ("进程已结束，退出代码 -1073741819 (0xC0000005)", "crashed"),
        ("段错误 (核心已转储)", "crashed"),
        ("Processus arrêté", "oom_host"),
        ("WARNING: Your input ran out of data; interrupting training.", "data_error"),
        ("AssertionError: found NaN in the local gradient norm on device 3", "nan"),
    ],
)  # fmt: skip
def test_an_end_is_read_in_the_words_of_other_programs(line: str, cause: str) -> None:
    assert first_cause([line]).cause == cause
    assert not judged([line, *epochs(21, 26)]).causes


SUMMARY = ["wandb: Run summary:", "wandb:        epoch 21", "wandb:   train/loss 0.9102", "wandb:  global_step 4200"]


@pytest.mark.parametrize("prefix", ["", "COMET INFO: "])
def test_the_summary_of_a_tracker_after_an_error_is_no_progress(prefix: str) -> None:
    summary = [line.replace("wandb: ", prefix) if prefix else line for line in SUMMARY]
    assert first_cause([*traceback("KeyError: 'sub-04'"), *summary]).cause == "crashed"


UTIL = '  File "/usr/lib/python3.11/multiprocessing/util.py", line 300, in _run_finalizers'
HARMLESS = {
    "logging": ["--- Logging error ---", *traceback("OSError: [Errno 116] Stale file handle"), "Call stack:"],
    "event loop": ["ERROR:asyncio:Task exception was never retrieved", *traceback("ConnectionResetError: [Errno 104]")],
    "callback": ["Error in callback <bound method Sync.pause of <tracker.Sync object>> (for post_run_cell):"],
    "exit": ["Error in atexit._run_exitfuncs:", *traceback("ConnectionResetError: [Errno 104] Connection reset")],
    "helper": [HEAD, UTIL, "    finalizer()", "OSError: [Errno 16] Device or resource busy: '.nfs0'"],
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_errors_beside_the_program_accuse_nobody(kind: str) -> None:
    assert not judged(HARMLESS[kind]).causes


@pytest.mark.parametrize(
    "line",
    [
        "Process finished with exit code 130 (interrupted by signal 2: SIGINT)",
        "make: *** [Makefile:3: train] Interrupt",
        "wandb: Ctrl + C detected. Stopping sync.",
        "[rank: 0] Received SIGINT: 2",
    ],
)
def test_a_stop_by_hand_is_stated(line: str) -> None:
    log = parse(log_of([line]))
    assert not diagnose(None, log.metrics, log=log.log).causes
    assert log.log.end.statement == "interrupted"


def test_a_stop_by_hand_after_an_error_does_not_hide_it() -> None:
    stop = ["^CTraceback (most recent call last):", FRAME, "KeyboardInterrupt"]
    assert first_cause([*traceback("KeyError: 'sub-04'"), *stop]).cause == "crashed"
    assert first_cause(["TERM_MEMLIMIT: job killed", "Exited with exit code 130."]).cause == "oom_host"


def test_a_process_that_sigbus_ends_suggests_shared_memory() -> None:
    cause = first_cause(torchrun(2, -7))
    assert (cause.cause, cause.confidence) == ("shared_memory", 0.6) and "rank 2" in cause.sentence


def test_the_exceptions_of_a_group_are_quoted() -> None:
    group = [
        "  + Exception Group Traceback (most recent call last):",
        '  |   File "/srv/lab/fit.py", line 31, in fit',
        "  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)",
        "  +-+---------------- 1 ----------------",
        "    | Traceback (most recent call last):",
        '    |   File "/srv/lab/shard.py", line 5, in read',
        "    | ValueError: bad shard",
        "    +------------------------------------",
    ]
    assert first_cause(group).sentence == "It crashed: ValueError: bad shard (/srv/lab/shard.py, line 5)."


def test_memory_that_slurm_found_exceeded_is_named_with_its_task() -> None:
    lines = [
        "slurmstepd-gpu20-15: error: Detected 1 oom-kill event(s) in StepId=94112.0. Some processes were killed.",
        "srun: error: gpu20-15: task 3: Out Of Memory",
        "slurmstepd-gpu20-15: error: *** STEP 94112.0 ON gpu20-15 CANCELLED AT 2026-05-17T17:58:10 ***",
    ]
    cause = first_cause(lines)
    assert cause.cause == "oom_host" and "task 3" in cause.sentence


def test_a_job_that_was_cancelled_without_a_reason_is_a_doubt() -> None:
    cancelled = "slurmstepd: error: *** JOB 94112 ON gpu31 CANCELLED AT 2026-03-02T10:41:19{} ***"
    assert first_cause([cancelled.format("")]).confidence == 0.5
    assert first_cause([cancelled.format(" DUE TO TIME LIMIT")]).confidence > 0.5


def test_an_error_after_a_warning_about_memory_follows_from_it() -> None:
    warning = "2026-11-06 22:55:35 | WARNING | lab.fit | CUDA out of memory. Tried to allocate 28.00 MiB; will retry"
    error = ["Exception: ", "", "-- Process 1 terminated with the following error:", HEAD, FRAME]
    cause = first_cause([warning, *traceback("")[:-1], *error, "RuntimeError: Gradients differ between workers."])
    assert cause.cause == "oom_gpu" and "28.00 MiB" in cause.sentence


def test_the_parts_of_a_loss_that_are_not_finite_are_named() -> None:
    parts = "{'box': tensor(0.0082, device='cuda:0'), 'objectness': tensor(nan, device='cuda:0', grad_fn=<X>)}"
    cause = first_cause(["Loss is nan, stopping training", parts])
    assert cause.cause == "nan" and "(objectness)" in cause.sentence


def test_a_cause_that_is_named_after_the_stated_end_is_a_doubt() -> None:
    error = traceback("lab.InvalidArgument: Nan in summary histogram for: layer_1/variance")
    cause = first_cause(["INFO:Finished training! Saving model to disk.", *error])
    assert (cause.cause, cause.confidence) == ("nan", 0.5)


def test_an_error_that_only_an_exiting_program_meets_accuses_nobody() -> None:
    lines = ["terminate called after throwing an instance of 'gloo::Refused'", "  what():  driver shutting down."]
    log = parse(log_of(lines))
    assert not diagnose(None, log.metrics, log=log.log).causes
    assert "It printed while it exited: driver shutting down." in log.notes


def test_a_bus_that_corrects_errors_is_no_lack_of_shared_memory() -> None:
    lines = ["[ +0.0005] pcieport 0000:00:03.0: PCIe Bus Error: severity=Corrected, type=Data Link Layer"]
    cause = first_cause([*lines, "[ +0.8112] NVRM: Xid (PCI:0000:03:00): 79, pid=4711, GPU has fallen off the bus."])
    assert cause.cause == "gpu_failure"


def test_the_reason_of_a_watchdog_is_quoted_from_its_c_message() -> None:
    what = "  what():  [PG ID 0 Rank 5] Watchdog thread terminated with exception: NCCL error: a network error"
    lines = [
        "terminate called after throwing an instance of 'c10::DistBackendError'",
        what,
        "ncclRemoteError: A call failed",
    ]
    assert "recv from 10.0.0.7 failed" in first_cause([*lines, "Last error:", "recv from 10.0.0.7 failed"]).sentence


def test_a_lone_cancel_sign_may_be_that_of_a_notebook_without_memory() -> None:
    assert any("memory is full" in note for note in parse(log_of(["^C"])).notes)


def test_a_few_epochs_above_the_first_loss_are_a_doubt() -> None:
    def confidence(losses: list[float]) -> float:
        log = parse(f"Epoch {k}/99 loss: {loss:.4f}" for k, loss in enumerate(losses, 1))
        return next(cause.confidence for cause in diagnose(None, log.metrics, log=log.log).causes)

    assert confidence([0.082, 0.076, 0.063, 0.092, 0.096]) <= 0.5
    assert confidence([0.082, 0.076, 0.063, 0.192, 0.496]) > 0.5


@pytest.mark.parametrize(
    "lines",
    [
        [*epochs(21, 50), "TensorBoard caught SIGTERM; exiting..."],
        ["{'train_runtime': 2880.12, 'train_loss': 0.8121, 'epoch': 3.0}", "[Rank 4] The watchdog got stuck for 480 s"],
        ["WARNING:torch.elastic: Received 2 death signal, shutting down workers"],
    ],
)
def test_what_follows_the_figures_of_the_whole_training_accuses_nobody(lines: list[str]) -> None:
    assert not judged(lines).causes
