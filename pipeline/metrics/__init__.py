"""Scores of generated captions: pure functions from captions or features to figures, without files or models."""
