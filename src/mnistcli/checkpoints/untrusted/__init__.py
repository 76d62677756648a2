"""Read files of unknown origin: HDF5 in processes with limits, and Keras' JSON strictly."""
