"""Fetching images by URL: politely, from public addresses alone, and with a row for every URL."""
