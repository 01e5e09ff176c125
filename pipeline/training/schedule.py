"""Learning rate over the steps of a phase, and when validation says that enough is enough. Pure functions, so resuming changes nothing."""

import math
from collections.abc import Sequence

from pipeline.params import Train


def linear_rate(step: int, steps: int, decay_from: float, first: float, last: float = 0.0) -> float:
    """`first` until the share `decay_from` of `steps`, then a line that reaches `last` at `steps` (arXiv 1703.10593, section 7.1)."""
    start = decay_from * steps
    if step < start:
        return first
    return last + (first - last) * max(0.0, (steps - step) / max(1.0, steps - start))


def scheduled_rate(step: int, steps: int, train: Train, scores: Sequence[float]) -> float:
    """The learning rate of `step` in the unpaired phase by `train.schedule`; `scores` are its validations so far, lower is better."""
    if train.schedule == "plateau":
        return train.learning_rate * train.decay_factor ** count_falls(scores, train.patience)
    left = linear_rate(step, steps, train.decay_from, 1.0)
    if train.schedule == "step":
        return train.learning_rate * train.decay_factor ** (0 if step < train.decay_from * steps else 1 if left > 0.5 else 2)
    if train.schedule == "cosine":
        return train.learning_rate * (1 - math.cos(math.pi * left)) / 2
    return linear_rate(step, steps, train.decay_from, train.learning_rate)


def count_falls(scores: Sequence[float], patience: int) -> int:
    """How often `patience` validations in a row brought nothing better."""
    best, waited, count = math.inf, 0, 0
    for score in scores:
        waited = 0 if score < best else waited + 1
        best = min(best, score)
        if waited == patience:
            waited, count = 0, count + 1
    return count


def is_exhausted(scores: Sequence[float], patience: int) -> bool:
    """Whether the best score lies `patience` validations back; never for 0."""
    return bool(patience) and len(scores) - 1 - min(range(len(scores)), key=scores.__getitem__, default=0) >= patience
