"""Train, evaluate, use and inspect small Keras classifiers from the shell."""

__version__ = "0.1.0"
