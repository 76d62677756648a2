"""Train networks with Keras and TensorFlow."""
