"""Trains the embedded default's models through the real libraries, on the micro-world's foundation pool."""
