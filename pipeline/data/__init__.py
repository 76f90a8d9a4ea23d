"""What is read and kept: manifests and the files they name, normalisation, the files of a run and what they are of."""
