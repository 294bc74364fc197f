"""Find out how a training ended: scan all lines after its last progress, streaming and in constant memory."""

from __future__ import annotations

import re
from collections import deque
from itertools import takewhile
from types import MappingProxyType
from typing import Deque, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

from giblet_train.diagnosis.log_reader import end_patterns as patterns
from giblet_train.diagnosis.log_reader.checkpoint_mismatch import LOADING, CheckpointMismatch
from giblet_train.diagnosis.log_reader.exit_status import SIGKILL, ExitStatus, exit_status_of
from giblet_train.diagnosis.log_reader.line_prefix import LogLine, rank_in
from giblet_train.diagnosis.log_reader.traceback import MessageRest, Traceback

CONTEXT_LINES = 4
"""Lines of the end after which what the program did with files has nothing to do with an error."""
FIRST_ERRORS = 40
"""Error lines kept from the beginning of the end."""
LAST_LINES = 200
MAX_RANKS = 4096
EPOCHS_AFTER_CANCEL = 1
"""Epochs that may begin between a scheduler's message and the end of the job."""
POWERSHELL_LINES = 12
"""Most lines of a remark of PowerShell, of which a narrow console breaks some."""
_THROWN, _WHAT = "terminate called after throwing", "what():"
"""Lines about a C++ exception; the second one has its message."""
_CAUGHT = re.compile(r": Caught \w+ in .*\b(?:worker|thread|replica|process)\b")
"""An error that a worker passes on; the original one follows."""
_PROCESS = re.compile(r"-- Process \d+ terminated with")
"""Rest of an exception that passes on that of another process."""
_NOT_FINITE = re.compile(
    r"['\"]?([A-Za-z_][\w.]*)['\"]?\s{0,2}[:=]\s{0,2}(?:tensor\()?(?:nan|[-+]?inf)\b", re.IGNORECASE
)
MOST_PARTS = 6
_GROUP = re.compile(r"\s*[|+][\s|+-]*[|+](?: |$)|\s+\| |\s*\+[+-]*-{6,}.*")
"""Frame that Python draws around the exceptions of a group."""
_FIELD = re.compile(r"^\s*(time|host|rank|exitcode|traceback|error_file)\s*:\s*(.*)$")
_ROOT_CAUSE = re.compile(r"^Root Cause \(first observed failure\)")
_FAILED_RANK = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
_TIMED_OUT_RANK = re.compile(r"\[(?:PG \S+ )?Rank (\d+)\].*(?:Watchdog caught|[Tt]ime(?:d )?out)")
_MISSING = re.compile(r"(?:ranks?|[Rr]ank) \[?([\d, ]+)\]? (?:failed to (?:pass|reach|join)|did not|timed out)", re.I)
_WORLD_SIZE = re.compile(r"world[_ ]size\s*[:=]?\s*(\d+)|\bnproc_per_node[= ](\d+)", re.IGNORECASE)
_WAITED_FOR = re.compile(r"retrieving ncclUniqueId from \[(\d+)\]")


class ErrorLine(NamedTuple):
    """A line that reports an error."""

    text: str
    rank: Optional[int] = None
    at: str = ""
    """Timestamp as printed; empty without one."""
    details: str = ""
    """What the lines below add to the message; empty if it has one line."""
    place: str = ""
    """File and line of the program's own code that raised it, such as `train.py, line 12`; empty if not shown."""
    later: str = ""
    """Last exception of the same chain, which follows from this one; empty without one."""
    before: str = ""
    """Line before it that shows what the program did with a file, or was itself marked as an error; else empty."""


class FailedRank(NamedTuple):
    """First failure that torchrun reports."""

    rank: Optional[int] = None
    exit_code: Optional[int] = None
    """Negative for the number of a signal."""
    host: str = ""
    at: str = ""

    @property
    def signal(self) -> Optional[int]:
        """Return the number of the signal that ended the rank; None if it ended by itself."""
        return -self.exit_code if self.exit_code is not None and self.exit_code < 0 else None


class LogEnd(NamedTuple):
    """How a training ended, as far as its log shows."""

    causes: Mapping[str, ErrorLine] = MappingProxyType({})
    """Cause -> first line that names it, in the order of the log."""
    errors: Tuple[ErrorLine, ...] = ()
    """First error lines, without those that only report the failure of another process."""
    echoes: Tuple[ErrorLine, ...] = ()
    """First lines that report the failure of another process."""
    tail: Tuple[str, ...] = ()
    """Last lines of the log, as printed."""
    failed: Optional[FailedRank] = None
    timed_out_ranks: Tuple[int, ...] = ()
    """Ranks that reported that a collective operation timed out."""
    missing_ranks: Tuple[int, ...] = ()
    """Ranks that did not join that operation."""
    statement: str = ""
    """`complete`, `early_stop` or `interrupted`, if the log states it; else empty."""
    statement_line: str = ""
    statement_rank: Optional[int] = None
    """Rank that states it; None if its line names none."""
    after_end: str = ""
    """First line about a failure after the stated end, which is no exception; empty without one."""
    failed_after_end: Optional[ErrorLine] = None
    """First exception after the stated end that nothing caught; None without one."""
    killed: str = ""
    """Line that shows an end by SIGKILL; empty without one."""
    complaint: Optional[ErrorLine] = None
    """First line that a logger marked as an error, although its words name none."""
    remedy: str = ""
    """Remedy printed after an error of giblet's own."""

    @property
    def is_by_one_rank(self) -> bool:
        """Return True if a rank states its end while others wait for it until a collective operation times out."""
        others_waited = set(self.timed_out_ranks) - {self.statement_rank}
        return bool(self.statement) and "collective_timeout" in self.causes and bool(others_waited)

    @property
    def error_before_timeout(self) -> Optional[ErrorLine]:
        """Return the error because of which a rank did not join a collective operation; None if it printed none."""
        timeout = self.causes.get("collective_timeout")
        if timeout is None:
            return None
        earlier = takewhile(lambda error: error[:2] != timeout[:2], self.errors)
        return next((error for error in earlier if error.rank in self.missing_ranks), None)

    @property
    def root_error(self) -> Optional[ErrorLine]:
        """Return the first error, of the rank that failed first: torchrun may name one that waited for it in vain."""
        if self.error_before_timeout is not None:
            return self.error_before_timeout
        if self.failed is not None and self.failed.rank is not None:
            own = next((error for error in self.errors if error.rank == self.failed.rank), None)
            if own is not None:
                return own
        reasons = [error for error in self.errors if not patterns.is_exit_only(error.text)]
        messages = [error for error in self.errors if patterns.EXCEPTION.match(error.text)]
        echoes = [error for error in self.echoes if not patterns.is_wrapper(error.text)]
        return next(iter([*reasons, *messages, *echoes, *self.errors, *self.echoes]), None)


class EndScan:
    """Reads lines in order; `progress` forgets the errors that a training survived."""

    def __init__(self) -> None:
        self._ranks: Set[int] = set()
        self._world_size = 0
        self._survived: Dict[str, ErrorLine] = {}
        self._survived_errors: List[ErrorLine] = []
        self._tail: Deque[str] = deque(maxlen=LAST_LINES)
        self._cancelled: Optional[ErrorLine] = None
        self._n_epochs_since = 0
        self._at = ""
        self._reset()

    def _reset(self) -> None:
        self._causes: Dict[str, ErrorLine] = {}
        self._errors: List[ErrorLine] = []
        self._echoes: List[ErrorLine] = []
        self._timed_out: Set[int] = set()
        self._missing: Set[int] = set()
        self._failed: Optional[FailedRank] = None
        self._fields: Optional[Dict[str, str]] = None
        self._tracebacks: Dict[Optional[int], Traceback] = {}
        self._rest: Optional[MessageRest] = None
        self._rest_rank: Optional[int] = None
        self._rest_lines = self._errors
        self._context, self._n_since_context = "", 0
        self._after_end = ""
        self._warned: Dict[str, ErrorLine] = {}
        self._failed_after_end: Optional[ErrorLine] = None
        self._chain_starts: Dict[Optional[int], int] = {}
        self._linked_ranks: Set[Optional[int]] = set()
        self._ignored = self._in_thread = False
        self._powershell_lines = 0
        self._statement, self._statement_line = "", ""
        self._statement_rank: Optional[int] = None
        self._killed, self._remedy = "", ""
        self._complaint: Optional[ErrorLine] = None
        self._remedy_expected = False
        self._mismatch: Optional[CheckpointMismatch] = None

    @property
    def has_errors(self) -> bool:
        """Return True if an error was printed after the last progress."""
        return bool(self._errors or self._causes)

    @property
    def in_traceback(self) -> bool:
        """Return True if the exception of a traceback has not been printed yet: its source lines may have numbers."""
        return bool(self._tracebacks)

    def note_rank(self, rank: int) -> None:
        """Remember a rank that has printed a line."""
        if rank < MAX_RANKS:
            self._ranks.add(rank)

    def progress(self, is_new_epoch: bool, at: str = "") -> None:
        """Note progress of the training, at the time that its line prints: the errors before it were not its end.

        What the log states about the end counts until another epoch begins: figures of a test may follow it.
        """
        self._at = at or self._at
        statement = ("", "", None) if is_new_epoch else (self._statement, self._statement_line, self._statement_rank)
        self._n_epochs_since += is_new_epoch
        if self._n_epochs_since > EPOCHS_AFTER_CANCEL:
            self._cancelled = None
        if self._errors or self._causes or self._echoes or self._statement or self._tail:
            self._survived = {**self._survived, **self._causes}
            self._survived_errors = (self._survived_errors + self._errors)[-FIRST_ERRORS:]
            self._tail.clear()
            self._reset()
            self._statement, self._statement_line, self._statement_rank = statement
            if self._cancelled is not None:
                self._errors.append(self._cancelled)

    def note_end(self, line: LogLine) -> None:
        """Take figures that a program prints after the whole training for a statement of its end."""
        if not self._statement:
            self._statement, self._statement_line, self._statement_rank = "complete", line.text.strip(), rank_in(line)

    def note_parts(self, text: str) -> None:
        """Read which parts of a loss are not finite, if a line has stated that the loss is not."""
        message = self._causes.get("nan")
        names = list(dict.fromkeys(_NOT_FINITE.findall(text)))[:MOST_PARTS] if message is not None else []
        if message is not None and names and not message.details:
            self._causes["nan"] = message._replace(details=f"({', '.join(names)})")

    def add(self, line: LogLine, raw: str) -> None:
        """Read a line that shows no progress."""
        if not line.text.strip():
            self._remedy_expected = False
            if self._rest is not None and self._rest.read("") is None:
                self._rest = None
            return
        self._tail.append(raw)
        self._n_since_context += 1
        if self._is_of_powershell(line.text) or self._read_rest(line):
            return
        self._at = line.at or self._at
        self._note_ranks(line)
        if patterns.SOURCE.match(line.text) or patterns.HELPER.match(line.text):
            return
        if line.text.startswith("TensorBoard caught SIGTERM"):
            return
        self._note_cancel(line)
        if not self._tracebacks and patterns.ACTIVITY.search(line.text) and len(line.text) < 300:
            self._context, self._n_since_context = line.text.strip(), 0
        if self._read_torchrun(line.text) or self._read_mismatch(line):
            return
        if self._read_remedy(line.text):
            return
        self._read_statement(line)
        if (
            self._tracebacks
            or self._ignored
            or patterns.may_be_error(line.text)
            or line.level in ("ERROR", "CRITICAL", "FATAL")
        ):
            self._read_error(line)

    def result(self) -> LogEnd:
        """Return what is known so far."""
        failed_rank = self._failed_rank()
        causes, errors = self._with_reasons(self._errors or self._cut_off())
        if failed_rank is not None and not any(error.rank == failed_rank.rank for error in errors):
            # The rank that failed first may have printed its error before a last sign of progress of another rank.
            earlier = [
                error for error in self._survived_errors if error.rank is not None and error.rank == failed_rank.rank
            ]
            errors = [*earlier, *errors]
            own = {
                cause: line
                for cause, line in self._survived.items()
                if line.rank == failed_rank.rank and line.rank is not None
            }
            causes = {**own, **causes}
        return LogEnd(
            causes=dict(causes),
            errors=tuple(errors),
            echoes=tuple(self._echoes),
            tail=tuple(self._tail),
            failed=failed_rank,
            timed_out_ranks=tuple(sorted(self._timed_out)),
            missing_ranks=self._missing_ranks(),
            statement=self._statement,
            statement_line=self._statement_line,
            statement_rank=self._statement_rank,
            after_end=self._after_end,
            failed_after_end=self._failed_after_end,
            killed=self._killed,
            complaint=self._complaint,
            remedy=self._remedy,
        )

    def _with_reasons(self, errors: List[ErrorLine]) -> Tuple[Dict[str, ErrorLine], List[ErrorLine]]:
        """Return causes and errors, where an error that a launcher repeats is replaced by the one that it follows from.

        Closing lines of a dying program, between the two, can look like progress.
        """
        if errors and not self._causes and self._warned:
            # A lack that the program has tried to survive, and an error that followed from it.
            return dict(self._warned), [*self._warned.values(), *errors]
        reasons = {error.later: error for error in self._survived_errors if error.later}
        if not any(error.text in reasons for error in errors):
            return self._causes, errors
        complete_errors = [reasons.get(error.text, error) for error in errors]
        own = {cause: line for cause, line in self._survived.items() if any(line[:2] == e[:2] for e in complete_errors)}
        return {**self._causes, **own}, complete_errors

    def _cut_off(self) -> List[ErrorLine]:
        """Return the last line of a traceback whose exception was not written any more."""
        if not self._tracebacks or self._ignored or self._statement == "complete" or not self._tail:
            return []
        rank = next(iter(self._tracebacks))
        return [ErrorLine(f"the log ends inside a traceback: {self._tail[-1].strip()}"[:400], rank)]

    def _is_of_powershell(self, text: str) -> bool:
        """Return True for a line of PowerShell's remark about the program, within the program's own messages."""
        if patterns.POWERSHELL.match(text):
            self._powershell_lines = POWERSHELL_LINES
            return True
        exception = patterns.EXCEPTION.match(text)
        if not self._powershell_lines or (exception and exception[2]):
            self._powershell_lines = 0
            return False
        self._powershell_lines = 0 if patterns.POWERSHELL_END.match(text) else self._powershell_lines - 1
        return True

    def _note_cancel(self, line: LogLine) -> None:
        """Remember that a scheduler ends the job: the training may print progress until the signal reaches it."""
        if patterns.may_be_error(line.text) and patterns.CANCELLED.search(line.text):
            self._cancelled, self._n_epochs_since = ErrorLine(line.text.strip()[:400], None, line.at), 0
        elif self._cancelled is not None and patterns.RESUMED.search(line.text):
            self._cancelled = None

    def _note_ranks(self, line: LogLine) -> None:
        rank = rank_in(line)
        if rank is not None:
            self.note_rank(rank)
        size = _WORLD_SIZE.search(line.text)
        if size:
            self._world_size = min(MAX_RANKS, int(size[1] or size[2]))

    def _missing_ranks(self) -> Tuple[int, ...]:
        if self._missing:
            return tuple(sorted(self._missing))
        if not self._timed_out:
            return ()
        everyone = set(range(max(self._world_size, max(self._ranks | self._timed_out) + 1)))
        missing = everyone - self._timed_out
        return tuple(sorted(missing)) if len(missing) < len(everyone) else ()

    def _read_torchrun(self, text: str) -> bool:
        """Read torchrun's block of the first failure. Return True if the line belongs to it."""
        if _ROOT_CAUSE.match(text):
            self._fields = {}
            return True
        if self._fields is not None:
            field = _FIELD.match(text)
            if field and field[1] not in self._fields:
                self._fields[field[1]] = field[2]
                return True
            if re.match(r"\s*\[\d+\]:$", text):
                return True
            if text.startswith("==="):
                self._failed, self._fields = self._failed_rank(), None
                return True
        rank_match = _FAILED_RANK.search(text)
        if rank_match and self._failed is None:
            self._failed = FailedRank(rank=int(rank_match[2]), exit_code=int(rank_match[1]))
            self._note_kill(text, int(rank_match[1]))
            return True
        return bool(patterns.CLOSING.search(text))

    def _failed_rank(self) -> Optional[FailedRank]:
        fields = self._fields
        if not fields:
            return self._failed
        rank = re.match(r"\d+", fields.get("rank", ""))
        code = re.match(r"-?\d+", fields.get("exitcode", ""))
        exit_code = int(code[0]) if code else None
        self._note_kill(fields.get("traceback", ""), exit_code)
        return FailedRank(int(rank[0]) if rank else None, exit_code, fields.get("host", ""), fields.get("time", ""))

    def _note_kill(self, text: str, exit_code: Optional[int]) -> None:
        if exit_code == -9 and not self._killed:
            self._killed = text.strip() or "exit code -9"

    def _read_remedy(self, text: str) -> bool:
        """Read the indented remedy that giblet prints after its own errors."""
        if self._remedy_expected and text.startswith("  ") and not self._remedy:
            self._remedy = text.strip()
            self._remedy_expected = False
            return True
        self._remedy_expected = False
        return False

    def _read_mismatch(self, line: LogLine) -> bool:
        """Read a line about a key of a checkpoint that does not fit. Return False for any other line."""
        if self._mismatch is None or not self._mismatch.read(line.text):
            return False
        index = next((i for i, error in enumerate(self._errors) if LOADING in error.text), None)
        if index is not None:
            error = self._errors[index]
            first = error.text.partition(LOADING)
            model = first[2].partition(":")[0]
            self._errors[index] = error._replace(text=f"{first[0]}{LOADING}{model}: {self._mismatch.summary()}"[:400])
        return True

    def _read_statement(self, line: LogLine) -> None:
        text = line.text
        status = exit_status_of(text) if patterns.may_be_error(text) else None
        state = "" if status is not None and status.is_failure else patterns.statement_of(text.strip())
        is_doubtful = state == "complete" and self.has_errors and patterns.is_mere_duration(text)
        has_reason = bool(self._causes) or not all(patterns.is_exit_only(error.text) for error in self._errors)
        if is_doubtful or (state == "interrupted" and has_reason):  # who stops a program that hangs after an error
            return
        if state and not (self._statement and state == "complete"):
            self._statement, self._statement_line, self._statement_rank = state, text.strip(), rank_in(line)
        elif status is not None:
            self._note_exit_status(status, text.strip())

    def _note_exit_status(self, status: ExitStatus, text: str) -> None:
        """Take a job that ended well for the end, unless a step of the same job failed."""
        if status.is_failure and self._statement and exit_status_of(self._statement_line) is not None:
            self._statement, self._statement_line = "", ""
        elif not status.is_failure and not self._statement and not self.has_errors:
            self._statement, self._statement_line = "complete", text

    def _read_error(self, line: LogLine) -> None:
        if self._tracebacks and _GROUP.match(line.text):
            line = line._replace(text=_GROUP.sub("", line.text))
        text, rank = line.text, rank_in(line)
        if patterns.IGNORED_EXCEPTION.match(text) or patterns.THREAD_EXCEPTION.match(text):
            self._ignored = True
            self._in_thread = patterns.IGNORED_EXCEPTION.match(text) is None
            return
        if patterns.TRACEBACK in text:
            self._tracebacks[rank] = Traceback()
            return
        if patterns.CHAINED.match(text):
            self._note_chain(rank)
            return
        traceback = self._tracebacks.get(rank)
        if traceback is not None and traceback.read(text):
            return
        exception = patterns.EXCEPTION.match(text.strip())
        ends_traceback = self._tracebacks.pop(rank, None) is not None
        self._ignored = self._ignored or (traceback is not None and traceback.is_of_helper)
        if self._ignored:
            self._ignored = not (ends_traceback or exception)
            if not self._ignored and self._in_thread and self._complaint is None:
                self._complaint = ErrorLine(text.strip()[:400], rank, line.at)
            return
        is_warning = not ends_traceback and (
            line.level in ("DEBUG", "WARN", "WARNING") or patterns.WARNING.match(text) is not None
        )
        is_warning = is_warning and patterns.ENDS_TRAINING.search(text) is None
        cause = patterns.cause_of(text) if is_warning else None
        if cause in patterns.WARNED_CAUSES:
            self._warned.setdefault(cause or "", ErrorLine(text.strip()[:400], rank, line.at))
        is_after_end = self._statement == "complete" and not ends_traceback and not exception
        if is_after_end and not is_warning and not self._after_end and patterns.PLAIN_ERROR.search(text.strip()):
            self._after_end = text.strip()[:400]
        if is_warning or (is_after_end and not self._is_wait_for_ended_rank(text, rank)):
            return
        self._classify(line, rank, exception, traceback)

    def _is_wait_for_ended_rank(self, text: str, rank: Optional[int]) -> bool:
        """Return True if a rank waits in vain for another one that has stated its end."""
        ended_rank = self._statement_rank
        return None not in (ended_rank, rank) and rank != ended_rank and patterns.cause_of(text) == "collective_timeout"

    def _note_chain(self, rank: Optional[int]) -> None:
        """Remember the last exception of a rank as the reason for its next one."""
        indices = [i for i, error in enumerate(self._errors) if error.rank == rank]
        if indices:
            self._chain_starts.setdefault(rank, indices[-1])
            self._linked_ranks.add(rank)

    def _classify(
        self,
        line: LogLine,
        rank: Optional[int],
        exception: "Optional[re.Match[str]]",
        traceback: Optional[Traceback],
    ) -> None:
        ends_traceback = traceback is not None
        text = line.text.strip()
        message = text[len(_WHAT) :].strip() if text.startswith(_WHAT) else text
        cause = patterns.cause_of(text)
        # A traceback prints no time of its own. A timeout is much later than the line before it.
        at = line.at or (self._at if exception and cause != "collective_timeout" else "")
        context = self._context if self._n_since_context <= CONTEXT_LINES or ends_traceback else ""
        error = ErrorLine(message[:400], rank, at, place=traceback.place if traceback is not None else "")
        error = error._replace(before=context[:400] if context != text and not self._errors else "")
        if exception and exception[1] == "KeyboardInterrupt":
            return
        if patterns.AT_EXIT.search(text):
            self._after_end = self._after_end or message[:400]
            if self._errors and self._errors[-1].text.startswith(_THROWN):
                self._errors.pop()
            return
        if patterns.KILLED.search(text) and not self._killed:
            self._killed = text[:400]
        status = exit_status_of(text) or ExitStatus(False)
        if status.signal == SIGKILL and not self._killed:
            self._killed = text[:400]
        if exception and exception[1] in patterns.WRAPPERS:
            self._echoes[:] = [*self._echoes, error][:FIRST_ERRORS]
            return
        if cause and (exception or ends_traceback or not patterns.ADVICE.search(text)):
            first_line = self._causes.setdefault(cause, error)
            if patterns.TASK_OF_SLURM.match(text) and first_line is not error and not first_line.details:
                self._causes[cause] = first_line._replace(details=f"({text[:200]})")
            if exception and first_line.rank == rank and patterns.EXCEPTION.match(first_line.text) is None:
                self._causes[cause] = error  # what a driver or allocator prints first says less
            self._note_timeout(text, rank)
        statements_of_end = (patterns.PLAIN_ERROR, patterns.ABORTED, patterns.CANCELLED, patterns.EXITED)
        is_named = status.is_failure or any(pattern.search(text) for pattern in statements_of_end)
        is_marked = line.level in ("CRITICAL", "FATAL") or text.startswith("giblet: ")
        is_error = bool(cause or exception or ends_traceback or is_named or is_marked)
        is_complaint = line.level == "ERROR" or patterns.COMPLAINT.search(text) is not None
        if is_complaint and not is_error and self._complaint is None:
            self._complaint = error
        is_recent = bool(self._context) and self._n_since_context <= CONTEXT_LINES
        if line.level == "ERROR" and not is_error and not is_recent and not text.endswith(":"):
            self._context, self._n_since_context = text[:400], 0
        is_progress_of_nan = cause == "nan" and not (exception or ends_traceback or is_named or is_marked)
        if not is_error or is_progress_of_nan or text == ":":
            return
        self._remedy_expected = text.startswith("giblet: ") or bool(exception and exception[1] in patterns.OWN_ERRORS)
        last = self._errors[-1].text if self._errors else ""
        if (text.startswith(_WHAT) and last.startswith(_THROWN)) or (ends_traceback and _CAUGHT.search(last)):
            self._errors[-1] = error
            self._rest, self._rest_rank, self._rest_lines = MessageRest(error.text), line.rank, self._errors
            return
        if exception or ends_traceback:
            self._link(error)
        if LOADING in text and self._mismatch is None:
            self._mismatch = CheckpointMismatch()
        target = self._echoes if patterns.ECHO.search(text) and not cause else self._errors
        if len(target) < FIRST_ERRORS:
            target.append(error)
            rest = MessageRest(error.text)
            if exception or ends_traceback or rest.is_expected:
                self._rest, self._rest_rank, self._rest_lines = rest, line.rank, target
            if ends_traceback and target is self._errors and self._statement and self._failed_after_end is None:
                self._failed_after_end = error

    def _link(self, error: ErrorLine) -> None:
        """Note an exception at the first one of its chain, which is forgotten if it says nothing."""
        start = self._chain_starts.get(error.rank)
        if error.rank not in self._linked_ranks or start is None or start >= len(self._errors):
            self._chain_starts.pop(error.rank, None)
            return
        self._linked_ranks.discard(error.rank)
        reason = self._errors[start]
        if reason.text in patterns.UNINFORMATIVE:
            self._chain_starts.pop(error.rank)
            self._errors.pop(start)
        else:
            self._replace(self._errors, start, reason._replace(later=error.text, place=reason.place or error.place))

    def _replace(self, errors: List[ErrorLine], index: int, error: ErrorLine) -> None:
        """Replace an error, also where it names a cause."""
        before, errors[index] = errors[index], error
        self._causes = {cause: error if line == before else line for cause, line in self._causes.items()}

    def _read_rest(self, line: LogLine) -> bool:
        """Read a line that belongs to the message of the last error. Return False for any other line."""
        if self._rest is None or not self._rest_lines:
            return False
        error = self._rest_lines[-1]
        is_same_rank = line.rank == self._rest_rank or (line.rank is None and self._rest.is_of_nccl)
        is_of_error = is_same_rank and not line.level and (not line.at or line.at == error.at)
        is_other = self._mismatch is not None or patterns.TRACEBACK in line.text or self._remedy_expected
        rest = self._rest.read(line.text) if is_of_error and not is_other else None
        if rest is None:
            self._rest = None
            return False
        if _PROCESS.match(rest):
            self._echoes.append(self._rest_lines.pop())
            self._rest = None
        elif rest:
            details = f"{error.details} {rest}".strip()
            self._replace(self._rest_lines, len(self._rest_lines) - 1, error._replace(details=details[:400]))
            cause = patterns.cause_of(rest)
            if cause is not None:
                self._causes.setdefault(cause, self._rest_lines[-1])
        return True

    def _note_timeout(self, text: str, rank: Optional[int]) -> None:
        timed_out = _TIMED_OUT_RANK.search(text)
        reporter = int(timed_out[1]) if timed_out else rank
        if "collective_timeout" in self._causes and reporter is not None and reporter < MAX_RANKS:
            self._timed_out.add(reporter)
        missing = _MISSING.search(text)
        if missing:
            self._missing |= {int(number) for number in re.findall(r"\d+", missing[1]) if int(number) < MAX_RANKS}
        waited_for = _WAITED_FOR.search(text)
        if waited_for:
            self._missing.add(int(waited_for[1]))
