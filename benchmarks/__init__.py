"""Scripts that measure; each is run by itself, from anywhere."""
