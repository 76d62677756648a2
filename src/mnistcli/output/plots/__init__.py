"""Describe pictures, and draw them with matplotlib or in a terminal."""
