"""Simulated heads with known truth: the demo's data, and the teacher of the training.

`anatomy` says what is where, `signal` what CT and MR show of it, `damage` what real files do to the pictures.
"""

from pipeline.phantom.damage import render_pair
from pipeline.phantom.heads import Head, simulate, simulate_many, simulate_subject

__all__ = ["Head", "render_pair", "simulate", "simulate_many", "simulate_subject"]
