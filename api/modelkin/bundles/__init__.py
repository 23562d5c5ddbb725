"""Evidence that others can check: one file with the fingerprints of a comparison, the answer, and what it was judged by."""
