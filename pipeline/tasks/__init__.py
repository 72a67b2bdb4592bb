"""Tasks: what is asked about a picture, and how the answers are scored."""
