"""CoreML packages: an ML Program, and its weights in a file of blobs."""
