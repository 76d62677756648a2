"""Results become pictures: composed from arrays, drawn by matplotlib or as text in a terminal.

Matplotlib is imported inside functions only, and not at all for the terminal.
"""
