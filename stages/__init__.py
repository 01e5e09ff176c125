"""The seven stages of dvc.yaml, one file each."""

import gc
import os

gc.set_threshold(100_000, 50, 50)  # imports make a million objects that stay; looking through them for garbage is a fifth of their time
# Threads of torch that wait for each other sleep instead of spinning: on a busy machine, a training with two was many times slower than
# with one. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
