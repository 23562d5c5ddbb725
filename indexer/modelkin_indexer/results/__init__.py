"""What the indexer yields: all that the registry may see of it."""
