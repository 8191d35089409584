"""Do the sites mean the same thing? Asked once, at join, before a single gradient is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping

from computation.errors import SettingsError
from computation.settings import Settings, differences, parse
from computation.wire.messages import MOST_ROUNDS, JoinOffer

__all__ = ["agree", "rounds"]


def agree(offers: Mapping[str, JoinOffer]) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings that all sites share, and the differences that are allowed but not hidden.

    Parameters
    ----------
    offers : mapping of str to JoinOffer
        One for each site.

    Raises
    ------
    SettingsError
        If a site's settings cannot be read here, two sites were given different ones, or hold scans with different
        labels; the sites and both values are named.
    """
    sites = sorted(offers)
    settings = {site: _read(site, offers[site]) for site in sites}
    first = sites[0]
    for site in sites[1:]:
        for name, (left, right) in differences(settings[first], settings[site]).items():
            raise SettingsError(
                f"setting {name!r} is {left!r} at site {first} and {right!r} at site {site}; "
                "every site must run with the same owner settings"
            )
    for site in sites:
        if offers[site].classes != settings[first].classes:
            raise SettingsError(
                f"the scans of site {site} are labelled {_names(offers[site].classes)}, but the run is for "
                f"{_names(settings[first].classes)}; import them with that label set or change 'classes'"
            )
    return settings[first], tuple(_allowed_differences(offers))


def rounds(settings: Settings, offers: Mapping[str, JoinOffer]) -> int:
    """Return the number of rounds: the largest site passes `epochs` times over its scans, smaller ones more often.

    A round is `local_steps` batches of one course through the epochs, so only the last round of all may go beyond.

    Raises
    ------
    SettingsError
        If no run can have so many.
    """
    largest = max(sorted(offers), key=lambda site: offers[site].steps)
    steps = offers[largest].steps
    wanted = math.ceil(settings.epochs * steps / settings.local_steps)
    if wanted > MOST_ROUNDS:
        raise SettingsError(
            f"{settings.epochs} epochs of the {steps} batches of site {largest} are {wanted} rounds; "
            f"wanted at most {MOST_ROUNDS}: lower 'epochs'"
        )
    return wanted


def _read(site: str, offer: JoinOffer) -> Settings:
    try:
        return parse(offer.settings)[0]
    except SettingsError as error:
        raise SettingsError(f"site {site}: {error.public}; every site must run one version of the image") from error


def _names(classes: tuple[str, ...]) -> str:
    return "(" + ", ".join(classes) + ")"


def _allowed_differences(offers: Mapping[str, JoinOffer]) -> list[str]:
    notes = []
    tables = {site: {**offer.preparation, **offer.versions, "device": offer.device} for site, offer in offers.items()}
    for name in sorted({name for table in tables.values() for name in table}):
        values = {site: tables[site].get(name, "unknown") for site in sorted(tables)}
        if len(set(values.values())) > 1:
            notes.append(f"{name} differs: " + ", ".join(f"{value} at {site}" for site, value in values.items()))
    return [note[:200] for note in notes]
