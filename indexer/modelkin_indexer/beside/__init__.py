"""What lies beside the weights and is never evidence: vocabulary, the repository's own code, licence text."""
