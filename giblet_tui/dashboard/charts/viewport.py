"""How charts look at a run: window, axis, scale, smoothing and crosshair, shared by all panels. Pure and frozen.

The x axis counts optimizer steps, epochs, or seconds; a window that ends at the newest value follows a live run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from giblet_tui.monitor.metric_columns import Curves, Floats, Range

AxisKind = Literal["step", "epoch", "since launch", "clock"]
AXES: tuple[AxisKind, ...] = ("step", "epoch", "since launch", "clock")
DECAYS = (0.0, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99)
DEFAULT_DECAY = 0.9
SMALLEST_SHARE = 1e-4


@dataclass(frozen=True)
class Viewport:
    """Window, axis, scale, smoothing and crosshair. Places are fractions of the whole axis."""

    axis: AxisKind = "step"
    log: bool = False
    """Whether the y axis is logarithmic."""
    decay: float = DEFAULT_DECAY
    """Decay of the moving average; 0 for none."""
    share: float = 1.0
    """Fraction of the whole axis that the window spans."""
    end: float | None = None
    """Right edge of the window; None to follow the newest value."""
    cursor: float | None = None
    """Place of the crosshair; None while it is off."""

    def window(self, whole: Range) -> Range:
        """Return the visible part of the whole axis."""
        last = whole.last if self.end is None else whole.first + self.end * whole.span
        return Range(last - self.share * whole.span, last)

    def zoomed(self, factor: float, around: float | None = None) -> Viewport:
        """Return the window `factor` times as wide: around a place, else around the crosshair, else with its end fixed.

        Args:
            factor: Below 1 is closer.
            around: Fraction of the whole axis.
        """
        share = min(1.0, max(SMALLEST_SHARE, self.share * factor))
        if share >= 1.0:
            return replace(self, share=1.0, end=None)
        anchor = self.cursor if around is None else around
        if anchor is None:
            return self._within(share, self.end)
        end = 1.0 if self.end is None else self.end
        return self._within(share, anchor + (end - anchor) * share / self.share)

    def panned(self, windows: float) -> Viewport:
        """Return the window moved by a fraction of its own width; at the newest value it follows again."""
        end = 1.0 if self.end is None else self.end
        return self._within(self.share, end + windows * self.share)

    def move_cursor(self, windows: float) -> Viewport:
        """Return the crosshair moved by a fraction of the window, inside the window."""
        end = 1.0 if self.end is None else self.end
        cursor = end if self.cursor is None else self.cursor + windows * self.share
        return replace(self, cursor=min(end, max(end - self.share, cursor)))

    def toggle_cursor(self) -> Viewport:
        """Return the crosshair switched on, at the newest value in the window, or off."""
        end = 1.0 if self.end is None else self.end
        return replace(self, cursor=end if self.cursor is None else None)

    def to_axis_fraction(self, around: float) -> float:
        """Return a place in the window, from 0 to 1, as a fraction of the whole axis."""
        end = 1.0 if self.end is None else self.end
        return end - self.share + around * self.share

    def with_cursor_at(self, around: float) -> Viewport:
        """Return the crosshair at a place in the window, from 0 to 1."""
        return replace(self, cursor=self.to_axis_fraction(around))

    def center_on(self, cursor: float) -> Viewport:
        """Return the crosshair at a fraction of the whole axis, and the window moved to contain it."""
        end = 1.0 if self.end is None else self.end
        if end - self.share <= cursor <= end:
            return replace(self, cursor=cursor)
        return replace(self._within(self.share, cursor + self.share / 2), cursor=cursor)

    def smoother(self, by: int) -> Viewport:
        """Return the next (by = 1) or previous (by = -1) strength of smoothing."""
        index = DECAYS.index(self.decay) + by
        return replace(self, decay=DECAYS[min(len(DECAYS) - 1, max(0, index))])

    def other_axis(self) -> Viewport:
        """Return the next kind of x axis, with window and crosshair reset: they are fractions of another whole."""
        axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
        return replace(self, axis=axis, share=1.0, end=None, cursor=None)

    def show_all(self) -> Viewport:
        """Return a window with all of the run, following its newest value."""
        return replace(self, share=1.0, end=None)

    def _within(self, share: float, end: float | None) -> Viewport:
        if end is not None:
            end = min(1.0, max(share, end))
        return replace(self, share=share, end=None if end is None or end >= 1.0 else end)


def x_of(step_N: Floats, at_N: Floats, axis: AxisKind, steps_per_epoch: int, launched_at: float) -> Floats:
    """Return the places of records on the axis: steps, epochs, seconds since the launch, or seconds since 1970."""
    if axis == "step":
        return step_N
    if axis == "epoch":
        return step_N / steps_per_epoch
    return at_N - launched_at if axis == "since launch" else at_N


def whole_axis(curves: Curves, axis: AxisKind, steps_per_epoch: int, launched_at: float) -> Range:
    """Return the axis from the run's beginning to its newest record, at least one unit long."""
    steps = x_of(curves.step_N, curves.at_N, axis, steps_per_epoch, launched_at)
    epochs = x_of(curves.epoch_step_E, curves.epoch_at_E, axis, steps_per_epoch, launched_at)
    ends = [float(x[k]) for x in (steps, epochs) if len(x) for k in (0, -1)]
    if not ends:
        return Range(0.0, 1.0)
    first = launched_at if axis == "clock" else min(0.0, *ends)
    first = min(first, *ends)
    return Range(first, max(max(ends), first + 1.0))
