"""A run and what became of it as one HTML page: no network, no script, no matplotlib.

The charts are a few dozen lines of SVG written here, for three reasons. A report has to work in a
plain install, without the extra `plots`. Inline SVG takes its colours from the page's style, so
that one file is right in light and in dark, where a picture of matplotlib's has one background.
And it stays text: kilobytes, sharp at every size, its numbers readable by assistive technology.
A confusion matrix is a table, so it is one; mistakes are photographs, so they are PNG.

Everything that comes from a checkpoint passes `markup.tag`, which escapes what is no markup of
ours; the page's own policy forbids scripts and requests besides.
"""
