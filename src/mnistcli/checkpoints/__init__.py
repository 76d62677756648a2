"""Write and read the .h5 file that holds a run."""
