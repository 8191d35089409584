"""The settings, each declared once: what the owner sets for all, and each member for itself."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from computation.settings.option import Option, choice, flag, number, setting, whole
from computation.settings.values import (
    check_classes,
    check_csv,
    check_device,
    check_files,
    check_initial,
    check_patch,
    check_wandb,
    check_weights,
)

__all__ = ["MODELS", "RULES", "SITE", "USUAL_BATCHES", "Member", "Settings", "differences", "options"]

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

#: Rules by which contributions become one; `computation.strategies.rules` holds them.
RULES = ("mean", "median", "trimmed-mean", "geometric-median", "centred-clipping", "krum", "multi-krum")

#: The largest count that any whole-number setting may have: anything above is a typing error.
_MANY = 1_000_000

#: What training needs, however few scans a site has: where a run of the defaults at 1 mm ends (docs/recipe.md).
USUAL_BATCHES = 3_000

_MODEL, _TRAINING, _FEDERATION, SITE = "Model", "Training", "Federation", "This site"
_PRIVACY = "Privacy"


@dataclass(frozen=True)
class Settings:
    """What the owner sets once and every site must share.

    Raises
    ------
    SettingsError
        From `parse`, when a value is of the wrong type or out of range.
    """

    model: str = choice(
        "meshnet-10x8",
        MODELS,
        _MODEL,
        "Architecture: layers, with the last, 1x1x1 one, x channels; the published 11x ones have ten layers.",
    )
    classes: tuple[str, ...] = setting(
        ("background", "white matter", "grey matter"),
        Option(check_classes, "object", "Label names in the order of their values; the first is background.", _MODEL),
    )
    norm: str = choice(
        "group",
        ("group", "batch", "none", "published"),
        _MODEL,
        "Normalisation layer; 'published' is what the architecture's paper used.",
    )
    norm_policy: str = choice(
        "sync",
        ("sync", "local", "frozen"),
        _MODEL,
        "Batch-norm statistics: averaged over sites, kept at each site, or never updated.",
    )
    activation: str = choice(
        "gelu", ("relu", "elu", "gelu", "published"), _MODEL, "Activation; 'published' is the architecture's own."
    )
    dropout: float = number(-1.0, -1, 0.9, _MODEL, "Share of channels dropped; -1 is the architecture's own.")
    initial_model: str = setting(
        "",
        Option(
            check_initial,
            "string",
            "Digest of a trained model to start from, which a site names in 'data'; empty starts from the seed.",
            _MODEL,
        ),
    )

    epochs: int = whole(
        0,
        0,
        _MANY,
        _TRAINING,
        f"Passes over the training scans of the largest site; 0 is as many as make {USUAL_BATCHES:,} batches a site.",
    )
    batch_size: int = whole(1, 1, 1024, _TRAINING, "Sub-volumes in one step.")
    patch_size: tuple[int, int, int] = setting(
        (64, 64, 64),
        Option(
            check_patch,
            "number",
            "Side of a sub-volume in voxels; 0 is the whole volume.",
            _TRAINING,
            low=0,
            high=1024,
        ),
    )
    augmentation: str = choice(
        "none",
        ("none", "usual"),
        _TRAINING,
        "Random flips, small affine changes, contrast, bias field, noise and blur of the training sub-volumes.",
    )
    sampling: str = choice(
        "foreground",
        ("uniform", "foreground", "centre"),
        _TRAINING,
        "Where training sub-volumes are drawn: anywhere, around a foreground voxel, or near the middle.",
    )
    learning_rate: float = number(0.04, 0, 10, _TRAINING, "Peak learning rate of the optimiser.", positive=True)
    schedule: str = choice(
        "one-cycle",
        ("one-cycle", "step", "exponential", "constant"),
        _TRAINING,
        "Course of the learning rate over the rounds.",
    )
    optimizer: str = choice("adamw", ("adamw", "sgd", "rmsprop"), _TRAINING, "Optimiser that every site steps.")
    weight_decay: float = number(3e-5, 0, 1, _TRAINING, "Decoupled weight decay (AdamW) or L2 penalty (others).")
    momentum: float = number(0.9, 0, 0.999, _TRAINING, "Momentum of SGD.")
    loss: str = choice("ce+dice", ("ce+dice", "ce", "dice"), _TRAINING, "Cross-entropy, soft Dice, or their sum.")
    label_smoothing: float = number(0.01, 0, 0.5, _TRAINING, "Label smoothing of the cross-entropy.")
    class_weights: tuple[float, ...] = setting(
        (), Option(check_weights, "object", "Cross-entropy weight of each class; empty is equal.", _TRAINING)
    )
    precision: str = choice(
        "float32", ("float32", "bfloat16", "float64"), _TRAINING, "Arithmetic of the network; bfloat16 is autocast."
    )
    seed: int = whole(0, 0, 2**31 - 1, _TRAINING, "Seed of every random draw.")

    strategy: str = choice(
        "gradient-mean",
        ("gradient-mean", "fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "scaffold"),
        _FEDERATION,
        "Average one gradient a round (gradient-mean), or models after local steps; docs/strategies.md has them all.",
    )
    proximal: float = number(
        0.01, 0, 1000, _FEDERATION, "fedprox: weight of the squared distance to the common model; 0 is fedavg."
    )
    server_rate: float = number(
        0.0,
        0,
        10,
        _FEDERATION,
        "fedavgm, fedadam, fedyogi, fedadagrad: rate of the step to the mean model; 0 is the strategy's own.",
    )
    server_momentum: float = number(
        0.9,
        0,
        0.999,
        _FEDERATION,
        "fedavgm, fedadam, fedyogi, fedadagrad: momentum of the step to the mean model.",
    )
    server_adaptivity: float = number(
        0.001,
        0,
        10,
        _FEDERATION,
        "fedadam, fedyogi, fedadagrad: added to the root of the second moment; more is less adaptive.",
        positive=True,
    )
    local_steps: int = whole(
        1, 1, _MANY, _FEDERATION, "Batches a site works through in a round: accumulated (gradient-mean) or stepped."
    )
    batches: str = choice(
        "by-scans",
        ("by-scans", "equal"),
        _FEDERATION,
        "A site's batches in a round: by its share of the training scans, local_steps on average, so that the mean is "
        "as sharp as one machine's; or local_steps each. fedavg and other weights have the latter.",
    )
    rule: str = choice(
        "mean",
        RULES,
        _FEDERATION,
        "How contributions become one: the weighted mean, or a rule that withstands false ones, with a voice a site.",
    )
    byzantine: int = whole(
        1, 0, 1000, _FEDERATION, "Sites that may send whatever they like, which a rule other than the mean withstands."
    )
    mixing_neighbours: bool = flag(
        False, _FEDERATION, "Replace each contribution by the mean of those nearest to it before the rule."
    )
    clip_norms: bool = flag(False, _FEDERATION, "Cut the longest updates to the length of the next before the rule.")
    weighting: str = choice(
        "scans",
        ("scans", "samples", "equal"),
        _FEDERATION,
        "Weight of a site: its training scans, the sub-volumes of the round, or one.",
    )
    quorum: float = number(
        0.5, 0, 1, _FEDERATION, "Share of sites that must contribute for a round to count.", positive=True
    )
    most_share: float = number(
        0.9, 0, 1, _FEDERATION, "Largest share of one site in a mean, whatever scans it says it has.", positive=True
    )
    clip_above: float = number(
        12.0, 0, 1e6, _FEDERATION, "A site's update so many times the others' is scaled down to that; 0 is no bound."
    )
    refuse_above: float = number(
        30.0, 0, 1e6, _FEDERATION, "A site's update so many times the others' is left out; 0 is no bound."
    )
    suspect_above: float = number(
        6.0, 0, 1e6, _FEDERATION, "Three updates in 16 rounds so many times the others': such are left out; 0 is never."
    )
    opposed_above: float = number(
        4.0,
        0,
        1e6,
        _FEDERATION,
        "Rounds' worth of pointing against the others' updates above which a site's are left out; 0 is no bound.",
    )
    drifted_above: float = number(
        0.0,
        0,
        1e6,
        _FEDERATION,
        "Usual distances of two updates that a site's lie to one side, over rounds: left out; say 0.7, 0 is never.",
    )
    copies: str = choice(
        "refuse",
        ("refuse", "count"),
        _FEDERATION,
        "Updates of nothing, or of values that an earlier round or another site had: leave them out, or count them.",
    )
    exclude_after: int = whole(
        5, 0, _MANY, _FEDERATION, "Rounds in a row of updates left out after which a site is out for good; 0 is never."
    )
    validate_every: int = whole(100, 1, _MANY, _FEDERATION, "Rounds between two validations.")
    patience: int = whole(
        0, 0, _MANY, _FEDERATION, "Validations without a better pooled Dice after which training ends; 0 is never."
    )
    deadline: float = number(
        0.0, 0, 31_536_000, _FEDERATION, "Seconds after which training ends with the model of the round; 0 is no limit."
    )
    time_limit: float = number(
        0.0, 0, 86_400, _FEDERATION, "Seconds after which a site sends what it has of a round; 0 is no limit."
    )
    keep_checkpoints: int = whole(2, 2, 100, _FEDERATION, "Checkpoints that each node keeps.")
    min_scans: int = whole(
        3,
        1,
        1000,
        _FEDERATION,
        "Fewest labelled scans of a split whose voxel counts leave a site; of one person they are tissue volumes.",
    )

    dp: bool = flag(
        False, _PRIVACY, "Differential privacy of each training scan; wants gradient-mean. A batch is then one scan."
    )
    dp_noise: float = number(
        1.0, 0.1, 10_000, _PRIVACY, "Standard deviation of the noise on a site's sum, in units of 'dp_clip'."
    )
    dp_clip: float = number(
        1.0, 0, 1e6, _PRIVACY, "Largest norm of one scan's gradient; a larger one is scaled down to it.", positive=True
    )
    dp_epsilon: float = number(
        8.0, 0, 1000, _PRIVACY, "Epsilon that no site exceeds: the rounds are limited to what it allows.", positive=True
    )
    dp_delta: float = number(
        1e-5, 0, 0.5, _PRIVACY, "Chance that epsilon does not hold; far below one in the training scans.", positive=True
    )
    secure_aggregation: bool = flag(
        False, _PRIVACY, "The centre sees the sum of all sites' updates and no single one; wants three sites or more."
    )
    secure_norm: float = number(
        1000.0, 0, 1e6, _PRIVACY, "Norm to which a site clips its update before it is masked.", positive=True
    )
    secure_least: int = whole(
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

    data: tuple[str, ...] = setting(
        (), Option(check_files, "files", "The site's scan database (SQLite), built with `import`.", SITE)
    )
    data_csv: tuple[str, ...] = setting(
        (),
        Option(
            check_csv, "csv", "For vaults, instead of 'data': a CSV file whose first column names the database.", SITE
        ),
    )
    device: str = setting(
        "auto", Option(check_device, "object", 'Where to compute: "auto", "cpu", "cuda" or "cuda:N".', SITE)
    )
    wandb: dict[str, str] = setting(  # noqa: RUF009 - a dict becomes a default factory
        {},
        Option(
            check_wandb,
            "object",
            "Weights & Biases logging by this site alone: project, entity, name, group, mode; empty is off.",
            SITE,
        ),
    )


def options(record: type[Settings] | type[Member]) -> dict[str, tuple[Any, Option]]:
    """Return the default and the `Option` of each field of a settings record, in declaration order."""
    blank = record()
    return {item.name: (getattr(blank, item.name), item.metadata["option"]) for item in fields(record)}


def differences(one: Settings, other: Settings) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two records differ, with both values."""
    left, right = one.as_json(), other.as_json()
    return {name: (left[name], right[name]) for name in left if left[name] != right[name]}
