"""Near-duplicates: the denoising-autoencoder hash, its search, groups, and its measured error."""
