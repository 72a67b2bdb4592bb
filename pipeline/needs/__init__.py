"""What methods read: a file per kind of input, with where it lies, its digest, how it is read, how it is made of a picture in memory."""

KINDS = ("text", "image", "frames", "regions", "tagged", "synthetic")
"""What lies in `data/features/<clip>/<kind>`; a system names in its slots those that its method's needs are read from."""
