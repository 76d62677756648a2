"""Describe networks and run them with NumPy, without TensorFlow."""
