"""Find, read, check and identify data sets."""
