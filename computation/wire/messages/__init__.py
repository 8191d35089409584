"""The JSON half of every message: typed, versioned, and read by a fixed schema at both ends.

Each message is a frozen record with `as_json` and `parse`. `parse` takes what another machine sent and returns the
record or raises `MessageError`; it never fails in another way, never keeps an unknown key, and never lets a number that
is not finite through. No message has a field for a path, a subject or free text from a data folder.
"""

from computation.wire.messages.base import MOST_ROUNDS, MOST_SCANS, PROTOCOL
from computation.wire.messages.evaluation import Evaluation
from computation.wire.messages.finish import FinishOffer, Results
from computation.wire.messages.join import JoinOffer, Plan
from computation.wire.messages.masking import Arrived, Masked, Masking, Unmasking, is_arrived
from computation.wire.messages.round import FINDINGS, LARGE, REASONS, STOPS, RoundOffer, Verdict

__all__ = [
    "FINDINGS",
    "LARGE",
    "MOST_ROUNDS",
    "MOST_SCANS",
    "PROTOCOL",
    "REASONS",
    "STOPS",
    "Arrived",
    "Evaluation",
    "FinishOffer",
    "JoinOffer",
    "Masked",
    "Masking",
    "Plan",
    "Results",
    "RoundOffer",
    "Unmasking",
    "Verdict",
    "is_arrived",
]
