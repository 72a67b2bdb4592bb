"""What all else stands on: errors, files, parameters, paths, progress, resumption, devices. Nothing here decides an artefact's bytes."""
