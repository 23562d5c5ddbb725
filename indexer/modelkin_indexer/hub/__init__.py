"""The Hub as sync sees it: which repositories there are, what is in one, and its files on disk for as long as they are read."""
