"""Forms of quantisation that one library writes, one file each; all are listed in ../schemes.py."""
