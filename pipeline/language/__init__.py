"""Language models behind a mapper: from a condition to a caption."""
