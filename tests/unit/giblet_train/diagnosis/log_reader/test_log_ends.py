"""How trainings end: each kind of end is named, and nothing that a training survives is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from giblet_train.diagnosis.diagnose import Diagnosis, diagnose
from giblet_train.diagnosis.log_parser import ParsedLog, parse
from giblet_train.diagnosis.log_reader.end_patterns import statement_of
from giblet_train.diagnosis.log_reader.stall import Calendar
from giblet_train.schema.config import Config
from giblet_train.schema.health import Health
from giblet_train.schema.records import EventMetric, RunMetric
from tests.collection.log_ends import (
    DEAD,
    FROM_A_WORKER,
    OOM,
    SURVIVED,
    epochs,
    log_of,
    stacks,
    torchrun,
    traceback,
    watchdog,
)


def judged(lines: list[str]) -> tuple[ParsedLog, Diagnosis]:
    """Return a log and its diagnosis."""
    log = parse(lines)
    return log, diagnose(None, log.metrics, log=log.log)


@pytest.mark.parametrize("kind", DEAD)
def test_a_dead_training_is_named_by_its_cause(kind: str) -> None:
    cause, last_lines = DEAD[kind]
    _, diagnosis = judged(log_of(last_lines))
    assert [c.cause for c in diagnosis.causes][:1] == [cause]
    assert diagnosis.causes[0].confidence > 0.5 and diagnosis.causes[0].action.endswith((".", ")"))


@pytest.mark.parametrize("kind", SURVIVED)
def test_what_a_training_survives_accuses_nobody(kind: str) -> None:
    _, diagnosis = judged(log_of(SURVIVED[kind]))
    assert diagnosis.causes == ()


def test_the_rank_that_did_not_join_a_collective_is_named() -> None:
    _, diagnosis = judged(log_of([*watchdog([0, 1, 2, 4]), *torchrun(0, -6)]))
    first = diagnosis.causes[0]
    assert first.evidence["missing_ranks"] == [3] and "rank 3 did not join" in first.sentence


def test_an_error_explains_why_its_rank_did_not_join_a_collective() -> None:
    missing_file = traceback("FileNotFoundError: [Errno 2] No such file or directory: '/data/s02.h5'", "[rank2]: ")
    _, diagnosis = judged(log_of([*missing_file, *watchdog([0, 1, 3]), *torchrun(0, -6)]))
    assert [c.cause for c in diagnosis.causes] == ["crashed"]
    assert diagnosis.causes[0].evidence["error"].startswith("rank 2: FileNotFoundError")
    _, diagnosis = judged(log_of([*watchdog([0, 1, 3]), *missing_file, *torchrun(0, -6)]))
    assert diagnosis.causes[0].cause == "collective_timeout"


def test_the_rank_of_torchruns_block_decides_between_errors() -> None:
    echo = traceback("RuntimeError: Connection reset by peer", "[rank0]: ")
    _, diagnosis = judged(log_of([*echo, *traceback("KeyError: 'sub-04'", "[rank5]: "), *torchrun(5, 1)]))
    assert diagnosis.causes[0].evidence["error"] == "rank 5: KeyError: 'sub-04'"


def test_the_assertion_of_a_kernel_is_the_error_and_not_that_it_was_triggered() -> None:
    kernel = "/aten/cuda/Loss.cu:250: nll_loss: block: [0,0,0], thread: [{k},0,0] Assertion `t >= 0 && t < n` failed."
    triggered = traceback("RuntimeError: CUDA error: device-side assert triggered")
    _, diagnosis = judged(log_of([*(kernel.format(k=k) for k in range(64)), *triggered]))
    assert "Assertion `t >= 0 && t < n` failed" in diagnosis.causes[0].sentence
    assert diagnosis.causes[0].action.startswith("An index or target is out of range")


def test_an_error_is_found_however_much_follows_it() -> None:
    _, diagnosis = judged(log_of([*traceback(OOM, "[rank3]: "), *stacks(20_000)]))
    assert diagnosis.causes[0].cause == "oom_gpu"


def test_a_killed_process_is_only_inferred_to_lack_memory() -> None:
    _, diagnosis = judged(log_of(torchrun(6, -9)))
    assert diagnosis.causes[0].cause == "oom_host" and diagnosis.causes[0].confidence == 0.6
    assert diagnosis.causes[0].evidence["rank"] == 6


def test_a_line_marked_as_an_error_at_an_early_end_is_reported_as_a_doubt() -> None:
    last = ["2025-11-05 10:00:00 ERROR Reading sample 991 was given up"]
    _, diagnosis = judged(log_of(last))
    assert [(c.cause, c.confidence) for c in diagnosis.causes] == [("crashed", 0.5)]
    _, complete = judged(log_of([*epochs(21, 50), *last]))
    assert complete.healthy


def test_a_job_that_its_scheduler_ends_is_not_said_to_crash() -> None:
    _, diagnosis = judged(log_of(DEAD["preempted"][1]))
    assert diagnosis.causes[0].sentence.startswith("Its scheduler ended it: ")
    assert diagnosis.causes[0].action.startswith("Submit it again")


def test_the_remedy_of_our_own_errors_is_kept() -> None:
    _, diagnosis = judged(log_of(DEAD["data"][1]))
    assert diagnosis.causes[0].action == "Copy them to bold/."
    event = EventMetric(
        seq=1, step=0, epoch=0, at=0.0, name="failed", level="error", sentence="num_epochs must be above 0.",
        facts={"error": "ConfigError", "remedy": "Set num_epochs."},
    )  # fmt: skip
    failed = Health(state="failed", sentence="num_epochs must be above 0.")
    first = diagnose(None, [event], health=failed).causes[0]
    assert (first.cause, first.action) == ("configuration_error", "Set num_epochs.")


@pytest.mark.parametrize("prefix", ["", "[rank0]: "])
def test_a_checkpoint_that_does_not_fit_is_quoted_with_its_keys(prefix: str) -> None:
    details = [
        '\tMissing key(s) in state_dict: "enc.0.weight", "enc.0.bias", "enc.1.weight", "enc.1.bias". ',
        '\tUnexpected key(s) in state_dict: "decoder.weight". ',
        "\tsize mismatch for head.weight: copying a param with shape torch.Size([1000, 512]) from checkpoint, the "
        "shape in current model is torch.Size([500, 512]).",
    ]
    error = traceback("RuntimeError: Error(s) in loading state_dict for UNet:", prefix)
    _, diagnosis = judged(log_of([*error, *(prefix + line for line in details)]))
    first = diagnosis.causes[0]
    assert (first.cause, first.confidence) == ("configuration_error", 0.9)
    assert first.sentence.endswith(
        "for UNet: missing keys enc.0.weight, enc.0.bias, enc.1.weight and 1 more; unexpected key decoder.weight; "
        "head.weight is [1000, 512] in the checkpoint and [500, 512] in the model (proj/main.py, line 40)."
    )
    assert first.action.startswith("Use the sizes that the checkpoint was trained with")
    only_keys = details[0].replace("enc.", "module.enc.")
    assert "`module.`" in judged(log_of([*error, prefix + only_keys]))[1].causes[0].action
    _, survived = judged(log_of([*error, *details, *epochs(21, 50)]))
    assert survived.healthy


def test_an_interrupted_training_is_noted_and_not_accused() -> None:
    log, _ = judged(log_of(SURVIVED["interrupted"]))
    assert "It was stopped by hand after epoch 20 of 50: KeyboardInterrupt" in log.notes


def test_a_rank_without_an_error_of_its_own_is_named_with_its_signal() -> None:
    _, diagnosis = judged(log_of(torchrun(2, -11)))
    assert diagnosis.causes[0].evidence["error"] == "rank 2 ended with signal 11 (SIGSEGV) and printed no error"


def test_the_log_states_how_a_training_ended() -> None:
    log, _ = judged(log_of(SURVIVED["early_stopping"]))
    assert any(note.startswith("It ended by early stopping after epoch 22 of 50") for note in log.notes)
    log, _ = judged(log_of(SURVIVED["early_stopping_then_test"]))
    assert log.log.end.statement == "early_stop"
    log, _ = judged(log_of([]))
    assert "It ends after epoch 20 of 50; the log does not say why." in log.notes


def test_the_error_of_a_worker_is_quoted_and_not_that_it_was_caught() -> None:
    _, diagnosis = judged(log_of(FROM_A_WORKER))
    assert "No such file or directory: '/data/18821.png'" in diagnosis.causes[0].sentence
    assert diagnosis.causes[0].action.startswith("Check that path")


def test_a_cause_that_is_only_mentioned_is_a_doubt_where_no_training_is_seen() -> None:
    notes = ["# Notes", "- CUDA out of memory with a batch of 64, use 32", "- try a lower rate"]
    assert max(cause.confidence for cause in judged(notes)[1].causes) < 0.5
    assert judged(log_of(notes))[1].causes[0].confidence > 0.9
    assert judged([OOM])[1].causes[0].confidence > 0.9
    assert judged(["slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch."])[1].causes[0].confidence > 0.9


def test_a_log_that_only_shows_an_exit_code_shows_no_reason() -> None:
    exited = "srun: error: gpu07: task 0: Exited with exit code 1"
    _, diagnosis = judged(log_of([exited]))
    assert diagnosis.causes[0].sentence.endswith("The log does not show why.")
    assert "sacct" in diagnosis.causes[0].action
    _, diagnosis = judged(log_of([exited, *traceback("KeyError: 'sub-04'")]))
    assert diagnosis.causes[0].sentence == "It crashed: KeyError: 'sub-04' (proj/main.py, line 40)."


def test_equal_lines_for_hours_after_the_last_progress_are_a_stall() -> None:
    def at(minute: int) -> str:
        return f"2025-09-{9 + minute // 1440:02d} {minute // 60 % 24:02d}:{minute % 60:02d}:11"

    steps = [f"{at(22 * 60 + k)} train step={40 * k} loss={2 + 2 * 0.97**k:.3f}" for k in range(60)]
    waiting = [f"{at(23 * 60 + 2 * k)} watchdog last_step=2360 gpu_util={99 + k % 2}% alive" for k in range(60)]
    limit = "slurmstepd: error: *** JOB 31415 ON n07 CANCELLED AT 2025-09-10T01:00:11 DUE TO TIME LIMIT ***"
    _, diagnosis = judged([*steps, *waiting, limit])
    assert [cause.cause for cause in diagnosis.causes] == ["stalled", "crashed"]
    assert diagnosis.causes[0].evidence["seconds"] == 121 * 60
    assert judged([*steps, *waiting])[1].causes[0].cause == "stalled"
    assert judged([*steps, limit])[1].causes[0].cause == "stalled"
    soon = limit.replace("01:00:11", "00:00:11").replace("2025-09-10", "2025-09-09").replace("T00:", "T23:")
    assert [cause.cause for cause in judged([*steps, soon])[1].causes] == ["crashed"]
    clock = [line.partition(" ")[2] for line in (*steps, *waiting)]
    assert judged([*clock[:60], limit])[1].causes[0].cause == "stalled" == judged(clock)[1].causes[0].cause
    evaluation = [f"{at(23 * 60 + 2 * k)} evaluated batch {k}/200" for k in range(60)]
    assert judged([*steps, *evaluation])[1].causes == ()
    assert judged([*steps, *waiting, *(line.replace("2025-09-09", "2025-09-11") for line in steps)])[1].causes == ()


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("Killed by OOM killer", "oom_host"),
        ("Killed python train.py", "oom_host"),
        ("train-1 exited with code 137", "oom_host"),
        ("Command failed with exit status 137", "oom_host"),
        ("exit code 137", "oom_host"),
        ("process 17 exited with status -9", "oom_host"),
        ("[1]+  Terminated              python train.py --epochs 50", "crashed"),
        ("Job failed: exit code 3", "crashed"),
        ("./run.sh: line 3: 4711 Terminated              ssh node07 python train.py", "crashed"),
        ("[1]+  Terminated              nvidia-smi dmon > gpu.txt", ""),
        ("[1]+  Exit 1                  jupyter notebook", ""),
        ("./job.sh: line 12: 40123 Terminated              /usr/bin/nvidia-smi dmon", ""),
        ("bash: line 4: 991 Killed                  ssh -N -L 8080:localhost:80 login", ""),
        ("Job failed: 0, succeeded: 12", ""),
        ("Killed 3 workers of the last run", ""),
    ],
)
def test_the_end_of_a_job_is_judged_by_its_program_and_code(line: str, cause: str) -> None:
    _, diagnosis = judged([*epochs(1, 20), line])
    assert [c.cause for c in diagnosis.causes][:1] == [cause] * bool(cause)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("[  123.4] Out of memory: Killed process 4242 (python) total-vm:123kB", "oom_host"),
        ("NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.", "gpu_failure"),
        (watchdog([3])[0], "collective_timeout"),
        ("tar: write error: No space left on device", "disk_full"),
        ("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 39 GiB total capacity)", "oom_gpu"),
    ],
)
def test_a_report_before_the_first_epoch_is_no_mere_mention(line: str, cause: str) -> None:
    _, diagnosis = judged(["Loading data", "Building model", line])
    assert diagnosis.causes[0].cause == cause and diagnosis.causes[0].confidence > 0.9


@pytest.mark.parametrize(("n_later", "causes"), [(1, ["crashed"]), (3, [])])
def test_full_bars_of_later_epochs_are_progress_after_an_error(n_later: int, causes: list[str]) -> None:
    bars = [f"Epoch {e}: 100%|████| 469/469 [00:05<00:00, 85.91it/s, train_loss={0.9**e:.3f}]" for e in range(20)]
    error = traceback("wandb.errors.CommError: network error, retrying")
    _, diagnosis = judged([*bars[:8], *error, *bars[7 : 7 + n_later]])
    assert [c.cause for c in diagnosis.causes] == causes


WORK_AFTER_TRAINING = {
    "decoding": lambda k: f"decoded {100 * k} utterances, wer 12.{k % 10}",
    "evaluation": lambda k: f"Evaluating: processed {100 * k} of 10000 examples",
    "copy": lambda k: f"rsync: copied {k} GB of checkpoint to archive",
}
NO_WORK = {
    "equal": lambda k: "cannot reach rank 3",
    "minutes": lambda k: f"no message from rank 3 for {k} min",
    "seconds": lambda k: f"no message from rank 3, elapsed={60 * k}.5",
    "heartbeat": lambda k: f"heartbeat {k}",
    "clock": lambda k: f"status ok {1772705400 + 60 * k}",
    "memory": lambda k: f"memory {40000 + 7919 * k % 997} MiB of GPU 0",
    "load": lambda k: f"gpu_util={97 + k * k % 4}% temperature {60 + k * k % 3}",
}


def with_last_lines(line: Callable[[int], str]) -> list[str]:
    """Return a training of 20 epochs in ten minutes, and a line per minute for 40 minutes."""
    trained = [f"2026-03-05 10:{k // 2:02d}:{k % 2 * 30:02d} epoch {k} loss {2 * 0.9**k:.4f}" for k in range(20)]
    return [*trained, *(f"2026-03-05 10:{10 + k}:00 INFO {line(k)}" for k in range(40))]


@pytest.mark.parametrize("kind", WORK_AFTER_TRAINING)
def test_a_number_that_moves_on_after_training_is_progress(kind: str) -> None:
    lines = with_last_lines(WORK_AFTER_TRAINING[kind])
    assert parse(lines).log.stall is None
    assert parse([*lines, *(f"2026-03-05 11:{k}:00 alive" for k in range(10, 50))]).log.stall is not None


@pytest.mark.parametrize("kind", NO_WORK)
def test_times_durations_and_loads_are_no_progress(kind: str) -> None:
    assert parse(with_last_lines(NO_WORK[kind])).log.stall is not None


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (["10:10:05", "10:10:04", "10:10:05"], [0, -1, 0]),
        (["23:59:59", "00:00:01", "23:59:59", "00:00:02"], [0, 2, 0, 3]),
        (["0228 23:59:59", "0301 00:00:00"], [0, 1]),
        (["0228 23:59:59", "0229 00:00:00", "0301 00:00:00"], [0, 1, 86401]),
        (["1231 23:59:59", "0101 00:00:00", "1231 23:59:59", "0101 00:00:00"], [0, 1, 365 * 86400, 365 * 86400 + 1]),
        (["2025-12-31 23:59:59", "2026-01-01 00:00:00"], [0, 1]),
    ],
)
def test_printed_times_follow_the_calendar(times: list[str], seconds: list[float]) -> None:
    calendar = Calendar()
    values = [calendar.seconds(time) for time in times]
    assert [value - values[0] for value in values] == seconds


@pytest.mark.parametrize(("first", "completed"), [(0, True), (1, False)])
def test_epochs_may_be_counted_from_0(first: int, completed: bool) -> None:
    assert parse(epochs(first, 49)).log.completed is completed


def run_on(device: str) -> RunMetric:
    """Return the plan of a run on a device."""
    return RunMetric(
        seq=0,
        step=0,
        epoch=0,
        at=0.0,
        steps_per_epoch=10,
        total_steps=100,
        warmup_steps=0,
        start_total=1.0,
        device=device,
    )


def test_the_log_never_outweighs_device_and_exit_code() -> None:
    """A line about GPU memory cannot explain a run on a CPU, nor one that SIGKILL ended."""
    lines = traceback("fake error: CUDA out of memory")
    killed = Health(state="died", sentence="killed by signal 9", reason="signal")
    failed = Health(state="failed", sentence="ended with code 1; see `giblet logs`", reason="exit")
    for device, health in (("cpu", killed), ("cpu", failed), ("cuda", killed)):
        causes = diagnose(None, [run_on(device)], health=health, log_tail=lines).causes
        assert [c.cause for c in causes] == ["crashed"]
    assert diagnose(None, [run_on("cuda")], health=failed, log_tail=lines).causes[0].cause == "oom_gpu"


def test_actions_name_the_run() -> None:
    failed = Health(state="failed", sentence="ended with code 1", reason="exit")
    log_tail = traceback("KeyError: 'a'")
    own = diagnose(Config(name="demo"), [], health=failed, log_tail=log_tail, run_id="demo-1").causes[0]
    assert "`giblet logs demo-1`" in own.action and "with `--resume demo-1`" in own.action
    command = diagnose(None, [], health=failed, log_tail=log_tail, run_id="demo-1").causes[0]
    assert "`giblet logs demo-1`" in command.action and "--resume" not in command.action
    _, diagnosis = judged(log_of(traceback("KeyError: 'a'")))
    assert "giblet" not in diagnosis.causes[0].action


@pytest.mark.parametrize(
    "line",
    ["Trigger Early Stop!", "No improvement in 8 epochs, stopping training.", "Patience exhausted. Best epoch 16."],
)
def test_early_stopping_is_recognised_in_other_words(line: str) -> None:
    assert statement_of(line) == "early_stop"


@pytest.mark.parametrize("line", ["patience: 8", "EarlyStopping counter: 3 out of 10", "No improvement in 3 epochs"])
def test_a_setting_or_counter_is_not_an_end(line: str) -> None:
    assert statement_of(line) == ""
