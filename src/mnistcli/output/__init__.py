"""Render results for people and for scripts."""
