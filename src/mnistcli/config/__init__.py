"""YAML, flags and defaults become one frozen `Config`."""
