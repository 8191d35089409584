"""Where numbers go: the journal, metrics.csv, the progress line, and Weights & Biases for a site that asks for it."""

from computation.tracking.history import Notice, SiteSummary, Totals, notices, rounds, summarise, totals
from computation.tracking.journal import Entry, Journal, read
from computation.tracking.numbers import RoundNumbers, SiteNumbers, foreground, mean
from computation.tracking.tracker import Tracker

__all__ = [
    "Entry",
    "Journal",
    "Notice",
    "RoundNumbers",
    "SiteNumbers",
    "SiteSummary",
    "Totals",
    "Tracker",
    "foreground",
    "mean",
    "notices",
    "read",
    "rounds",
    "summarise",
    "totals",
]
