"""Read a log line by line: `LogReader` combines the parser, the table of epochs and the scan of the end."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from giblet_train.diagnosis.log_reader import end_patterns
from giblet_train.diagnosis.log_reader.collapse import Collapse, CollapseWatch
from giblet_train.diagnosis.log_reader.data_wait import DataWait, DataWaitWatch
from giblet_train.diagnosis.log_reader.end_scan import EndScan, LogEnd
from giblet_train.diagnosis.log_reader.epoch_table import FEWEST_EPOCHS, NAMELESS, EpochRow, EpochTable
from giblet_train.diagnosis.log_reader.line_columns import LineColumns
from giblet_train.diagnosis.log_reader.line_parser import LineParser, in_english
from giblet_train.diagnosis.log_reader.line_prefix import MAX_LINE, clean, message_of, split_prefix, without_addresses
from giblet_train.diagnosis.log_reader.line_shape import LineShapes
from giblet_train.diagnosis.log_reader.metric_watch import MetricCourse, MetricWatch
from giblet_train.diagnosis.log_reader.observation import Observation
from giblet_train.diagnosis.log_reader.speed_watch import Slowdown, SpeedWatch, has_speed
from giblet_train.diagnosis.log_reader.stall import Stall, StallWatch
from giblet_train.diagnosis.log_reader.traceback import is_part
from giblet_train.diagnosis.log_reader.value_watch import ValueRow, ValueWatch

UNREAD_SHOWN = 3
BARS_PER_READING = 8
"""Of this many progress bars with the same title in a row, one is read."""
BARS_AFTER_ERROR = 3
"""Positions of a progress bar that show progress after an error: a bar is printed once more when it is closed."""
EPOCHS_AFTER_ERROR = 2
"""Epochs whose bars show the same; the bar of one may be that of the epoch with the error."""
_BAR_COUNT = re.compile(r"%\|[^|]*\|\s*(\d{1,12})/(\d{1,12})\b")
_BREAK = re.compile(r"[\r\n\b]+")
_GLUED = re.compile(
    r"(?<=\S)(?=Epoch[ :]\s*\[?\d+\s*/\s*\d+\]?\s*[|,:])"
    r"|(?<=\d)(?=Epoch \d{1,9}\b)"
    r"|(?<=[\w)])(?=step \d{1,9} ?/ ?\d{1,9}\b)"
    r"|(?<=[\d\])])(?=(?:WARNING|ERROR|CRITICAL):[\w.]+:|Traceback \(most recent call last\):)"
)
"""Where two ranks printed an epoch line each into one line, or a program prints no line breaks."""
_BAR_BEFORE_TEXT = re.compile(r"([^{]*?\d%\|[^|]*\|[^\[\]]*\[[^\[\]]*\])\s*(\S.*)$")
"""A progress bar after which another stream printed into the same line."""
_BAR_OF_EPOCH = re.compile(r"\btrain\w*\W?loss.*\b(?:val|test)|\b(?:val|test)\w*\W?loss.*\btrain", re.IGNORECASE)
"""A progress bar that shows losses of training and validation, and may therefore count epochs."""
_PLAN = re.compile(
    r"(?:^|[,{(;|.]|--)\s{0,8}['\"]?(?:(?:num|n|max|total|nb|number of)[_ .-]?(?:train(?:ing)?[_ ])?epochs?|epochs)"
    r"['\"]?(?:\s{0,3}[:=]\s{0,3}|\s{1,3})(\d{1,6})(?![\w.])",
    re.IGNORECASE,
)
"""Planned number of epochs in a line of settings."""
_PLANNED_STEPS = re.compile(
    r"(?<![\w.])(?:max_iter|max_steps|total_steps|num_train_steps|num_steps)['\"]?\s?[:=]\s?(\d{1,9})\b"
)
"""Planned number of steps in a line of settings."""
_RATE_TEST = re.compile(
    r"finding best initial lr|\blr[ _-]?find(?:er|ing)?\b|\b(?:lr|learning rate) (?:range test|finder)\b", re.IGNORECASE
)
"""A test of learning rates before the training, whose loss explodes by design."""
_FOLD = re.compile(
    r"[\W_]*(?:(?:start\w*|begin\w*|train\w*|run\w*|outer|inner|cv|sub-\w+|on|for)[\W_]+){0,3}"
    r"(fold|split|subject|participant|repeat|repetition|trial|seed)[\W_]{0,3}(\d{1,4})\b",
    re.IGNORECASE,
)
"""Heading of another training in the same log, such as `Fold 2/5`."""
_RESULT = re.compile(
    r"(?:\s?(?:/|of)\s?\d{1,4})?[\s:|,=(-]{0,4}(?:[a-z]{1,20}[\s_-]){0,3}"
    r"(?:acc\w*|auc|auroc|f1|loss|r2?|corr\w*|pearson\w*|kappa|score|[rm]?mse|mae|error|precision|recall|dice|iou)"
    r"\s{0,3}[:=]?\s{0,3}[-+]?\d*[.,]?\d",
    re.IGNORECASE,
)
"""What follows a heading that is none, as in `Subject 1: accuracy 0.52`."""
_ROUNDED_RATE = re.compile(r"\b(?:lr|learning[ _]?rate)\b\W{0,6}(0\.0{2,6})(?![\de])", re.IGNORECASE)
"""A learning rate of which no digit is left."""
_ZERO_RATE = re.compile(
    r"\b(?:lr|learning[ _]?rate)\b\W{0,6}(0|0\.0|0?\.0+e[-+]?0+|0e[-+]?0+)(?![\d.e])", re.IGNORECASE
)
"""A learning rate of 0 in a notation that does not round small ones to it, unless the program rounds them itself."""
_NUMBER_IN_FRONT = re.compile(r"\s*\d{1,4}:\s*")
_OF_TRACKER = re.compile(r"(?:(?:\[[\d;]*m)?wandb(?:\[0m)?|COMET [A-Z]+|ClearML [A-Z]\w+): ")
"""Start of a line of an experiment tracker, which repeats the last figures when the program ends, however it ends."""
_HAS_NUMBER = re.compile(r"\d|\bnan\b|\binf\b", re.IGNORECASE)
_DECIMAL = re.compile(r"\d[.,]\d")


class UnreadLine(NamedTuple):
    """A line that prints a loss which cannot be read."""

    number: int
    """Number of the line, from 1."""
    text: str


class TrainingLog(NamedTuple):
    """What a log shows of a training."""

    rows: Tuple[EpochRow, ...] = ()
    step_blocks: Tuple[EpochRow, ...] = ()
    """Blocks of steps, in a log with few epochs; numbered from 1."""
    n_epochs: int = 0
    """Planned number of epochs, as printed; 0 if not printed."""
    n_steps: int = 0
    """Planned number of steps, in a log that counts steps only; 0 if not printed."""
    steps_per_epoch: Optional[int] = None
    end: LogEnd = LogEnd()
    collapse: Optional[Collapse] = None
    stall: Optional[Stall] = None
    """Time without progress in which the log ends; None without one, or without printed times."""
    data_wait: Optional[DataWait] = None
    """How long recent steps waited for data; None if the log does not print it."""
    slowdown: Optional[Slowdown] = None
    """Lasting loss of speed in which the log ends; None without one, or without printed speeds."""
    metric_courses: Tuple[MetricCourse, ...] = ()
    """Metrics of known direction, such as accuracies."""
    value_rows: Tuple[ValueRow, ...] = ()
    """Every named number that is no loss, for the charts."""
    restarted: bool = False
    folds: Tuple["Tuple[str, TrainingLog]", ...] = ()
    """(heading, training) of each earlier fold, subject or repetition that the same log holds."""
    fold: str = ""
    """Heading of the fold that this training is, such as `fold 5`."""
    is_blocks: bool = False
    """True if the rows are blocks of steps, because the log counts no epochs."""
    rounded_rate: str = ""
    """A learning rate of 0 as printed, such as `0.0000`, if its digits would not show a small one; else empty."""
    zero_rate: str = ""
    """A learning rate of 0 in a notation without a fixed number of digits, such as `0.0` or `0e+00`; else empty."""
    balanced_rows: Tuple[EpochRow, ...] = ()
    """Epochs, or blocks of steps, of losses that balance each other."""
    summed_parts: Tuple[str, ...] = ()
    """Parts of the loss whose sum is taken for the total, because no total is printed."""
    is_adversarial: bool = False
    """True if only losses are printed that balance each other, as those of generator and discriminator."""
    is_nameless: bool = False
    """True if no name says what its numbers are: the first of each epoch is taken for the training loss."""
    assumed_loss: str = ""
    """Name of the number that is then taken for the training loss; empty if it has none."""
    unknown_names: Tuple[str, ...] = ()
    """Names of numbers that are printed again and again, and mean nothing here."""
    validation_only: bool = False
    """True if only validation losses are printed; they are then taken for the training loss."""
    unread: Tuple[UnreadLine, ...] = ()
    """First lines whose loss cannot be read."""
    n_unread: int = 0
    n_lines: int = 0
    cut_row: str = ""
    """Last row of a table that is cut off; empty if all are whole."""
    span: Optional[Tuple[float, float]] = None
    """First and last epoch; in a log without epochs its steps, None without them."""
    n_logs: int = 1
    """Logs of successive starts that were read as one training."""
    last_epoch: Optional[int] = None
    """Last epoch that the log mentions, complete or not."""

    @property
    def completed(self) -> bool:
        """Return True if the last planned epoch was printed, counting from 0 or from 1."""
        if not self.n_epochs or not self.rows or self.is_blocks:
            return False
        first, last = self.rows[0].epoch, self.rows[-1].epoch
        return last >= self.n_epochs or (first == 0 and last == self.n_epochs - 1)


class LogReader:
    """Reads the lines of a log in their order, however many at a time."""

    def __init__(self, separates_folds: bool = True) -> None:
        """Prepare to read.

        Args:
            separates_folds: Begin another training at each heading of a fold; a log that is followed is one course.
        """
        self._separates_folds = separates_folds
        self._folds: List[Tuple[str, TrainingLog]] = []
        self._fold = ""
        self._headings: List[str] = []
        self._known_headings: Set[str] = set()
        self._before_heading: Optional[TrainingLog] = None
        self.table = EpochTable()
        self._columns = LineColumns()
        self._parser = LineParser()
        self._shapes = LineShapes()
        self._scan = EndScan()
        self._collapse = CollapseWatch()
        self._data_wait = DataWaitWatch()
        self._metrics = MetricWatch()
        self._values = ValueWatch()
        self._speed = SpeedWatch()
        self._stall = StallWatch()
        self._rounded_rate, self._zero_rate = "", ""
        self._bars_after_error: Dict[str, Set[Tuple[Optional[float], int]]] = {}
        self._unread: List[UnreadLine] = []
        self._n_unread, self._n_lines = 0, 0
        self._unnamed: Optional[UnreadLine] = None
        self._bar, self._bar_title, self._n_bars = "", "", 0
        self._cut_row = ""

    def feed(self, text: str) -> None:
        """Read a line, which may hold several separated by carriage returns."""
        self._n_lines += 1
        pieces = _BREAK.split(text) if "\r" in text or "\n" in text or "\b" in text else (text,)
        for piece in pieces if len(text) < MAX_LINE else [part for long in pieces for part in _GLUED.split(long)]:
            clean_line = clean(message_of(piece))
            bar = _BAR_BEFORE_TEXT.match(clean_line) if "%|" in clean_line else None
            if bar:
                self._feed_bar(bar[1])
                clean_line = bar[2]
            if "%|" in clean_line:
                self._feed_bar(clean_line)
            elif clean_line:
                self.flush()
                for part in _GLUED.split(clean_line):
                    self._feed_line(part)

    @property
    def course(self) -> EpochTable:
        """Return the table of epochs or steps: as words name them, else as the structure of the lines shows them."""
        inferred_table = self._columns.table()
        if inferred_table is None or self.table.is_balanced or not inferred_table.rows():
            return self.table
        if inferred_table.is_nameless and self._metrics.has_course:
            return self.table
        rows = self.table.rows()
        is_named = len(rows) >= FEWEST_EPOCHS and self.table.epoch is not None
        is_counted = bool(rows) and self.table.epoch is None and self.table.has_counter
        is_counted = is_counted and (inferred_table.epoch is None or self._columns.is_explained)
        return self.table if is_named or is_counted or len(rows) > len(inferred_table.rows()) else inferred_table

    def flush(self) -> None:
        """Read the line that is kept back."""
        if self._bar:
            bar, self._bar = self._bar, ""
            self._feed_line(bar)

    def _feed_bar(self, text: str) -> None:
        """Hold back a progress bar, because only the last of several with the same title is read."""
        title = text.partition("%|")[0].rstrip("0123456789 ")
        self._n_bars += 1
        is_epoch = title.lower().rstrip(": ").endswith(("epoch", "epochs")) or _BAR_OF_EPOCH.search(text) is not None
        is_read = is_epoch or self._scan.has_errors
        if is_read or title != self._bar_title or self._n_bars >= BARS_PER_READING:
            self.flush()
            self._bar_title, self._n_bars = title, 0
        self._bar = text

    def feed_record(self, record: Dict[str, Any]) -> None:
        """Read a row of a table, or a JSON object."""
        self._n_lines += 1
        observation = self._parser.record(record)
        text = ", ".join(f"{name}: {item}" for name, item in record.items())
        self._metrics.add(text, observation)
        self._values.add(text, observation)
        if observation is not None:
            self._note_zero_rate(", ".join(f"{name} {item}" for name, item in record.items()))
            epoch_before = self.table.epoch
            if self._add(observation):
                self._scan.progress(is_new_epoch=self.table.epoch != epoch_before)

    def note_cut_row(self, text: str) -> None:
        """Take note of a last row of a table that is not whole: its numbers may lack digits."""
        self._n_lines += 1
        self._cut_row = text.strip()[:300]

    def learn_comma(self, text: str) -> None:
        """Take note of decimal commas or points in a sample of the log."""
        self._parser.learn_comma(text)

    def result(self) -> TrainingLog:
        """Return what was read so far."""
        self.flush()
        if self._folds and not self.course.rows():
            heading, last = self._folds[-1]
            return last._replace(end=self._scan.result(), folds=tuple(self._folds[:-1]), fold=heading)
        return self._training()._replace(folds=tuple(self._folds), fold=self._fold if self._folds else "")

    def _training(self) -> TrainingLog:
        table = self.course
        rows = table.rows()
        unread = list(self._unread)
        courses = self._metrics.result() or self._columns.courses()
        if not (rows or unread or courses) and self._unnamed is not None:
            unread = [self._unnamed]
        return TrainingLog(
            rows=rows,
            step_blocks=table.step_blocks() if not table.is_blocks else (),
            n_epochs=table.n_epochs,
            n_steps=table.n_steps,
            steps_per_epoch=table.steps_per_epoch,
            end=self._scan.result(),
            collapse=(self._columns.collapse.result() if table.is_inferred else None) or self._collapse.result(),
            stall=self._stall.result(),
            data_wait=self._data_wait.result(),
            slowdown=self._speed.result(),
            metric_courses=courses,
            value_rows=self._values.result(table.is_blocks, _part_names(rows)),
            restarted=table.restarted,
            is_blocks=table.is_blocks,
            rounded_rate=self._rounded_rate,
            zero_rate=self._zero_rate,
            balanced_rows=table.balanced_rows,
            summed_parts=table.summed_parts,
            is_adversarial=table.is_adversarial,
            is_nameless=table.is_nameless,
            assumed_loss=table.assumed_loss,
            unknown_names=self._columns.unknown_names(),
            validation_only=table.validation_only,
            unread=tuple(unread),
            n_unread=max(self._n_unread, len(unread)),
            n_lines=self._n_lines,
            cut_row=self._cut_row,
            span=table.span,
            last_epoch=table.epoch,
        )

    def _feed_line(self, raw: str) -> None:
        line = split_prefix(raw)
        if line.rank is not None:
            self._scan.note_rank(line.rank)
        text = in_english(without_addresses(line.text))
        is_frame = self._scan.in_traceback and is_part(line.text)
        shape, numbers = self._shapes.shape_of("" if is_frame else text)
        is_known = shape is not None and shape.is_plain
        is_statement = not is_known and (_is_statement(line.text) or _RATE_TEST.search(line.text) is not None)
        is_foreign = is_frame or _OF_TRACKER.match(line.text) is not None
        has_number = not (is_statement or is_foreign) and (
            self._parser.in_box or _HAS_NUMBER.search(line.text) is not None
        )
        observation = self._parser.parse(text, shape, numbers) if has_number else None
        if shape is not None and not is_known:
            shape.is_plain = observation is not None and bool(observation.values) and text == line.text
        has_metric = False
        if not has_number:
            self._parser.note_heading(line.text)
        else:
            row_text = self._parser.row_text
            has_metric = self._metrics.add(row_text or text, observation, None if row_text else shape)
            if row_text:
                self._values.add(row_text, observation)
            else:
                self._values.add(text, observation, shape, numbers)
        if not self.table.n_epochs and not self.table.has_counter and not _has_course(observation):
            self._note_plan(line.text)
        if self._separates_folds and (observation is None or not observation.values):
            self._note_fold(line.text)
        if observation is not None:
            self._settle_headings(observation)
            self._data_wait.add(line.text)
            self._note_zero_rate(line.text)
        epoch_before, step_before = self.table.epoch, self.table.step
        is_progress = observation is not None and not self._is_detail(observation) and self._add(observation)
        counts_on = not (is_statement or self._scan.in_traceback) and self._columns.add(
            _with_number(raw, text), observation
        )
        if is_progress and (has_speed(line.text) if shape is None else shape.has("speed", has_speed, line.text)):
            self._speed.add(line.text, self.table.epoch, self.table.step, self._n_lines)
        if observation is not None and observation.unreadable:
            self._note_unread(raw)
        elif observation is not None and observation.epoch is not None and not (has_metric or _has_names(observation)):
            self._note_unnamed(raw, text)
        if "verflow" in line.text or "OVERFLOW" in line.text or "scale" in line.text:
            self._collapse.add_text(line.text)
        if is_progress and self._scan.has_errors:
            is_progress = not _is_all_lost(observation) and self._has_moved(line.text, observation)
        is_progress = is_progress or counts_on
        self._stall.add(line, is_progress)
        if is_progress:
            self._bars_after_error.clear()
            is_later_step = (
                epoch_before is None and bool(observation and observation.values) and self.table.step > step_before
            )
            self._scan.progress(self.table.epoch != epoch_before or is_later_step, line.at)
            return
        if observation is not None and observation.final and not self._scan.has_errors:
            self._scan.note_end(line)
        if line.text.startswith("{") or "loss_dict" in line.text:
            self._scan.note_parts(line.text)
        is_quiet = observation is not None and (observation.values or observation.kind in ("bar", "keras"))
        if is_quiet and end_patterns.cause_of(line.text) in (None, "nan") and not is_statement:
            return
        if end_patterns.RESUMED.search(line.text) or self._scan.has_errors:
            self.table.disturb()
        self._scan.add(line, raw)

    def _has_moved(self, text: str, observation: Optional[Observation]) -> bool:
        """Return True for a line after an error that shows progress: of a bar, several positions or epochs do."""
        bar = _BAR_COUNT.search(text)
        if bar is None:
            return True
        places = self._bars_after_error.setdefault(bar[2], set())
        places.add((observation.epoch if observation is not None else None, int(bar[1])))
        epochs = {epoch for epoch, _ in places if epoch is not None}
        return len(places) >= BARS_AFTER_ERROR or len(epochs) >= EPOCHS_AFTER_ERROR

    def _note_plan(self, text: str) -> None:
        """Remember the number of epochs in a line of settings, until one is printed with a counter."""
        plan = _PLAN.search(text) if "poch" in text else None
        self.table.n_epochs = int(plan[1]) if plan else self.table.n_epochs
        steps = _PLANNED_STEPS.search(text)
        self.table.n_steps = int(steps[1]) if steps else self.table.n_steps

    def _note_zero_rate(self, text: str) -> None:
        match = _ROUNDED_RATE.search(text) if "0.00" in text else None
        self._rounded_rate = match[1] if match else self._rounded_rate
        zero = _ZERO_RATE.search(text)
        self._zero_rate = zero[1] if zero and "e" not in self._zero_rate.lower() else self._zero_rate

    def _note_fold(self, text: str) -> None:
        """Hold a heading with another fold than the last one: the next epoch decides whether a training begins."""
        match = _FOLD.match(text) if len(text) < 120 else None
        if match is None or _RESULT.match(text, match.end()):
            return
        heading = f"{match[1].lower()} {int(match[2])}"
        if heading == (self._headings[-1] if self._headings else self._fold):
            return
        if self._fold and self._before_heading is None and heading not in self._known_headings:
            self._before_heading = self._training()
        self._headings.append(heading)

    def _settle_headings(self, observation: Observation) -> None:
        """Begin another training if the counter starts again below a heading that is new; else it is a detail."""
        if not self._headings or not self._can_tell(observation):
            return
        headings, self._headings = self._headings, []
        before, self._before_heading = self._before_heading, None
        is_later = self._is_later(observation)
        is_new = not self._known_headings.issuperset(headings)
        if before is not None and before.rows and not is_later:
            self._folds.append((self._fold, before))
            self.table, self._collapse, self._metrics = EpochTable(), CollapseWatch(), MetricWatch()
            self._columns = LineColumns()
            self._values = ValueWatch()
            self._fold = headings[-1]
            # Inner headings come back below each outer one, as the folds of a repetition.
            self._known_headings = self._known_headings if len(headings) == 1 else set()
        elif is_later and not is_new:
            self._join_alternating(headings[-1], observation.epoch)
        elif is_new and not is_later:
            self._fold = headings[-1]
        self._known_headings.update(headings, [self._fold])

    def _can_tell(self, observation: Observation) -> bool:
        """Return True for a line with the counter that the table counts, or with values where it counts nothing."""
        if self.table.epoch is not None:
            return observation.epoch is not None
        return bool(observation.values) or observation.epoch is not None or observation.step is not None

    def _is_later(self, observation: Observation) -> bool:
        """Return True if a line continues the counter of the table."""
        if observation.epoch is not None and self.table.epoch is not None:
            return observation.epoch > self.table.epoch
        return observation.step is not None and self.table.has_counter and observation.step > self.table.step

    def _join_alternating(self, heading: str, epoch: Optional[float]) -> None:
        """Forget folds that were parts of an epoch: their heading comes back, and the epochs go on."""
        first = next((i for i, (name, _) in enumerate(self._folds) if name == heading), len(self._folds))
        parts = [log for _, log in self._folds[first:]]
        if epoch is not None and all(log.last_epoch is not None and log.last_epoch < epoch for log in parts):
            del self._folds[first:]

    def _is_detail(self, observation: Observation) -> bool:
        """Return True for numbers without a counter after an error, such as `loss_dict = {...}`: they belong to it."""
        has_counter = observation.epoch is not None or observation.step is not None
        return self._scan.has_errors and not has_counter and self.table.has_counter

    def _add(self, observation: Observation) -> bool:
        is_progress = self.table.add(observation)
        if not observation.final:
            self._collapse.add(observation, self.table.epoch)
        return is_progress

    def _note_unread(self, raw: str) -> None:
        self._n_unread += 1
        if len(self._unread) < UNREAD_SHOWN:
            self._unread.append(UnreadLine(self._n_lines, raw.strip()[:300]))

    def _note_unnamed(self, raw: str, text: str) -> None:
        if self._unnamed is None and _DECIMAL.search(text):
            self._unnamed = UnreadLine(self._n_lines, raw.strip()[:300])


def _part_names(rows: Tuple[EpochRow, ...]) -> Set[str]:
    return {name for row in rows[-1:] for name in (*row.train_parts, *row.validation_parts)}


def _with_number(raw: str, text: str) -> str:
    """Return a line with the number in front of it, which may be a rank or a counter."""
    number = _NUMBER_IN_FRONT.match(raw)
    return number[0] + text if number and not text.startswith(number[0]) else text


def _has_names(observation: Observation) -> bool:
    return any(value.quantity.kind != NAMELESS for value in observation.values)


def _has_course(observation: Optional[Observation]) -> bool:
    """Return True for a line with more than a learning rate, which a line of settings also has."""
    return observation is not None and any(value.quantity.kind != "lr" for value in observation.values)


def _is_statement(text: str) -> bool:
    """Return True for an error, in which `iteration=802` or `STEP 4711.0` is no progress of the training."""
    if end_patterns.EXCEPTION.match(text.strip()) or end_patterns.PROGRAM_ERROR.search(text):
        return True
    if end_patterns.EXIT_LINE.match(text):
        return True
    is_nan = any(word in text.lower() for word in ("nan", "inf", "invalid")) and end_patterns.cause_of(text) == "nan"
    return is_nan and not _shows_finite_losses(text)


def _shows_finite_losses(text: str) -> bool:
    """Return True for a counted line whose losses are finite, in which `nan` only counts something."""
    observation = LineParser().parse(text)  # another parser: this one must remember nothing
    if observation is None or (observation.epoch is None and observation.step is None):
        return False
    losses = [value.number for value in observation.values if value.quantity.kind == "loss"]
    # In `nan loss encountered in step 900` the integer is no loss.
    return all(map(math.isfinite, losses)) and any(not loss.is_integer() for loss in losses)


def _is_all_lost(observation: Optional[Observation]) -> bool:
    """Return True if a line shows only numbers that are not finite: after an error, these are its details."""
    values = observation.values if observation is not None else ()
    return bool(values) and not any(math.isfinite(value.number) for value in values)


def read_lines(lines: Iterable[str]) -> TrainingLog:
    """Read the lines of a log."""
    reader = LogReader()
    for line in lines:
        reader.feed(line)
    return reader.result()
