"""Use of a trained model: slice or volume in, the same geometry out."""
