"""What the owner's settings must be beside each other."""

from __future__ import annotations

from computation.errors import SettingsError
from computation.settings.record import Settings

__all__ = ["check_together"]

_STEPPING = ("fedavgm", "fedadam", "fedyogi", "fedadagrad")
#: Settings that mean something under these strategies only.
_ONLY_UNDER = {
    "proximal": ("fedprox",),
    "server_rate": _STEPPING,
    "server_momentum": _STEPPING,
    "server_adaptivity": _STEPPING[1:],
}
#: Settings that mean something under `dp` alone.
_PRIVATE = ("dp_noise", "dp_clip", "dp_epsilon", "dp_delta")
#: What SCAFFOLD's control variates follow from: steps along the gradient alone, of sites that weigh the same.
_SCAFFOLDS = {
    "optimizer": "sgd",
    "momentum": 0.0,
    "weighting": "equal",
    "rule": "mean",
    "clip_norms": False,
    # A site that clips itself under its mask says so to nobody, and all must know.
    "secure_aggregation": False,
}


def _check_strategy(settings: Settings) -> None:
    for name, strategies in _ONLY_UNDER.items():
        value, usual = getattr(settings, name), getattr(Settings, name)
        if value != usual and settings.strategy not in strategies:
            raise SettingsError(
                f"setting {name!r} is {value:g} and has no effect with strategy {settings.strategy!r}; "
                f"leave it at {usual:g}, or take {' or '.join(strategies)}"
            )
    other = {name: wanted for name, wanted in _SCAFFOLDS.items() if getattr(settings, name) != wanted}
    if settings.strategy == "scaffold" and other:
        seen = ", ".join(f"{name!r} is {getattr(settings, name)!r}" for name in other)
        raise SettingsError(
            f"setting {seen}; strategy 'scaffold' wants {', '.join(map(repr, other.values()))}, since its corrections "
            "follow from the mean of plain steps of sites that weigh the same"
        )


def _check_proximal(settings: Settings) -> None:
    if settings.strategy == "fedprox" and settings.proximal and settings.local_steps == 1:
        raise SettingsError(
            "setting 'local_steps' is 1, and strategy 'fedprox' draws back from the second step of a round on; wanted "
            "2 or more, or strategy 'fedavg'"
        )


def _check_rule(settings: Settings) -> None:
    if settings.mixing_neighbours and settings.rule == "mean":
        raise SettingsError(
            "setting 'mixing_neighbours' is true with rule 'mean', which is moved even so; wanted another 'rule'"
        )
    if settings.byzantine != Settings.byzantine and not settings.one_voice:
        raise SettingsError(
            f"setting 'byzantine' is {settings.byzantine} and has no effect with rule 'mean'; wanted another 'rule'"
        )
    if settings.weighting == "samples" and settings.one_voice:
        raise SettingsError(
            "setting 'weighting' is 'samples' with a rule by which each site has one voice; wanted 'scans' or 'equal', "
            "which here are one"
        )


def check_together(settings: Settings) -> None:
    """Refuse settings that do not fit each other; raises `SettingsError`."""
    _check_strategy(settings)
    _check_proximal(settings)
    _check_rule(settings)
    if settings.class_weights and len(settings.class_weights) != len(settings.classes):
        raise SettingsError(
            f"setting 'class_weights' has {len(settings.class_weights)} values for {len(settings.classes)} classes; "
            "wanted one for each class, or an empty list"
        )
    if settings.whole_volume and settings.batch_size > 1:
        raise SettingsError(
            f"setting 'batch_size' is {settings.batch_size} with whole volumes, whose shapes may differ; wanted 1"
        )
    _check_masking(settings)
    _check_privacy(settings)


def _check_masking(settings: Settings) -> None:
    if 0 < settings.secure_least < 3:
        raise SettingsError(f"setting 'secure_least' is {settings.secure_least}; wanted 3 or more, or 0")
    if settings.secure_aggregation and settings.weighting == "samples":
        raise SettingsError(
            "setting 'weighting' is 'samples' with 'secure_aggregation', where weights are fixed at join; wanted "
            "'scans' or 'equal'"
        )
    if settings.secure_aggregation and settings.one_voice:
        name = "clip_norms" if settings.rule == "mean" else "rule"
        raise SettingsError(
            f"setting {name!r} wants to see what each site sends, of which 'secure_aggregation' shows the sum alone; "
            "wanted one of the two"
        )


def _check_privacy(settings: Settings) -> None:
    idle = [name for name in _PRIVATE if getattr(settings, name) != getattr(Settings, name)]
    if idle and not settings.dp:
        raise SettingsError(
            f"setting {idle[0]!r} has no effect without 'dp'; set 'dp' to true or leave {idle[0]!r} out"
        )
    if not settings.dp:
        return
    if settings.strategy != "gradient-mean":
        raise SettingsError(f"setting 'strategy' is {settings.strategy!r} with 'dp'; wanted 'gradient-mean'")
    if settings.time_limit:
        raise SettingsError(
            f"setting 'time_limit' is {settings.time_limit:g} with 'dp', where leaving a slow scan out would show that "
            "it was there; wanted 0"
        )
    if settings.norm == "batch" and settings.norm_policy != "frozen":
        raise SettingsError(
            "setting 'norm' is 'batch' with 'dp', and its statistics have no noise; wanted 'group' or 'none', or "
            "'norm_policy' frozen"
        )
