"""What a bundle of evidence says, in the forms that others' tools read; each no stronger than the answer."""
