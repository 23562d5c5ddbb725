"""Tables a person may read and correct: name patterns, backgrounds, the starter registry."""
