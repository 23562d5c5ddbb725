"""What the kinds of adapter do to a weight: one file for each way, and what they stand on."""
