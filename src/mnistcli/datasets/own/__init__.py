"""Images of one's own: folders of pictures, and .npz files, as large as a disk."""
