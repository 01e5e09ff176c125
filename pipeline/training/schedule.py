"""Learning rate: constant, then falling linearly to zero (arXiv 1703.10593, section 7.1)."""


def learning_rate_factor(step: int, steps: int, decay_from: float) -> float:
    """1 until the share `decay_from` of `steps`, then a line that reaches 0 at `steps`."""
    start = decay_from * steps
    if step < start:
        return 1.0
    return max(0.0, (steps - step) / max(1.0, steps - start))
