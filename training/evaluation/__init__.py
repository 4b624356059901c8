"""The paper's measurements, a file for each."""
