"""Health, a row for each combination of signals that means something different."""

import msgspec
import pytest

from giblet_train.schema.config import WatchConfig
from giblet_train.schema.health import Signals, State, duration, health_of, stall_after_s
from giblet_train.schema.records import Exit, Heartbeat, TrainerState

NOW = 10_000.0


def beat(
    state: TrainerState, age: float = 1.0, step_s: float | None = 0.5, why: str = "", phase: str = ""
) -> Heartbeat:
    return Heartbeat(state=state, step=7, epoch=1, phase=phase, at=NOW - age, pid=1, boot_id="b", start_ticks=1,
                     step_s=step_s, why=why)  # fmt: skip


def last_fit(age: float) -> Heartbeat:
    return beat("validating", age, phase="solving the heads")


def ended(**facts: object) -> Exit:
    return Exit(run_id="r", ended_at=NOW - 5, **facts)  # type: ignore[arg-type]


ROWS: list[tuple[str, dict[str, object], State, str]] = [
    ("just launched", {"process": None}, "starting", "launched"),
    ("supervisor not seen yet", {"process": False, "launched_at": NOW - 3}, "starting", "not seen yet"),
    ("supervisor gone at once", {"process": False, "supervised": True, "launched_at": NOW - 3}, "died", "is gone"),
    ("loading", {"process": True, "heartbeat": beat("loading", 500)}, "starting", "loading"),
    ("training", {"process": True, "heartbeat": beat("training")}, "running", "heartbeat 1s ago"),
    ("late but within its own pace", {"process": True, "heartbeat": beat("training", 100, 30.0)}, "running", ""),
    ("no step for long", {"process": True, "heartbeat": beat("training", 130)}, "stalled", "one was due within"),
    ("slow run, no step for long", {"process": True, "heartbeat": beat("training", 700, 30.0)}, "stalled", "10m"),
    ("process cannot be looked at, late", {"process": None, "heartbeat": beat("training", 300)}, "stalled", "no step"),
    ("saving, though long", {"process": True, "heartbeat": beat("saving", 600)}, "running", "saving"),
    ("the last fit, though long", {"process": True, "heartbeat": last_fit(600)}, "running", "solving the heads"),
    ("the last fit without an end", {"process": True, "heartbeat": last_fit(1000)}, "stalled", "the heads for 16m"),
    ("validating between epochs", {"process": True, "heartbeat": beat("validating", 600)}, "stalled", "no step for"),
    ("saving without an end", {"process": True, "heartbeat": beat("saving", 1000)}, "stalled", "saving for 16m"),
    ("never a heartbeat", {"process": True, "launched_at": NOW - 1000}, "stalled", "no heartbeat"),
    ("finished", {"process": False, "heartbeat": beat("finished"), "exit": ended(code=0)}, "finished", "all its steps"),
    ("finished before its plan", {"process": False, "heartbeat": beat("finished", why="stopped early at step 9"),
                                  "exit": ended(code=0)}, "finished", "stopped early at step 9"),
    ("stopped", {"process": False, "heartbeat": beat("stopped"), "exit": ended(code=0)}, "stopped", "on request"),
    ("forced to stop", {"process": False, "heartbeat": beat("training"), "exit": ended(signal=9, stop_requested=True)},
     "stopped", "on request"),
    ("failed before it heeded a stop", {"process": False, "heartbeat": beat("failed", why="NaN in audio"),
                                        "exit": ended(code=1, stop_requested=True, by_itself=True)}, "failed", "NaN"),
    ("failed, then forced to stop", {"process": False, "heartbeat": beat("failed", why="NaN in audio"),
                                     "exit": ended(signal=9, stop_requested=True, by_itself=True)}, "failed", "NaN"),
    ("failed, its supervisor killed, then stopped", {"process": False, "heartbeat": beat("failed", why="no room"),
                                                     "exit": ended(stop_requested=True, by_itself=True)}, "failed", ""),
    ("failed before a heartbeat and a stop", {"process": False, "exit": ended(code=2, stop_requested=True,
                                                                              by_itself=True)}, "failed", "code 2"),
    ("out of memory before a stop", {"process": False, "heartbeat": beat("training"), "exit": ended(
        signal=9, oom_kills=1, stop_requested=True, by_itself=True)}, "died", "want of memory"),
    ("heeded a stop", {"process": False, "heartbeat": beat("stopped"), "exit": ended(code=0, stop_requested=True,
                                                                                     by_itself=True)}, "stopped", ""),
    ("another node told it to stop", {"process": False, "exit": ended(code=75, stop_requested=True, by_itself=True)},
     "stopped", "on request"),
    ("told to stop while it loaded", {"process": False, "heartbeat": beat("loading"),
                                      "exit": ended(code=1, stop_requested=True)}, "stopped", "on request"),
    ("failed in words", {"process": False, "heartbeat": beat("failed", why="NaN in audio"), "exit": ended(code=1)},
     "failed", "NaN in audio"),
    ("failed before a heartbeat", {"process": False, "exit": ended(code=2)}, "failed", "code 2"),
    ("killed", {"process": False, "heartbeat": beat("training"), "exit": ended(signal=9)}, "died", "signal 9"),
    ("out of memory", {"process": False, "heartbeat": beat("training"), "exit": ended(signal=9, oom_kills=1)}, "died",
     "want of memory"),
    ("survivors", {"process": False, "heartbeat": beat("stopped"), "exit": ended(code=0, survivors=(4, 5))}, "died",
     "pid 4, 5 survives"),
    ("closed by a stop", {"process": False, "heartbeat": beat("training"), "exit": ended()}, "died", "exit record"),
    ("supervisor gone", {"process": False, "heartbeat": beat("training"), "session": True}, "died", "session is still"),
    ("rebooted", {"process": False, "heartbeat": beat("training"), "rebooted": True}, "died", "rebooted"),
    ("unreachable is not dead", {"process": False, "heartbeat": beat("training"), "unreachable_since": NOW - 240},
     "unknown", "not heard for 4m"),
    ("ended before the link was lost", {"process": False, "heartbeat": beat("finished"), "exit": ended(code=0),
                                        "unreachable_since": NOW - 240}, "finished", ""),
    ("done, processes ending", {"process": True, "heartbeat": beat("finished")}, "running", "are ending"),
]  # fmt: skip


@pytest.mark.parametrize(("signals", "state", "words"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_a_state_for_each_set_of_signals(signals: dict[str, object], state: State, words: str) -> None:
    health = health_of(Signals(**{"now": NOW, "launched_at": NOW - 60, **signals}), WatchConfig())  # type: ignore[arg-type]
    assert health.state == state
    assert words in health.sentence


def test_a_heartbeat_from_a_clock_ahead_is_not_stale() -> None:
    signals = Signals(now=NOW, launched_at=NOW - 60, process=True, heartbeat=beat("training", age=-7200))
    assert health_of(signals, WatchConfig()).state == "running"


def test_the_limit_follows_the_runs_own_pace() -> None:
    watch = WatchConfig(stall_factor=20, stall_min_s=120)
    assert stall_after_s(None, watch) == 120
    assert stall_after_s(0.1, watch) == 120
    assert stall_after_s(60, watch) == 1200


def test_health_is_frozen() -> None:
    health = health_of(Signals(now=NOW, launched_at=NOW, process=None), WatchConfig())
    with pytest.raises(AttributeError):
        health.state = "died"  # type: ignore[misc]
    assert msgspec.to_builtins(health)["state"] == "starting"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0s"), (8.4, "8s"), (61, "1m 01s"), (240, "4m 00s"), (900, "15m"), (11100, "3h 05m"), (187200, "2d 4h")],
)
def test_durations_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words
