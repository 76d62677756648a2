"""The .h5 file: inspect, verify, read, write."""
