"""Caption data sets as people have them on disk, turned into a text corpus, references and a list of images."""
