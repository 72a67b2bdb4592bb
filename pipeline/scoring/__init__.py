"""Captions in files, whoever made them: read, scored as the pipeline's are, and compared."""
