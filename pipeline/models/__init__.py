"""Networks and losses of CycleGAN; knows only torch."""
