"""What has to become of a case."""

REFUSED = "refused at opening"
LATE = "refused on reading"  # its header is sound, and only its values show what is wrong
NOTED = "read"  # what publishers really write: it is read, and what is no tensor or no finite number is left out and told
