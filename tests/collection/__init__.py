"""An independent collection of healthy and failing runs, written before and apart from the rules that diagnose them.

Every case is drawn from a seed. Even seeds are for tuning rules, odd ones for testing them: nobody tunes on those.
"""

from tests.collection.cases import Case, Part, collection
from tests.collection.faults import FAULTS

__all__ = ["FAULTS", "Case", "Part", "collection"]
