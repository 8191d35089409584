"""Do the sites mean the same thing? Asked once, at join, before a single gradient is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from computation.errors import SettingsError
from computation.federation import claims, shares, voices
from computation.settings import Member, Settings, differences, options, parse
from computation.wire.messages import MOST_ROUNDS, JoinOffer

__all__ = ["agree", "evaluators", "rounds"]

#: Differences that a plan names one by one.
_MOST_NOTES = 50
#: Characters of a site's own value in a message that all sites read.
_LONGEST = 200


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
        labels; the sites and both values are named. Or if no site has a scan to train on, or too few have for the rule.
    MessageError
        If a site says what cannot follow from its scans.
    """
    sites = sorted(offers)
    settings = {site: _read(site, offers[site]) for site in sites}
    first = _usual(settings)
    for site in sites:
        for name, (left, right) in differences(settings[first], settings[site]).items():
            raise SettingsError(
                f"setting {name!r} is {_brief(left)} at site {first} and {_brief(right)} at site {site}; "
                "every site must run with the same owner settings"
            )
    for site in sites:
        if offers[site].classes != settings[first].classes:
            raise SettingsError(
                f"the scans of site {site} are labelled {_names(offers[site].classes)}, but the run is for "
                f"{_names(settings[first].classes)}; import them with that label set or change 'classes'"
            )
        claims.check_join(site, offers[site], settings[first])
    if len(evaluators(offers)) == len(offers):
        raise SettingsError(
            "no site has a labelled scan to train on; import some with split 'train' at one site or more"
        )
    voices.check(settings[first], [site for site in sites if offers[site].trains])
    return settings[first], (
        *_roles(offers),
        *_idle(offers, settings[first]),
        *_withheld(offers, settings[first]),
        *_bare(offers),
        *_dominant(offers, settings[first]),
        *voices.notes(settings[first]),
        *_allowed_differences(offers),
    )


def _usual(settings: Mapping[str, Settings]) -> str:
    """Return the first site that has the settings of most: the odd one is told apart from it, and not the others."""
    texts = {site: repr(settings[site]) for site in sorted(settings)}
    usual, _ = Counter(texts.values()).most_common(1)[0]
    return next(site for site, text in texts.items() if text == usual)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def evaluators(offers: Mapping[str, JoinOffer]) -> tuple[str, ...]:
    """Return the sites that have no scan to train on, sorted."""
    return tuple(site for site in sorted(offers) if not offers[site].trains)


def _roles(offers: Mapping[str, JoinOffer]) -> list[str]:
    return [f"{site} has no scan to train on and only evaluates"[:200] for site in evaluators(offers)][:_MOST_NOTES]


def _idle(offers: Mapping[str, JoinOffer], settings: Settings) -> list[str]:
    validated = any(offer.labelled["valid"] for offer in offers.values())
    told = "setting 'patience' has no effect, since no site validates"
    return [told] if settings.patience and not validated else []


def _withheld(offers: Mapping[str, JoinOffer], settings: Settings) -> list[str]:
    """Tell which sites have scans to evaluate of which no counts leave."""
    least = settings.min_scans
    return [
        f"{site} counts no {split!r} scan: it has fewer than {least} labelled ones (setting 'min_scans')"[:200]
        for site in sorted(offers)
        for split in ("valid", "test")
        if least > 1 and offers[site].scans[split] and not offers[site].labelled[split]
    ][:_MOST_NOTES]


def _bare(offers: Mapping[str, JoinOffer]) -> list[str]:
    """Tell that a mean over so few sites hides nobody's update."""
    train = [site for site in sorted(offers) if offers[site].trains]
    if len(offers) == 1 or len(train) > 2:
        return []
    if len(train) == 1:
        return [f"only {train[0]} trains: every site sees its update as it is, since a mean of one hides nothing"[:200]]
    return [f"only two sites train: {train[0]} and {train[1]} can each compute the other's update from the mean"[:200]]


def _dominant(offers: Mapping[str, JoinOffer], settings: Settings) -> list[str]:
    """Tell that one site says that it has nearly all scans, since it decides how long the run is."""
    scans = {site: offers[site].scans["train"] for site in sorted(offers) if offers[site].trains}
    most = max(scans, key=lambda site: scans[site])
    if shares.capped(scans, settings.most_share) == scans:
        return []
    said = f"{most} says that it has {scans[most]} of {sum(scans.values())} training scans, which decides the rounds"
    return [said[:200]]


def rounds(settings: Settings, offers: Mapping[str, JoinOffer], batches: Mapping[str, int] | None = None) -> int:
    """Return the number of rounds: every site passes `epochs` times over its scans, most of them more often.

    A round is `batches` of one course through the epochs, so only the last round of all may go beyond. Where the owner
    leaves the epochs open, the rounds are those of `USUAL_BATCHES`, and of one epoch at least.

    Parameters
    ----------
    settings : Settings
        What the sites share.
    offers : mapping of str to JoinOffer
        One for each site.
    batches : mapping of str to int, optional
        Of each site that trains, in a round, as `portions` shares them out; `local_steps` each otherwise.

    Raises
    ------
    SettingsError
        If no run can have so many.
    """
    batches = batches or dict.fromkeys(offers, settings.local_steps)
    epochs = settings.epochs or 1
    needed = {site: -(-epochs * offers[site].steps // batches[site]) for site in sorted(batches)}
    longest = max(needed, key=lambda site: needed[site])
    if needed[longest] > MOST_ROUNDS:
        raise SettingsError(
            f"{epochs} epochs of the {offers[longest].steps} batches of site {longest} are "
            f"{needed[longest]} rounds; wanted at most {MOST_ROUNDS}: lower 'epochs'"
        )
    return needed[longest] if settings.epochs else max(needed[longest], settings.usual_rounds)


def _read(site: str, offer: JoinOffer) -> Settings:
    own = sorted(set(offer.settings) & set(options(Member)))
    if own:
        raise SettingsError(f"site {site}: setting {own[0]!r} is its own and stays there; wanted the owner's only")
    try:
        return parse(offer.settings)[0]
    except SettingsError as error:
        raise SettingsError(f"site {site}: {error.public}; every site must run one version of the image") from error


def _names(classes: tuple[str, ...]) -> str:
    text = ", ".join(classes)
    return f"({text[:_LONGEST]}{'...' if len(text) > _LONGEST else ''})"


def _allowed_differences(offers: Mapping[str, JoinOffer]) -> list[str]:
    notes = []
    tables = {site: {**offer.preparation, **offer.versions, "device": offer.device} for site, offer in offers.items()}
    for name in sorted({name for table in tables.values() for name in table}):
        values = {site: tables[site].get(name, "unknown") for site in sorted(tables)}
        if len(set(values.values())) > 1:
            notes.append(f"{name} differs: " + ", ".join(f"{value} at {site}" for site, value in values.items()))
    more = len(notes) - _MOST_NOTES
    rest = [f"{more} more differences are left out"] if more > 0 else []
    return [note[:200] for note in [*notes[:_MOST_NOTES], *rest]]
