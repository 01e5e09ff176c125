"""Networks and losses of CycleGAN; knows torch, params and the domain."""
