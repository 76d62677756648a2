"""Checkpoints: Keras whole-model .h5 files that carry the run they came from, sealed.

`reading` and `writing` are the two doors; `record` says what is kept of a run; `seal` is the
trailing line; `child` is the process that parses other people's bytes, `contents` what it says of
them; `model_config` reads Keras' descriptions of networks.
"""
