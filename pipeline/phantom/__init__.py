"""Simulated heads with known truth: the demo's data and the training's teacher."""
