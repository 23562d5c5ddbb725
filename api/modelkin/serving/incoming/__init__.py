"""What comes in: checked, bounded, read, or refused with the reason."""
