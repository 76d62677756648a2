"""Turn image files and arrays into the input of a network."""
