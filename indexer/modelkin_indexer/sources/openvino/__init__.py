"""OpenVINO models: a graph in XML, and its constants in a file of bytes beside it."""
