"""Logs in the layouts of training frameworks, with the answers that are right for them.

They imitate what people publish in reports of failed, odd and healthy trainings. Each batch was written and frozen
before `giblet why` was tried on it.
"""

from tests.collection.frameworks.case import HEALTHY, UNKNOWN, Batch, Log
from tests.collection.frameworks.first import FIRST
from tests.collection.frameworks.second import SECOND
from tests.collection.frameworks.third import THIRD

BATCHES: dict[str, Batch] = {"first": FIRST, "second": SECOND, "third": THIRD}

__all__ = ["BATCHES", "HEALTHY", "UNKNOWN", "Batch", "Log"]
