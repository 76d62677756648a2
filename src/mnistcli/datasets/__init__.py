"""The data sets: one file each, one for finding and verifying files, one registry."""
