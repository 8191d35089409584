"""What is called how in the output folder of `join`."""

from __future__ import annotations

__all__ = ["DATABASE", "LENT", "RESULTS", "WORK"]

#: What is needed to go on, and what is left for people.
WORK, RESULTS = "work", "results"
#: The name under which the handler finds the site's scans, and the link to them that is made for that.
DATABASE = "scans.db"
LENT = f"{WORK}/base/{DATABASE}"
