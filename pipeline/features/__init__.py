"""Pictures and sentences in, numbers out: encoders, tags, stores, indices, retrieval."""
