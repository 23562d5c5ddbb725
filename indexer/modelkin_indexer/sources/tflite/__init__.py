"""TFLite (LiteRT) models, alone and in bundles."""
