"""The DCGAN: networks, order of samples, the adversarial loop and its checkpoints. Knows nothing of Ray."""
