"""Parse checkpoint files of unknown origin in a child process."""
