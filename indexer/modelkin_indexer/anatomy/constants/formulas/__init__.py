"""Formulas that give fixed tables back, each with a test on some lines of a table. `anatomy/fixed_tables.py` asks them in turn."""
