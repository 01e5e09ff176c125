"""Learning rate: constant, then falling linearly (arXiv 1703.10593, section 7.1)."""


def learning_rate(step: int, steps: int, decay_from: float, first: float, last: float = 0.0) -> float:
    """`first` until the share `decay_from` of `steps`, then a line that reaches `last` at `steps`."""
    start = decay_from * steps
    if step < start:
        return first
    return last + (first - last) * max(0.0, (steps - step) / max(1.0, steps - start))
