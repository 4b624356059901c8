"""The commands of `dcgan`, one file each."""
