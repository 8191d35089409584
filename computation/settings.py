"""What the consortium's owner and each member may set, as one frozen, validated record.

Every input of the computation is declared once, in the two dataclasses below: its default, range and sentence of help
live in the field's metadata. `computation.coinstac.compspec` turns the same declarations into COINSTAC's
`compspec.json`. The platform applies no defaults and checks nothing, so both happen here, at each site, on the first
iteration.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from computation.checks import is_digest, is_number
from computation.errors import SettingsError

__all__ = ["MODELS", "RULES", "USUAL_BATCHES", "Member", "Option", "Settings", "differences", "options", "parse"]

#: Architectures shipped with the computation; `computation.model.architecture` holds one JSON file for each.
MODELS = (
    "meshnet-8x21",
    "meshnet-10x5",
    "meshnet-10x8",
    "meshnet-10x16",
    "meshnet-10x21",
    "meshnet-10x30",
    "meshnet-11x5",
    "meshnet-11x16",
    "meshnet-11x26",
)

#: Rules by which contributions become one; `computation.strategies.rules` holds one file for each.
RULES = ("mean", "median", "trimmed-mean", "geometric-median", "centred-clipping", "krum", "multi-krum")

#: The largest count that any whole-number setting may have: anything above is a typing error.
_MANY = 1_000_000


@dataclass(frozen=True)
class Option:
    """How one setting is checked and shown.

    Attributes
    ----------
    check : callable
        Takes the raw JSON value and returns the clean one, or raises `ValueError` saying what was wanted.
    kind : str
        COINSTAC's input type: `number`, `string`, `select`, `object`, `files`, `csv` or `boolean`.
    help : str
        One sentence for the person who fills the form.
    group : str
        Heading under which the form shows it.
    values : tuple of str
        The choices of a `select`.
    low, high : float or None
        Bounds shown in the form.
    """

    check: Callable[[Any], Any]
    kind: str
    help: str
    group: str
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None


def _option(default: Any, option: Option) -> Any:
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"option": option})
    return field(default=default, metadata={"option": option})


def _choice(default: str, values: tuple[str, ...], group: str, text: str) -> Any:
    def check(value: Any) -> str:
        if isinstance(value, str) and value in values:
            return value
        near = difflib.get_close_matches(str(value), values, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"one of {', '.join(values)}{hint}")

    return _option(default, Option(check, "select", text, group, values=values))


def _whole(default: int, low: int, high: int, group: str, text: str) -> Any:
    def check(value: Any) -> int:
        if is_number(value) and value == int(value) and low <= value <= high:
            return int(value)
        raise ValueError(f"a whole number from {low} to {high}")

    return _option(default, Option(check, "number", text, group, low=low, high=high))


def _number(default: float, low: float, high: float, group: str, text: str, *, positive: bool = False) -> Any:
    def check(value: Any) -> float:
        if is_number(value) and low <= value <= high and not (positive and value == 0):
            return float(value)
        wanted = f"a number above {low:g} and at most {high:g}" if positive else f"a number from {low:g} to {high:g}"
        if is_number(value) and value == 0:
            wanted += "; the COINSTAC app cuts a member's decimals to whole numbers, so let the owner set it"
        raise ValueError(wanted)

    return _option(default, Option(check, "number", text, group, low=low, high=high))


def _flag(default: bool, group: str, text: str) -> Any:
    def check(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError("true or false")

    return _option(default, Option(check, "boolean", text, group))


def _check_classes(value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, list | tuple) else ()
    clean = all(isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable() for name in names)
    if not clean or not 2 <= len(names) <= 256 or len(set(names)) != len(names):
        raise ValueError("a list of 2 to 256 different label names, the first of which is the background")
    return names


def _check_initial(value: Any) -> str:
    if value == "" or is_digest(value):
        return str(value)
    raise ValueError("the digest in an exported model's JSON, 64 hexadecimal digits, or an empty text")


def _check_patch(value: Any) -> tuple[int, int, int]:
    sides = (value,) * 3 if is_number(value) else tuple(value) if isinstance(value, list | tuple) else ()
    if len(sides) == 3 and all(is_number(side) and side == int(side) and 0 <= side <= 1024 for side in sides):
        clean = (int(sides[0]), int(sides[1]), int(sides[2]))
        if clean == (0, 0, 0) or min(clean) >= 4:
            return clean
    raise ValueError("one side or three sides of 4 to 1024 voxels, or 0 for the whole volume")


def _check_weights(value: Any) -> tuple[float, ...]:
    weights = tuple(value) if isinstance(value, list | tuple) else (None,)
    if all(is_number(weight) and 0 <= weight <= 1000 for weight in weights) and (not weights or sum(weights) > 0):
        return tuple(float(weight) for weight in weights)
    raise ValueError("a list with one weight from 0 to 1000 for each class, or an empty list for equal weights")


def _check_files(value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, list | tuple) else ()
    if all(isinstance(name, str) and name and "\0" not in name for name in names) and isinstance(value, list | tuple):
        return names
    raise ValueError("a list of file names")


def _check_csv(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict) and all(isinstance(name, str) and name and "\0" not in name for name in value):
        return tuple(sorted(value))
    raise ValueError("an object whose keys are file names, as COINSTAC makes it from a CSV file")


_DEVICE = re.compile(r"auto|cpu|cuda(:(0|[1-9][0-9]?))?")


def _check_device(value: Any) -> str:
    name = value.get("device", "") if isinstance(value, dict) else value
    if isinstance(name, str) and _DEVICE.fullmatch(name):
        return name
    raise ValueError('"auto", "cpu", "cuda" or "cuda:N"')


def _check_wandb(value: Any) -> dict[str, str]:
    allowed = ("project", "entity", "name", "group", "mode", "api_key")
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError(f"an object of texts with any of {', '.join(allowed)}, or an empty object for off")
    unknown = sorted(set(value) - set(allowed))
    if unknown or value.get("mode", "offline") not in ("offline", "online"):
        raise ValueError(f"an object with any of {', '.join(allowed)}; mode is offline or online")
    return dict(value)


#: What training needs, however few scans a site has: where a run of the defaults at 1 mm ends (docs/recipe.md).
USUAL_BATCHES = 3_000

_MODEL, _TRAINING, _FEDERATION, _SITE = "Model", "Training", "Federation", "This site"
_PRIVACY = "Privacy"


@dataclass(frozen=True)
class Settings:
    """What the owner sets once and every site must share.

    Raises
    ------
    SettingsError
        From `parse`, when a value is of the wrong type or out of range.
    """

    model: str = _choice(
        "meshnet-10x8",
        MODELS,
        _MODEL,
        "Architecture: layers, with the last, 1x1x1 one, x channels; the published 11x ones have ten layers.",
    )
    classes: tuple[str, ...] = _option(
        ("background", "white matter", "grey matter"),
        Option(_check_classes, "object", "Label names in the order of their values; the first is background.", _MODEL),
    )
    norm: str = _choice(
        "group",
        ("group", "batch", "none", "published"),
        _MODEL,
        "Normalisation layer; 'published' is what the architecture's paper used.",
    )
    norm_policy: str = _choice(
        "sync",
        ("sync", "local", "frozen"),
        _MODEL,
        "Batch-norm statistics: averaged over sites, kept at each site, or never updated.",
    )
    activation: str = _choice(
        "gelu", ("relu", "elu", "gelu", "published"), _MODEL, "Activation; 'published' is the architecture's own."
    )
    dropout: float = _number(-1.0, -1, 0.9, _MODEL, "Share of channels dropped; -1 is the architecture's own.")
    initial_model: str = _option(
        "",
        Option(
            _check_initial,
            "string",
            "Digest of a trained model to start from, which a site names in 'data'; empty starts from the seed.",
            _MODEL,
        ),
    )

    epochs: int = _whole(
        0,
        0,
        _MANY,
        _TRAINING,
        f"Passes over the training scans of the largest site; 0 is as many as make {USUAL_BATCHES:,} batches a site.",
    )
    batch_size: int = _whole(1, 1, 1024, _TRAINING, "Sub-volumes in one step.")
    patch_size: tuple[int, int, int] = _option(
        (64, 64, 64),
        Option(
            _check_patch,
            "number",
            "Side of a sub-volume in voxels; 0 is the whole volume.",
            _TRAINING,
            low=0,
            high=1024,
        ),
    )
    augmentation: str = _choice(
        "none",
        ("none", "usual"),
        _TRAINING,
        "Random flips, small affine changes, contrast, bias field, noise and blur of the training sub-volumes.",
    )
    sampling: str = _choice(
        "foreground",
        ("uniform", "foreground", "centre"),
        _TRAINING,
        "Where training sub-volumes are drawn: anywhere, around a foreground voxel, or near the middle.",
    )
    learning_rate: float = _number(0.04, 0, 10, _TRAINING, "Peak learning rate of the optimiser.", positive=True)
    schedule: str = _choice(
        "one-cycle",
        ("one-cycle", "step", "exponential", "constant"),
        _TRAINING,
        "Course of the learning rate over the rounds.",
    )
    optimizer: str = _choice("adamw", ("adamw", "sgd", "rmsprop"), _TRAINING, "Optimiser that every site steps.")
    weight_decay: float = _number(3e-5, 0, 1, _TRAINING, "Decoupled weight decay (AdamW) or L2 penalty (others).")
    momentum: float = _number(0.9, 0, 0.999, _TRAINING, "Momentum of SGD.")
    loss: str = _choice("ce+dice", ("ce+dice", "ce", "dice"), _TRAINING, "Cross-entropy, soft Dice, or their sum.")
    label_smoothing: float = _number(0.01, 0, 0.5, _TRAINING, "Label smoothing of the cross-entropy.")
    class_weights: tuple[float, ...] = _option(
        (), Option(_check_weights, "object", "Cross-entropy weight of each class; empty is equal.", _TRAINING)
    )
    precision: str = _choice(
        "float32", ("float32", "bfloat16", "float64"), _TRAINING, "Arithmetic of the network; bfloat16 is autocast."
    )
    seed: int = _whole(0, 0, 2**31 - 1, _TRAINING, "Seed of every random draw.")

    strategy: str = _choice(
        "gradient-mean",
        ("gradient-mean", "fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "scaffold"),
        _FEDERATION,
        "Average one gradient a round (gradient-mean), or models after local steps; docs/strategies.md has them all.",
    )
    proximal: float = _number(
        0.01, 0, 1000, _FEDERATION, "fedprox: weight of the squared distance to the common model; 0 is fedavg."
    )
    server_rate: float = _number(
        0.0,
        0,
        10,
        _FEDERATION,
        "fedavgm, fedadam, fedyogi, fedadagrad: rate of the step to the mean model; 0 is the strategy's own.",
    )
    server_momentum: float = _number(
        0.9,
        0,
        0.999,
        _FEDERATION,
        "fedavgm, fedadam, fedyogi, fedadagrad: momentum of the step to the mean model.",
    )
    server_adaptivity: float = _number(
        0.001,
        0,
        10,
        _FEDERATION,
        "fedadam, fedyogi, fedadagrad: added to the root of the second moment; more is less adaptive.",
        positive=True,
    )
    local_steps: int = _whole(
        1, 1, _MANY, _FEDERATION, "Batches a site works through in a round: accumulated (gradient-mean) or stepped."
    )
    batches: str = _choice(
        "by-scans",
        ("by-scans", "equal"),
        _FEDERATION,
        "A site's batches in a round: by its share of the training scans, local_steps on average, so that the mean is "
        "as sharp as one machine's; or local_steps each. fedavg and other weights have the latter.",
    )
    rule: str = _choice(
        "mean",
        RULES,
        _FEDERATION,
        "How contributions become one: the weighted mean, or a rule that withstands false ones, with a voice a site.",
    )
    byzantine: int = _whole(
        1, 0, 1000, _FEDERATION, "Sites that may send whatever they like, which a rule other than the mean withstands."
    )
    mixing_neighbours: bool = _flag(
        False, _FEDERATION, "Replace each contribution by the mean of those nearest to it before the rule."
    )
    clip_norms: bool = _flag(False, _FEDERATION, "Cut the longest updates to the length of the next before the rule.")
    weighting: str = _choice(
        "scans",
        ("scans", "samples", "equal"),
        _FEDERATION,
        "Weight of a site: its training scans, the sub-volumes of the round, or one.",
    )
    quorum: float = _number(
        0.5, 0, 1, _FEDERATION, "Share of sites that must contribute for a round to count.", positive=True
    )
    most_share: float = _number(
        0.9, 0, 1, _FEDERATION, "Largest share of one site in a mean, whatever scans it says it has.", positive=True
    )
    clip_above: float = _number(
        12.0, 0, 1e6, _FEDERATION, "A site's update so many times the others' is scaled down to that; 0 is no bound."
    )
    refuse_above: float = _number(
        30.0, 0, 1e6, _FEDERATION, "A site's update so many times the others' is left out; 0 is no bound."
    )
    suspect_above: float = _number(
        6.0, 0, 1e6, _FEDERATION, "Three updates in 16 rounds so many times the others': such are left out; 0 is never."
    )
    opposed_above: float = _number(
        4.0,
        0,
        1e6,
        _FEDERATION,
        "Rounds' worth of pointing against the others' updates above which a site's are left out; 0 is no bound.",
    )
    copies: str = _choice(
        "refuse",
        ("refuse", "count"),
        _FEDERATION,
        "Updates of nothing, or of values that an earlier round or another site had: leave them out, or count them.",
    )
    exclude_after: int = _whole(
        5, 0, _MANY, _FEDERATION, "Rounds in a row of updates left out after which a site is out for good; 0 is never."
    )
    validate_every: int = _whole(100, 1, _MANY, _FEDERATION, "Rounds between two validations.")
    patience: int = _whole(
        0, 0, _MANY, _FEDERATION, "Validations without a better pooled Dice after which training ends; 0 is never."
    )
    deadline: float = _number(
        0.0, 0, 31_536_000, _FEDERATION, "Seconds after which training ends with the model of the round; 0 is no limit."
    )
    time_limit: float = _number(
        0.0, 0, 86_400, _FEDERATION, "Seconds after which a site sends what it has of a round; 0 is no limit."
    )
    keep_checkpoints: int = _whole(2, 2, 100, _FEDERATION, "Checkpoints that each node keeps.")
    min_scans: int = _whole(
        3,
        1,
        1000,
        _FEDERATION,
        "Fewest labelled scans of a split whose voxel counts leave a site; of one person they are tissue volumes.",
    )

    dp: bool = _flag(
        False, _PRIVACY, "Differential privacy of each training scan; wants gradient-mean. A batch is then one scan."
    )
    dp_noise: float = _number(
        1.0, 0.1, 10_000, _PRIVACY, "Standard deviation of the noise on a site's sum, in units of 'dp_clip'."
    )
    dp_clip: float = _number(
        1.0, 0, 1e6, _PRIVACY, "Largest norm of one scan's gradient; a larger one is scaled down to it.", positive=True
    )
    dp_epsilon: float = _number(
        8.0, 0, 1000, _PRIVACY, "Epsilon that no site exceeds: the rounds are limited to what it allows.", positive=True
    )
    dp_delta: float = _number(
        1e-5, 0, 0.5, _PRIVACY, "Chance that epsilon does not hold; far below one in the training scans.", positive=True
    )
    secure_aggregation: bool = _flag(
        False, _PRIVACY, "The centre sees the sum of all sites' updates and no single one; wants three sites or more."
    )
    secure_norm: float = _number(
        1000.0, 0, 1e6, _PRIVACY, "Norm to which a site clips its update before it is masked.", positive=True
    )
    secure_least: int = _whole(
        0, 0, 1000, _PRIVACY, "Fewest sites in a masked sum, from 3; 0 is more than half of all, and 3 at least."
    )

    @property
    def whole_volume(self) -> bool:
        """Whether a sample is a whole scan."""
        return self.patch_size == (0, 0, 0)

    @property
    def scans_a_batch(self) -> int:
        """Scans behind one batch: under `dp` all its sub-volumes are of one scan, else each is of another."""
        return 1 if self.dp else self.batch_size

    @property
    def one_voice(self) -> bool:
        """Whether each site has one voice in a round, whatever it says it has: so it is but in the weighted mean."""
        return self.rule != "mean" or self.clip_norms

    @property
    def usual_rounds(self) -> int:
        """Rounds of a run whose epochs are left open."""
        return math.ceil(USUAL_BATCHES / self.local_steps)

    def as_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, in declaration order."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Member:
    """What one site sets for itself; it never leaves the site."""

    data: tuple[str, ...] = _option(
        (), Option(_check_files, "files", "The site's scan database (SQLite), built with `import`.", _SITE)
    )
    data_csv: tuple[str, ...] = _option(
        (),
        Option(
            _check_csv, "csv", "For vaults, instead of 'data': a CSV file whose first column names the database.", _SITE
        ),
    )
    device: str = _option(
        "auto", Option(_check_device, "object", 'Where to compute: "auto", "cpu", "cuda" or "cuda:N".', _SITE)
    )
    wandb: dict[str, str] = _option(  # noqa: RUF009 - a dict becomes a default factory
        {},
        Option(
            _check_wandb,
            "object",
            "Weights & Biases logging by this site alone: project, entity, name, group, mode; empty is off.",
            _SITE,
        ),
    )


def options(record: type[Settings] | type[Member]) -> dict[str, tuple[Any, Option]]:
    """Return the default and the `Option` of each field of a settings record, in declaration order."""
    blank = record()
    return {item.name: (getattr(blank, item.name), item.metadata["option"]) for item in fields(record)}


def parse(inputs: Mapping[str, Any]) -> tuple[Settings, Member]:
    """Turn a site's raw inputs into the owner's and the member's settings.

    Parameters
    ----------
    inputs : mapping
        COINSTAC's `input` of the first iteration: one JSON value for each variable; missing ones take their default.

    Returns
    -------
    tuple of Settings and Member

    Raises
    ------
    SettingsError
        If a key is unknown, or a value is of the wrong type or out of range.
    """
    owner, member = options(Settings), options(Member)
    for name in inputs:
        if name not in owner and name not in member:
            near = difflib.get_close_matches(str(name), [*owner, *member], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(
                f"unknown setting {str(name)[:40]!r}{hint} (`coinstac-meshnet settings` lists them all)"
            )
    settings = Settings(
        **{name: _clean(name, inputs[name], option) for name, (_, option) in owner.items() if name in inputs}
    )
    _check_together(settings)
    return settings, Member(
        **{name: _clean(name, inputs[name], option) for name, (_, option) in member.items() if name in inputs}
    )


_KINDS = {str: "a text", list: "a list", dict: "an object", bool: "true or false", type(None): "null"}


def _clean(name: str, value: Any, option: Option) -> Any:
    try:
        return option.check(value)
    except ValueError as wanted:
        # All sites read this, and what a member typed may be a path, or a key in the wrong place.
        private = option.group == _SITE or isinstance(value, dict)
        shown = _KINDS.get(type(value), "a number") if private else repr(value)[:60]
        raise SettingsError(f"setting {name!r} is {shown}; wanted {wanted}") from None


_STEPPING = ("fedavgm", "fedadam", "fedyogi", "fedadagrad")
#: Settings that mean something under these strategies only.
_ONLY_UNDER = {
    "proximal": ("fedprox",),
    "server_rate": _STEPPING,
    "server_momentum": _STEPPING,
    "server_adaptivity": _STEPPING[1:],
}
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
        value, usual = getattr(settings, name), getattr(Settings(), name)
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
    if settings.byzantine != Settings().byzantine and not settings.one_voice:
        raise SettingsError(
            f"setting 'byzantine' is {settings.byzantine} and has no effect with rule 'mean'; wanted another 'rule'"
        )
    if settings.weighting == "samples" and settings.one_voice:
        raise SettingsError(
            "setting 'weighting' is 'samples' with a rule by which each site has one voice; wanted 'scans' or 'equal', "
            "which here are one"
        )


def _check_together(settings: Settings) -> None:
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


#: Settings that mean something under `dp` alone.
_PRIVATE = ("dp_noise", "dp_clip", "dp_epsilon", "dp_delta")


def differences(one: Settings, other: Settings) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two records differ, with both values."""
    left, right = one.as_json(), other.as_json()
    return {name: (left[name], right[name]) for name in left if left[name] != right[name]}
