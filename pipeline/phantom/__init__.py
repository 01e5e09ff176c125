"""Simulated heads with known truth: the demo's data, and the teacher of the training.

`anatomy` says what is where, `signal` what CT and MR show of it, `damage` what real files do to the pictures.
"""

from pipeline.phantom.damage import as_files_look
from pipeline.phantom.heads import Head, simulate, simulate_many, simulate_subject

__all__ = ["Head", "as_files_look", "simulate", "simulate_many", "simulate_subject"]
