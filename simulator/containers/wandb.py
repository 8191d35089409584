"""What a site's container needs from the caller's environment to log to Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

__all__ = ["variables"]

_NAMES = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE")


def variables(inputs: Mapping[str, Any], given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that a site's container gets: none but where the site asked to log online.

    Offline runs need no key, and whoever may ask the engine about a container sees its environment.

    Parameters
    ----------
    inputs : mapping
        The site's inputs.
    given : mapping of str
        The caller's environment.
    """
    wish = inputs.get("wandb")
    if not isinstance(wish, Mapping) or wish.get("mode") != "online":
        return {}
    return {name: given[name] for name in _NAMES if given.get(name)}
