"""Turn image files and arrays into network input."""
