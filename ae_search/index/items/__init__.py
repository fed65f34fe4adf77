"""What items have besides latents: keys, labels, metadata, thumbnails, and what has changed."""
