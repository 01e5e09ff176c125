"""The training loop: speed, checkpoints, schedules."""
