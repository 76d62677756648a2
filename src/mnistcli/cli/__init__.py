"""Declare what is typed: one file per command, one call into `commands`, one into `output`."""
