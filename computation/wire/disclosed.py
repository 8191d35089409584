"""What leaves a node, field by field and file by file, and what each tells of those whose scans they are.

Nothing reads messages by this table: it is for people. A test holds it against the messages themselves, so that none
gains a field that is not told here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from computation.wire.payload import PREFIX

__all__ = ["ENVELOPE", "EVALUATION", "FILES", "MESSAGES", "meaning", "message_of", "parts"]

#: Of every message, or of every one of the centre's.
ENVELOPE: dict[str, str] = {
    "protocol": "version of the protocol; nothing of anybody",
    "phase": "which message it is",
    "jump_to_next": "that a phase ends, for the library between",
    "files": "digests of the files that go with it; nothing that these do not tell",
    "signature": "that its sender signed it in this run; nothing of anybody",
}

#: Voxel counts of one model over one split of one site, of `min_scans` scans or more.
EVALUATION: dict[str, str] = {
    "round": "which model was counted with",
    "intersection": "voxels of each class in prediction and truth, summed over the scans",
    "predicted": "voxels of each class in the prediction, summed over the scans",
    "truth": "voxels of each class in the truth: the tissue volumes of these people together",
    "scans": "how many scans were counted",
}

_MAY_VALIDATE = "of splits of at least min_scans labelled scans; 0 of smaller ones"

#: By what each is called in errors, in the order in which they are sent.
MESSAGES: dict[str, dict[str, str]] = {
    "join message": {
        "settings": "what the owner set, as this site was told it; the member's own settings stay",
        "classes": "label names in the database",
        "scans": "number of scans in train, valid and test",
        "labelled": f"number of labelled scans in valid and test, {_MAY_VALIDATE}",
        "voxels": f"voxels of their grids, {_MAY_VALIDATE}",
        "steps": "training scans again, in batches",
        "preparation": "normalisation, voxel size, grid, axes, whether heads are stripped; 'several' if they differ",
        "device": "cpu or cuda",
        "versions": "versions of Python, PyTorch, NumPy and this software",
        "masking_key": "public key of this run under secure_aggregation, else empty; nothing of anybody",
        "key": "public key with which the site signs; the same in its other runs where a key file is named",
        "nonce": "random; nothing of anybody",
    },
    "plan": {
        "run": "name of the run",
        "rounds": "rounds to come, which follow from the largest site's training scans",
        "sites": "ids of all sites, to all sites",
        "manifest": "digest of the network's shapes",
        "model": "digest of the model to start from",
        "notes": "allowed differences between sites, to all sites: versions, devices, preparation, who has few scans",
        "evaluators": "ids of sites without a training scan",
        "batches": "batches of each site in a round, to all sites: in proportion to its training scans, or all equal",
        "masking": "that updates are not masked",
        "masking.keys": "public keys of the sites that mask, to all sites; nothing of anybody",
        "masking.weights": "number of training scans of each site, or one, to all sites",
        "centre": "public key with which the centre signs",
        "keys": "public keys of all sites, to all sites",
        "said": "digests of what each site said at the join, to all sites; its nonce keeps others from trying words",
    },
    "contribution": {
        "round": "which round it is",
        "status": "ok, skipped or evaluates",
        "reason": "one of a few fixed words",
        "samples": "sub-volumes behind the contribution",
        "loss": "mean loss over them: with few scans it tells how well the model knows these people; not under dp, and "
        "with secure_aggregation in the sum alone",
        "model": "digest of the common model",
        "unreadable": "how many scans of the round could not be read",
        "seconds": "time that the site spent",
        "validation": "that this is no round of validation, or this site has no counts for it",
        **{f"validation.{name}": text for name, text in EVALUATION.items()},
        "masked": "that the contribution is not masked",
        "masked.shares": "shares of this round's own mask, each sealed for one other site: nothing to the centre",
        "masked.marks": "digests by which the shares are known again; nothing of anybody",
    },
    "verdict": {
        "round": "which round it closes",
        "void": "that nothing was applied",
        "counted": "ids of the sites that count, to all sites",
        "skipped": "ids of the sites that do not, and why, in fixed words or as the centre refused them",
        "loss": "weighted mean loss; of two sites, each knows the other's",
        "model": "digest of the model after the round",
        "validated": "whose model the Dice is of",
        "dice": "Dice of each class over all sites' validation scans together",
        "best": "round of the best model",
        "last": "that training ends",
        "missing": "ids of sites that are not whole in a validation, and how many scans are wanting",
        "stop": "why it ends early, one of a few fixed words",
        "clipped": "ids of the sites whose update was scaled down",
    },
    "word on the masks": {
        "round": "which round it is",
        "there": "ids of the sites in the sum, to all of them",
        "shares": "the sealed shares, each to the site that can open it",
    },
    "answer on the masks": {
        "round": "which round it is",
        "model": "digest of the common model",
        "shares": "shares of the own masks of the sites in the sum: with enough of them the sum, and no single term",
        "seeds": "of masks in common with the sites that are missing from the sum",
        "closed": "ids of sites whose share could not be opened",
    },
    "finishing message": {
        "step": "evaluated or done",
        "model": "digest of the final model",
        "evaluations": "that this site has no counts for it",
        **{
            f"evaluations.{split}.{name}": f"{split}: {text}"
            for split in ("valid", "test")
            for name, text in EVALUATION.items()
        },
    },
    "results": {
        "rounds": "rounds that were run",
        "final": "digest of the final model",
        "best": "round of the best model",
        "best_model": "digest of the best model",
        "dice": "Dice of each class over all sites' validation scans together",
        "test_dice": "the same over their test scans",
        "missing": "ids of sites that are not whole in it, and how many scans are wanting",
        "test_missing": "the same of the test scans",
        "chosen": "whether a validation chose the best model",
        "stop": "why it ended early, one of a few fixed words",
    },
    "summary": {
        "rounds": "rounds that were run",
        "stopped": "why it ended early",
        "describes": "which model each number is of",
        "foreground_dice": "mean Dice over all sites' validation scans together",
        "dice": "Dice of each class, pooled and of each site by its id, to all sites and the platform's store",
        "not_in_dice": "ids of sites that are not whole in it, and how many scans are wanting",
        "best_round": "round of the best model",
        "best_foreground_dice": "its pooled Dice",
        "test_foreground_dice": "mean Dice over all sites' test scans together",
        "test_dice": "Dice of each class, pooled",
        "not_in_test_dice": "as not_in_dice",
        "model": "the architecture's name",
        "strategy": "the strategy's name",
        "model_digest": "digest of the final model",
        "sites": "of each site: digest, number of scans in train, valid and test, rounds in which it counted",
    },
}

#: By the file's name, without the prefix and the ending that all have.
FILES: dict[str, str] = {
    "contribution": "this site's gradient or model of the round: scans can be guessed from it, and who trained it; "
    "under dp within epsilon, under secure_aggregation in the sum alone",
    "initial": "the trained model that the owner named and this site brought",
    "model": "the model to start from",
    "combination": "the sites' weighted mean; of two sites, each knows the other's contribution",
    "final": "the final model: whoever has it can ask whether somebody's scan was learnt from",
    "best": "the best model: as the final one",
}

_KINDS = {
    ("local", "join"): "join message",
    ("remote", "plan"): "plan",
    ("local", "train"): "contribution",
    ("remote", "train"): "verdict",
    ("remote", "unmask"): "word on the masks",
    ("local", "unmask"): "answer on the masks",
    ("local", "finish"): "finishing message",
    ("remote", "finish"): "results",
    ("remote", ""): "summary",
}
#: Fields that hold records, whose fields are told one by one, and how deep these lie.
_RECORDS = {"validation": 1, "evaluations": 2, "masking": 1, "masked": 1}


def message_of(mode: str, message: Mapping[str, Any]) -> str:
    """Return what a message that leaves a node is called; the node is `local` or `remote`."""
    return _KINDS.get((mode, str(message.get("phase", ""))), "unknown")


def parts(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message's values by the names that this table has for them."""
    return {name: value for key, item in message.items() for name, value in _opened(key, item, _RECORDS.get(key, 0))}


def _opened(name: str, value: Any, deep: int) -> list[tuple[str, Any]]:
    if not (deep and isinstance(value, Mapping) and value):
        return [(name, value)]
    return [pair for key, item in value.items() for pair in _opened(f"{name}.{key}", item, deep - 1)]


def meaning(message: str, name: str) -> str:
    """Return what a field of a message tells, or a file beside it; empty if this table does not know it."""
    if name.startswith(PREFIX):
        return FILES.get(name.removeprefix(PREFIX).partition(".")[0], "")
    return MESSAGES.get(message, {}).get(name) or ENVELOPE.get(name, "")
