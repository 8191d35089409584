"""Whether all hold one model: gradients of different models must not be averaged."""

from __future__ import annotations

from collections.abc import Mapping

from computation.errors import ConsensusError

__all__ = ["check"]


def check(digests: Mapping[str, str], wanted: str, when: str) -> None:
    """Stop the run where a site does not hold the common model.

    Parameters
    ----------
    digests : mapping of str
        Of each site's model.
    wanted : str
        Of the common one.
    when : str
        In the run, such as `before round 3`.

    Raises
    ------
    ConsensusError
        Naming the sites that differ.
    """
    strangers = [site for site in sorted(digests) if digests[site] != wanted]
    if strangers:
        held = ", ".join(f"{site} ({digests[site][:12]})" for site in strangers)
        raise ConsensusError(
            f"{when} the model of site {held} is not the common one ({wanted[:12]}); "
            "the run stops, since gradients of different models must not be averaged"
        )
