"""Compute what is known of a model's predictions."""
