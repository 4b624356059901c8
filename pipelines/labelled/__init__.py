"""Pictures of which something is known, to measure with: their class, their attributes, or where things are in them.

They are read whole into memory, apart from any run: what is measured on them is never trained on by accident.
"""
