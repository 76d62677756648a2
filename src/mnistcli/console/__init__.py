"""Results become text: Rich or JSON on stdout, everything else on stderr. Computes nothing."""
