"""The paper's ablations (arXiv:2605.05699) on any model: which rotation, which scales, learned or not."""
