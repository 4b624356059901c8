"""Ray and the command line: sources, stages and recipes. Nothing imports this package."""
