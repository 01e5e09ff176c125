"""Simulated heads with known truth: the demo's data, and the teacher of the training.

`anatomy` says what is where, `sequences` and `signal` what MR and CT show of it, `damage` what real files do to the pictures,
`shares` stores a slice so that it can be drawn in any look, `volumes` stacks planes to whole heads in millimetres.
"""

from pipeline.phantom.damage import render_pair
from pipeline.phantom.heads import Head, simulate, simulate_subject
from pipeline.phantom.volumes import SimulatedVolume, simulate_volume

__all__ = ["Head", "SimulatedVolume", "render_pair", "simulate", "simulate_subject", "simulate_volume"]
