"""The brain pane: three projections of a map, with a cursor that names place, region and value."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from giblet_train.schema.errors import GibletError
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, join_parts
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.reporting import brain_view
from giblet_tui.reporting.brain_view import BrainVolume, Cell

WORDS_ROWS = 3
BETWEEN = (Cell(" ", None, None),) * 2
"""Between the categories of the key."""


class BrainPane(Pane):
    """Brain maps of the run; they change at each validation."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(0, -1)", show=False),
        Binding("right", "move(0, 1)", show=False),
        Binding("up", "move(2, 1)", show=False),
        Binding("down", "move(2, -1)", show=False),
        Binding("left_square_bracket", "move(1, -1)", "towards the back", show=False, id="brain_back"),
        Binding("right_square_bracket", "move(1, 1)", "towards the front", show=False, id="brain_front"),
        Binding("m", "next_map", "next map", show=False, id="brain_map"),
        Binding("home", "peak", "to the peak", show=False, id="brain_peak"),
    ]
    KEYS: ClassVar[tuple[str, ...]] = ("m map", "arrows [ ] cursor", "home peak")

    _map_name = "r"
    _cursor: tuple[int, int, int] | None = None

    def title(self) -> Content:
        volume = self._volume()
        if volume is None:
            return join_parts(("brain", "bold"))
        words = f"  {volume.brain_map.title}, step {volume.record.step:,}"
        return join_parts(("brain", "bold"), (words, styles.MUTED))

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        volume = self._volume()
        if volume is None:
            words = "no map yet: the run writes one at its first validation, unless its heads are sharded"
            return [join_parts((words, styles.MUTED))]
        voxel = self._place(volume)
        n_rows = max(1, height - WORDS_ROWS)
        key = [cell for entry in brain_view.key_cells(volume) for cell in (*entry, *BETWEEN)]
        return [
            *map(_line, brain_view.draw(volume, width, n_rows, dark=self._palette != "light", cursor=voxel)),
            join_parts((brain_view.view_labels(volume, width, n_rows), styles.MUTED)),
            _line(key[:width]),
            join_parts(brain_view.place_words(volume, voxel)),
        ]

    def action_move(self, axis: int, step: int) -> None:
        """Move the cursor by a voxel: axis 0 to the right, 1 to the front, 2 up."""
        volume = self._volume()
        if volume is None:
            return
        place = list(self._place(volume))
        place[axis] = max(0, min(volume.code_XYZ.shape[axis] - 1, place[axis] + step))
        self._cursor = (place[0], place[1], place[2])
        self.update_content()

    def action_peak(self) -> None:
        """Move the cursor to the largest value."""
        self._cursor = None
        self.update_content()

    def action_next_map(self) -> None:
        """Show the next map of the run."""
        record = self.view.run.brain if self.view is not None else None
        names = list(record.maps) if record is not None else []
        if names:
            place = names.index(self._map_name) if self._map_name in names else -1
            self._map_name = names[(place + 1) % len(names)]
            self.update_content()

    def _volume(self) -> BrainVolume | None:
        record = self.view.run.brain if self.view is not None else None
        if record is None or not record.maps:
            return None
        name = self._map_name if self._map_name in record.maps else next(iter(record.maps))
        try:
            return brain_view.decode_map(record, name)
        except GibletError:
            return None

    def _place(self, volume: BrainVolume) -> tuple[int, int, int]:
        """Return the cursor inside the grid; the peak until it is moved."""
        if self._cursor is None:
            return volume.peak
        x, y, z = (min(n, size - 1) for n, size in zip(self._cursor, volume.code_XYZ.shape, strict=True))
        return x, y, z


def _line(cells: list[Cell]) -> Content:
    parts: list[Part] = []
    for cell in cells:
        style = " on ".join(_hex(color) for color in (cell.front, cell.back) if color is not None)
        parts.append((cell.glyph, style) if style else cell.glyph)
    return join_parts(*parts)


def _hex(color: brain_view.RGB) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in color)
