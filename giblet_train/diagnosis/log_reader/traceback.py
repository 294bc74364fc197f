"""Follow a traceback as Python, notebooks, rich and loguru print it, and a message of more than one line below it."""

from __future__ import annotations

import re
from typing import Optional

MOST_DETAIL_LINES = 3
MOST_SKIPPED_LINES = 60
"""Lines of a stack between an unfinished message and its rest."""
_FRAME = re.compile(r'\s*>?\s*File "(?P<file>[^"]{1,300})", line (?P<line>\d{1,7})')
_NOTEBOOK_FRAME = re.compile(
    r"(?:File )?(?P<file>(?:[A-Z]:)?[^\s:]{1,300}\.py|<ipython-input-\d+-\w+>)(?::(?P<line>\d{1,7}))?,? in \S"
    r"|(?P<cell>(?:Cell|Input) In ?\[\d+\])(?:, line (?P<cell_line>\d{1,7})|, in )"
)
_BOX_FRAME = re.compile(r"[│|] (?P<file>\S{1,300}):(?P<line>\d{1,7}) in ")
_ARROW = re.compile(r"-{1,6}> ?(\d{1,7})\b")
_BOX = tuple("╭│╰╮╯─┃┏┗└├❱")
_LIBRARY = re.compile(
    r"(?:site|dist)-packages|[\\/]lib(?:64)?[\\/](?:python\d|multiprocessing|threading|concurrent|asyncio|runpy)"
    r"|[\\/]python\d[\d.]*[\\/]|[\\/]s?bin[\\/]|^<(?!ipython)",
    re.IGNORECASE,
)
"""A file of Python, of an installed package, or of a launcher."""
_HELPER = re.compile(
    r"[\\/](?:multiprocessing[\\/](?:util|queues|managers|resource_\w+|popen_\w+|heap)|logging[\\/]__init__|weakref)\.py$"
)
"""A file of Python whose functions the program does not call itself: its own traceback does not begin there."""
_UNFINISHED = re.compile(r"[:,(]\s*$|\bvalidation errors? for \w+$|^Could not override\b")
_CONTINUED = (",", "Key '", "could not find", "but found", "expected ")
"""Beginnings of lines with which messages of HDF5, OmegaConf and YAML continue."""
_OF_NCCL = re.compile(r"nccl[A-Z]\w+: |Last error:\s*$")
"""Lines of NCCL between its error and the reason."""
_BEFORE_THE_REST = re.compile(
    r"\s*$|Detected at node\b|\s{2,}\S|Node: |<stack traces?\b|\d+ root error|Traceback \(|-- "
)


class Traceback:
    """Reads the lines of one traceback."""

    def __init__(self) -> None:
        self.is_of_helper = False
        """True if its first frame is in a helper of Python, such as the queue of a worker: the program continues."""
        self._n_frames = 0
        self.place = ""
        """File and line of the innermost frame of the program's own code; empty if only libraries were seen."""
        self._file = ""

    def read(self, text: str) -> bool:
        """Read a line. Return False if it does not belong to the frames."""
        frame = _FRAME.match(text) or _BOX_FRAME.match(text) or _NOTEBOOK_FRAME.match(text)
        if frame:
            groups = frame.groupdict()
            self._file = groups.get("cell") or groups["file"]
            self._n_frames += 1
            self.is_of_helper = self.is_of_helper or (self._n_frames == 1 and _HELPER.search(self._file) is not None)
            self._note(groups.get("cell_line") or groups["line"])
            return True
        arrow = _ARROW.match(text)
        if arrow:
            self._note(arrow[1])
            return True
        return is_part(text)

    def _note(self, line: Optional[str]) -> None:
        if line and self._file and not _LIBRARY.search(self._file):
            self.place = f"{self._file}, line {line}"


def is_part(text: str) -> bool:
    """Return True for a line that can only belong to the frames of a traceback, not to its message."""
    is_frame = _ARROW.match(text) or _NOTEBOOK_FRAME.match(text) or _FRAME.match(text)
    return text[:1].isspace() or text.startswith(_BOX) or is_frame is not None or not any(map(str.isalpha, text))


class MessageRest:
    """Reads the lines below an exception that belong to its message."""

    def __init__(self, message: str) -> None:
        self._is_unfinished = _UNFINISHED.search(message) is not None
        self.is_of_nccl = "NCCL error" in message
        """True for an error of NCCL, whose reason other lines print, also without the prefix of its rank."""
        self.is_expected = self._is_unfinished or self.is_of_nccl
        self._is_graph = message.endswith("Graph execution error:")
        self._n_lines, self._n_skipped = 0, 0

    def read(self, text: str) -> Optional[str]:
        """Read a line. Return what it adds, empty if it adds nothing, or None if the message has ended before it."""
        if self._n_lines >= MOST_DETAIL_LINES or self._n_skipped >= MOST_SKIPPED_LINES:
            return None
        if self._is_first_of_rest() and self._is_before_the_rest(text):
            self._n_skipped += 1
            return ""
        if _OF_NCCL.match(text):
            self._is_unfinished, self._n_lines = text.startswith("Last error:"), 0
            return ""
        is_continued = text[:1].isspace() or text.startswith(_CONTINUED) or self._is_first_of_rest()
        if not any(map(str.isalnum, text)) or not is_continued:
            return None
        self._n_lines += 1
        return text.strip()

    def _is_first_of_rest(self) -> bool:
        return self._is_unfinished and not self._n_lines

    def _is_before_the_rest(self, text: str) -> bool:
        return _BEFORE_THE_REST.match(text) is not None if self._is_graph else not text.strip()
